/**
 * Redis keys from what callers give: `<namespace>:<scope>:<key>`.
 *
 * Each part is escaped by itself, so that no two inputs meet and no character of an input can steer the slot or the
 * namespace. Letters, digits and harmless marks stay readable; everything else becomes `%XX` of its UTF-8 bytes. A part
 * that is long is hashed: `#` and its SHA-256, which no escaped part can begin with. `::` never occurs in a record's
 * key, so that other keys of the library have a place of their own.
 */
import { createHash } from 'node:crypto';
import calculateSlot from 'cluster-key-slot';
import { InvalidKeyError, InvalidOptionError } from './errors.js';
import { given } from './given.js';

const PLAIN = /^[\w.~@+/=,-]+$/;
const ESCAPED = /[^\p{L}\p{N}_.~@+/=,-]/gu;
/** A part that is longer than this when escaped is hashed. */
const LONGEST_READABLE_PART = 128;

/** One part of a Redis key, escaped. Injective: two inputs give two parts. */
export function escapePart(text: string): string {
  const escaped = PLAIN.test(text) ? text : text.replace(ESCAPED, percentEncode);
  if (escaped.length <= LONGEST_READABLE_PART) return escaped;
  return `#${createHash('sha256').update(escaped).digest('base64url')}`;
}

/** `%XX` for each byte. A lone surrogate has no UTF-8: it gets the three bytes that its code point would have. */
function percentEncode(character: string): string {
  const code = character.codePointAt(0) as number;
  if (code < 0xd800 || code > 0xdfff) {
    return Buffer.from(character).toString('hex').toUpperCase().replace(/../g, '%$&');
  }
  return [0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)]
    .map((byte) => `%${byte.toString(16).toUpperCase()}`)
    .join('');
}

/**
 * The Redis key of a record.
 *
 * @param prefix the namespace and scopes, escaped and joined
 * @param slot a Cluster hash tag of the program's, put first
 */
export function recordKey(prefix: string, key: string, slot: string | undefined): string {
  const path = `${prefix}:${escapePart(key)}`;
  return slot === undefined ? path : `{${slot}}:${path}`;
}

/**
 * Is this the key of a record, or another of the library's own, whatever its scope and slot?
 *
 * @param namespace escaped
 */
export function isRecordKey(redisKey: string, namespace: string): boolean {
  return redisKey.replace(/^\{[^{}]*\}:/, '').startsWith(`${namespace}:`);
}

/** Are two Redis keys in one Cluster slot, once the connection's prefix is before them? */
export function areInOneSlot(keyPrefix: string, one: string | Buffer, other: string | Buffer): boolean {
  const slotOf = (key: string | Buffer) =>
    calculateSlot(Buffer.concat([Buffer.from(keyPrefix), Buffer.from(key as string)]));
  return slotOf(one) === slotOf(other);
}

/** @throws InvalidKeyError for what is no usable key */
export function checkKey(key: unknown, maxKeyBytes: number): asserts key is string {
  if (typeof key !== 'string') throw new InvalidKeyError(`Expected the key to be a string, got ${given(key)}`);
  if (key === '') throw new InvalidKeyError('Expected the key to be a non-empty string', { key });
  // A code unit takes 3 bytes at most: the exact count is only needed near the limit.
  if (key.length * 3 > maxKeyBytes && Buffer.byteLength(key) > maxKeyBytes) {
    const bytes = Buffer.byteLength(key);
    throw new InvalidKeyError(`Expected the key to be at most ${maxKeyBytes} bytes (maxKeyBytes), got ${bytes} bytes`, {
      key,
    });
  }
}

/**
 * A brace that no other closes, or an empty pair, would change the hash tag, and the records would leave their slots.
 *
 * @throws InvalidOptionError for such a `keyPrefix` of the connection
 */
export function checkKeyPrefix(keyPrefix: string): void {
  if (/[{}]/.test(keyPrefix.replace(/\{[^{}]+\}/g, ''))) {
    throw new InvalidOptionError(
      `Expected the connection's \`keyPrefix\` to have balanced braces with something in them, got ${given(keyPrefix)}`,
    );
  }
}
