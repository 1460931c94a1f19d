/**
 * The grammar of arguments: what is sent to Redis is what every server reads the same way, and what the check in Lua can
 * calculate with. Where servers differ, the strictest rules.
 */
import { InvalidOptionError } from '../errors.js';

/** One argument as it goes over the wire. */
export type Word = string | Buffer;

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const UINT64_MAX = 2n ** 64n - 1n;
const INTEGER = /^(0|-?[1-9]\d{0,18})$/;
const DECIMAL = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/;
const LONGEST_DECIMAL = 255;
const LARGEST_FLOAT = 1e308;
const STREAM_ID = /^(0|[1-9]\d{0,19})(?:-(0|[1-9]\d{0,19}))?$/;

/** Where an argument stands, for messages: no message holds the argument itself. */
export interface Place {
  /** Such as `tx.zadd`. */
  readonly call: string;
}

/** @throws InvalidOptionError saying what is asked for */
export function refuse({ call }: Place, expected: string): never {
  throw new InvalidOptionError(`Expected \`${call}\` to be given ${expected}`);
}

/** @throws InvalidOptionError saying what is asked for, and of which kind the value is */
export function wrong({ call }: Place, what: string, expected: string, value: unknown): never {
  throw new InvalidOptionError(`Expected ${what} of \`${call}\` to be ${expected}, got ${kindOf(value)}`);
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value === 'object') return Array.isArray(value) ? 'an array' : 'an object';
  return `a ${typeof value}`;
}

/** Bytes, a text, or a finite number. */
export function word(place: Place, what: string, value: unknown): Word {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return String(value);
  if (value instanceof Uint8Array) return Buffer.isBuffer(value) ? value : Buffer.from(value);
  return wrong(place, what, 'a string, a Buffer or a finite number', value);
}

/** An integer of 64 bits, in the one form that Redis reads. */
export function integer(place: Place, what: string, value: unknown, min = INT64_MIN, max = INT64_MAX): string {
  const text = typeof value === 'number' && Object.is(value, -0) ? '0' : String(value);
  const usable =
    (typeof value === 'number' && Number.isSafeInteger(value)) ||
    typeof value === 'bigint' ||
    typeof value === 'string';
  if (!usable || !INTEGER.test(text) || BigInt(text) < min || BigInt(text) > max) {
    const range = min === INT64_MIN && max === INT64_MAX ? 'of 64 bits' : `from ${min} to ${max}`;
    return wrong(place, what, `an integer ${range}`, value);
  }
  return text;
}

/** An integer that JavaScript and every unit of time can hold. */
export function safeInteger(place: Place, what: string, value: unknown, min = Number.MIN_SAFE_INTEGER): string {
  return integer(place, what, value, BigInt(min), BigInt(Number.MAX_SAFE_INTEGER));
}

/** A decimal number within ±1e308: no hexadecimal, no infinity, nothing that rounds to zero. */
export function float(place: Place, what: string, value: unknown): string {
  return decimal(place, what, value, LARGEST_FLOAT, 'a decimal number within ±1e308');
}

function decimal(place: Place, what: string, value: unknown, largest: number, expected: string): string {
  const text = String(value);
  const number = Number(text);
  const vanishes = number === 0 && /[1-9]/.test(text.replace(/[eE].*$/, ''));
  if (
    (typeof value !== 'number' && typeof value !== 'string') ||
    text.length > LONGEST_DECIMAL ||
    !DECIMAL.test(text) ||
    Math.abs(number) > largest ||
    vanishes
  ) {
    return wrong(place, what, expected, value);
  }
  return text;
}

/** Any finite number, or an infinity. */
export function score(place: Place, what: string, value: unknown): string {
  if (value === Number.POSITIVE_INFINITY || value === 'inf' || value === '+inf') return 'inf';
  if (value === Number.NEGATIVE_INFINITY || value === '-inf') return '-inf';
  return decimal(place, what, value, Number.MAX_VALUE, 'a decimal number or an infinity');
}

/** A score, or `(` and a score. */
export function scoreBound(place: Place, what: string, value: unknown): string {
  if (typeof value === 'string' && value.startsWith('(')) return `(${score(place, what, value.slice(1))}`;
  return score(place, what, value);
}

/** `ms-seq`. A `ms` alone is `ms-0`, as Redis reads it. */
export function streamId(place: Place, what: string, value: unknown): string {
  const [, ms, seq = '0'] = (typeof value === 'string' && STREAM_ID.exec(value)) || [];
  if (ms === undefined || BigInt(ms) > UINT64_MAX || BigInt(seq) > UINT64_MAX) {
    return wrong(place, what, 'a stream id such as `1700000000000-0`', value);
  }
  return `${ms}-${seq}`;
}

/** One of some words, in capitals. */
export function keyword(value: unknown, words: readonly string[]): string | undefined {
  const upper = typeof value === 'string' ? value.toUpperCase() : undefined;
  return upper !== undefined && words.includes(upper) ? upper : undefined;
}
