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

/** The text with everything but letters, digits and harmless marks as `%XX`, whatever its length. */
export function escapeText(text: string): string {
  return PLAIN.test(text) ? text : text.replace(ESCAPED, percentEncode);
}

/** One part of a Redis key, escaped. Injective: two inputs give two parts. */
export function escapePart(text: string): string {
  const escaped = escapeText(text);
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

/** What `escapeText` was given; of a text that it did not make, anything. */
export function unescapeText(escaped: string): string {
  return escaped
    .replace(LONE_SURROGATE, (_, second: string, third: string) =>
      String.fromCharCode(0xd000 | ((Number.parseInt(second, 16) & 0x3f) << 6) | (Number.parseInt(third, 16) & 0x3f)),
    )
    .replace(/(?:%[0-9A-F]{2})+/g, (bytes) => Buffer.from(bytes.replaceAll('%', ''), 'hex').toString());
}

/** ED before A0 to BF occurs in no UTF-8. */
const LONE_SURROGATE = /%ED%([AB][0-9A-F])%([89AB][0-9A-F])/g;

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

/** How the program names a record; null for a part that is hashed in the Redis key, and cannot be read back. */
export interface RecordNames {
  readonly slot: string | null;
  readonly scope: readonly (string | null)[];
  readonly key: string | null;
}

/**
 * The names that a record's Redis key was made of; undefined where it is no record's, or of another namespace.
 *
 * @param namespace escaped
 */
export function readRecordKey(redisKey: string, namespace: string): RecordNames | undefined {
  const [, slot = null, path = ''] = /^(?:\{([^{}]+)\}:)?([^{}]*)$/s.exec(redisKey) ?? [];
  const [first, ...parts] = path.split(':');
  if (first !== namespace || parts.length === 0) return undefined;
  const names = parts.map((part) => (HASHED.test(part) ? null : unescapeText(part)));
  // What is not escaped as `escapePart` does it was made by others, or is another key of the library's, with an empty part.
  const ours = names.every((name, at) => name === null || (name !== '' && escapePart(name) === parts[at]));
  return ours ? { slot, scope: names.slice(0, -1), key: names.at(-1) ?? null } : undefined;
}

const HASHED = /^#[\w-]{43}$/;

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
export function checkKey(key: unknown, maxKeyBytes: number, what = 'the key'): asserts key is string {
  if (typeof key !== 'string') throw new InvalidKeyError(`Expected ${what} to be a string, got ${given(key)}`);
  if (key === '') throw new InvalidKeyError(`Expected ${what} to be a non-empty string`, { key });
  // A code unit takes 3 bytes at most: the exact count is only needed near the limit.
  if (key.length * 3 > maxKeyBytes && Buffer.byteLength(key) > maxKeyBytes) {
    const bytes = Buffer.byteLength(key);
    throw new InvalidKeyError(`Expected ${what} to be at most ${maxKeyBytes} bytes (maxKeyBytes), got ${bytes} bytes`, {
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
