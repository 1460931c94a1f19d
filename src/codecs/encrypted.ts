/** Results encrypted by AES-256-GCM, each bound to the key of its record. */
import { createCipheriv, createDecipheriv, createSecretKey, KeyObject, randomBytes } from 'node:crypto';
import type { Codec } from '../codec.js';
import { afterHeader, headerOf } from '../codec-header.js';
import { CodecError, InvalidOptionError } from '../errors.js';
import { bytesOf, type Layered, layer } from './layer.js';

/** 32 bytes, or a secret KeyObject of as many. */
export type EncryptionKey = Uint8Array | KeyObject;

/** What `encrypted` is told. */
export interface EncryptionOptions {
  /** The id of the key that writes. It stands in each record, in the clear. */
  current: string;
  /**
   * The keys that read, by id: `current` and those before it, until the retention of what they wrote has passed. An id has 1 to 64
   * letters, digits, dots, dashes and underscores.
   */
  keys: Readonly<Record<string, EncryptionKey>>;
}

const ALGORITHM = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const TAG_LENGTH = { authTagLength: TAG_BYTES };
const ID = /^[\w.-]{1,64}$/;
const HEADER = headerOf('encrypted');

/**
 * A codec whose results are encrypted by AES-256-GCM. A record that was changed, or moved to another key, is a `CodecError`:
 * the Redis key (namespace, scopes, slot and key) is part of what is authenticated. So is the id of the key that encrypted.
 *
 * Nonces are random: one key is good for 2^32 results. Make another one `current` before that, and keep this one among `keys`.
 *
 * @param inner the codec of the results themselves
 * @throws InvalidOptionError naming what is wrong, and nothing of a key
 * @example
 * ```ts
 * import { json } from 'redis-once';
 * import { encrypted } from 'redis-once/codecs';
 *
 * const key = Buffer.from(process.env.RESULTS_KEY ?? '', 'base64'); // 32 random bytes
 * const payments = dedup.with({ codec: encrypted(json, { current: '2026-11', keys: { '2026-11': key } }) });
 * ```
 */
export function encrypted<C extends Codec>(inner: C, options: EncryptionOptions): Layered<C> {
  const { current, keys } = readOptions(options);
  const currentKey = keys.get(current) as KeyObject;
  const head = Buffer.concat([HEADER, Buffer.of(current.length), Buffer.from(current)]);
  return layer(inner, (below) => ({
    encode(value, context) {
      const bytes = bytesOf(below.encode(value, context));
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(ALGORITHM, currentKey, nonce, TAG_LENGTH);
      cipher.setAAD(boundTo(head, context.redisKey));
      return Buffer.concat([head, nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
    },
    decode(bytes, context) {
      const { id, nonce, text, tag } = partsOf(afterHeader('encrypted', bytes));
      const key = keys.get(id);
      if (!key) throw new CodecError(`Expected a result encrypted by one of the keys given, found one by \`${id}\``);
      const decipher = createDecipheriv(ALGORITHM, key, nonce, TAG_LENGTH);
      decipher.setAAD(boundTo(bytes.subarray(0, HEADER.length + 1 + id.length), context.redisKey));
      decipher.setAuthTag(tag);
      return below.decode(
        opened(() => Buffer.concat([decipher.update(text), decipher.final()])),
        context,
      );
    },
  }));
}

/** What is authenticated beside the text. The head tells its own length, so that no two pairs make the same bytes. */
function boundTo(head: Buffer, redisKey: string): Buffer {
  return Buffer.concat([head, Buffer.from(redisKey)]);
}

/** After the header: the length of the id, the id, the nonce, the encrypted text, the tag. */
function partsOf(body: Buffer): { id: string; nonce: Buffer; text: Buffer; tag: Buffer } {
  const idEnd = 1 + (body[0] ?? 0);
  const id = body.toString('latin1', 1, idEnd);
  if (!ID.test(id) || body.length < idEnd + NONCE_BYTES + TAG_BYTES) throw notToBeOpened();
  return {
    id,
    nonce: body.subarray(idEnd, idEnd + NONCE_BYTES),
    text: body.subarray(idEnd + NONCE_BYTES, -TAG_BYTES),
    tag: body.subarray(-TAG_BYTES),
  };
}

/** Whatever is wrong, one thing is told. */
function opened(open: () => Buffer): Buffer {
  try {
    return open();
  } catch {
    throw notToBeOpened();
  }
}

function notToBeOpened(): CodecError {
  return new CodecError('Expected a result encrypted for this very record, found one that is not, or was changed');
}

/** @throws InvalidOptionError, in which no key is shown, not even one of a wrong form */
function readOptions(options: EncryptionOptions | undefined): { current: string; keys: Map<string, KeyObject> } {
  const { current, keys, ...others } = options ?? ({} as Partial<EncryptionOptions>);
  if (current === undefined || typeof keys !== 'object' || keys === null || Object.keys(others).length > 0) {
    throw new InvalidOptionError(
      'Expected the options of `encrypted` to be `current`, an id, and `keys`, keys by their ids',
    );
  }
  const read = new Map<string, KeyObject>();
  for (const [id, key] of Object.entries(keys)) {
    if (!ID.test(id)) {
      throw new InvalidOptionError(
        'Expected the ids in `keys` to have 1 to 64 letters, digits, dots, dashes and underscores',
      );
    }
    read.set(id, keyOf(id, key));
  }
  if (!read.has(current)) throw new InvalidOptionError('Expected `current` to be the id of one of `keys`');
  return { current, keys: read };
}

function keyOf(id: string, key: unknown): KeyObject {
  if (key instanceof KeyObject && key.symmetricKeySize === KEY_BYTES) return key;
  if (key instanceof Uint8Array && key.length === KEY_BYTES) return createSecretKey(key);
  const length = key instanceof Uint8Array ? key.length : key instanceof KeyObject ? key.symmetricKeySize : undefined;
  const got = length === undefined ? `a ${typeof key}` : `${length} bytes`;
  throw new InvalidOptionError(
    `Expected the key \`${id}\` to be ${KEY_BYTES} bytes or a secret KeyObject of them, got ${got}`,
  );
}
