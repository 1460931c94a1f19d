/** Results with their types, as JSON and a note of what JSON has no form for: by superjson. */
import type { Codec } from '../codec.js';
import { afterHeader, headerOf } from '../codec-header.js';
import { discreetly } from './layer.js';
import { checkLibrary } from './library.js';

/** What `rich` needs of superjson, its default export or an instance. `JSON` has neither. */
export interface RichLibrary<Payload extends { readonly json: unknown }> {
  serialize(value: unknown): Payload;
  deserialize(payload: Payload): unknown;
}

const HEADER = headerOf('rich');

/**
 * Stores results with their types: Date, Map, Set, BigInt, RegExp, URL, Error, `undefined` inside objects, NaN, -0 and what
 * is registered with the library come back as they are. Callers get the handler's own type.
 *
 * @param library superjson, as its default export or an instance of its class; `redis-once` does not import it
 * @throws InvalidOptionError where it is something else
 * @example
 * ```ts
 * import superjson from 'superjson';
 * import { rich } from 'redis-once/codecs';
 *
 * const orders = dedup.with({ codec: rich(superjson) });
 * const { at } = await orders.once(order.id, () => ({ at: new Date() })); // a Date, for every caller
 * ```
 */
export function rich<Payload extends { readonly json: unknown }>(library: RichLibrary<Payload>): Codec {
  checkLibrary(library, 'superjson', 'serialize', 'deserialize');
  return {
    encode(value) {
      const text = discreetly('superjson cannot write the result', () => JSON.stringify(library.serialize(value)));
      return Buffer.concat([HEADER, Buffer.from(text)]);
    },
    decode(bytes) {
      const body = afterHeader('rich', bytes);
      return discreetly('superjson cannot read what is stored', () =>
        library.deserialize(JSON.parse(body.toString()) as Payload),
      );
    },
  };
}
