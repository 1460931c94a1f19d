/** What a key stands for, hashed: the same key with another fingerprint is refused. */
import { createHash } from 'node:crypto';
import canonicalizeModule from 'canonicalize';
import { InvalidOptionError } from './errors.js';
import { given } from './given.js';

// The package is CommonJS with ESM-style types: under nodenext its default export is typed as a namespace.
const canonicalize = canonicalizeModule as unknown as (value: unknown) => string | undefined;

/** Empty where there is none: the record is not compared. */
export type Fingerprint = Buffer | '';

/**
 * 128 bits of the SHA-256 of the value's canonical JSON (RFC 8785): object key order does not matter, array order does.
 *
 * @throws InvalidOptionError for what JSON cannot tell apart (a Map, a Set) or cannot hold (a function, a cycle, NaN)
 */
export function fingerprintOf(value: unknown, key: string): Fingerprint {
  if (value === undefined) return '';
  return createHash('sha256').update(canonicalJson(value, key)).digest().subarray(0, 16);
}

function canonicalJson(value: unknown, key: string): string {
  try {
    rejectUncomparable(value);
    const json = canonicalize(value);
    if (json !== undefined) return json;
  } catch (error) {
    // A cycle overflows the stack; the parser of messages is nobody's business here.
    const reason =
      error instanceof RangeError
        ? 'a cycle, or a value nested too deeply'
        : (error as Error).message.replace(/ is not allowed$/, '');
    throw new InvalidOptionError(`Expected \`fingerprint\` to be a JSON value, got ${reason}`, { key });
  }
  throw new InvalidOptionError(`Expected \`fingerprint\` to be a JSON value, got ${given(value)}`, { key });
}

function rejectUncomparable(value: unknown): void {
  if (typeof value === 'function' || typeof value === 'bigint' || typeof value === 'symbol') {
    throw new TypeError(`a ${typeof value} in it`);
  }
  if (typeof value !== 'object' || value === null || 'toJSON' in value) return;
  if (
    value instanceof Map ||
    value instanceof Set ||
    value instanceof Promise ||
    value instanceof ArrayBuffer ||
    ArrayBuffer.isView(value)
  ) {
    throw new TypeError(`${given(value)} in it`);
  }
  for (const part of Object.values(value)) rejectUncomparable(part);
}
