/** Results as MessagePack: by msgpackr. */
import type { Codec } from '../codec.js';
import { afterHeader, headerOf } from '../codec-header.js';
import { InvalidOptionError } from '../errors.js';
import { discreetly } from './layer.js';
import { checkLibrary } from './library.js';

/** What `messagePack` needs of a `Packr`. Other libraries fit as `{ pack: encode, unpack: decode }`. */
export interface MessagePackLibrary {
  pack(value: unknown): Uint8Array;
  unpack(bytes: Buffer): unknown;
}

const HEADER = headerOf('messagePack');
/** No record of a caller's has it: it shows whether names are in the bytes, or kept elsewhere. */
const PROBE = 'redis-once: a name to look for';

/**
 * Stores results as MessagePack: smaller and faster than JSON where results are large or full of bytes and numbers. Callers get
 * the handler's own type; which types come back as they are is for the Packr's options to say.
 *
 * @param packr a `Packr` of msgpackr; `redis-once` does not import it
 * @throws InvalidOptionError where it is something else, or keeps the names of properties elsewhere than in the bytes
 * (`structures`, `getStructures`): another process could not read them
 * @example
 * ```ts
 * import { Packr } from 'msgpackr';
 * import { messagePack } from 'redis-once/codecs';
 *
 * const scans = dedup.with({ codec: messagePack(new Packr({ moreTypes: true })) });
 * const { image } = await scans.once(id, () => ({ image: Buffer.alloc(16) })); // a Buffer, for every caller
 * ```
 */
export function messagePack(packr: MessagePackLibrary): Codec {
  checkLibrary(packr, 'a Packr of msgpackr', 'pack', 'unpack');
  if (!Buffer.from(packr.pack({ [PROBE]: 1 })).includes(PROBE)) {
    throw new InvalidOptionError(
      'Expected a Packr whose bytes can be read on their own, got one that keeps the names of properties elsewhere',
    );
  }
  return {
    encode(value) {
      return Buffer.concat([HEADER, discreetly('MessagePack cannot write the result', () => packr.pack(value))]);
    },
    decode(bytes) {
      const body = afterHeader('messagePack', bytes);
      return discreetly('MessagePack cannot read what is stored', () => packr.unpack(body));
    },
  };
}
