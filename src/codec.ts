/** How results become bytes and come back. */
import { writerOf } from './codec-header.js';
import { CodecError } from './errors.js';

/** What a codec is told of the record that it writes or reads. */
export interface CodecContext {
  readonly redisKey: string;
}

/**
 * Turns a handler's result into bytes and back. `decode(encode(value))` is what every caller gets, the first one
 * included. What either throws reaches the caller as the cause of a `CodecError`.
 */
export interface Codec {
  encode(value: unknown, context: CodecContext): string | Buffer;
  decode(bytes: Buffer, context: CodecContext): unknown;
}

/** Marks a codec whose results come back in their JSON form, in the types as well. */
export interface JsonCodec extends Codec {
  readonly form: 'json';
}

/**
 * JSON, the default. `undefined` is kept as such; what JSON has no form for (a function, a symbol, a BigInt, a cycle) is
 * refused. The bytes are JSON text, or nothing for `undefined`.
 */
export const json: JsonCodec = {
  form: 'json',
  encode(value) {
    if (value === undefined) return '';
    const text = JSON.stringify(value) as string | undefined;
    if (text === undefined) throw new TypeError(`JSON has no form for a ${typeof value}`);
    return text;
  },
  decode(bytes) {
    const writer = writerOf(bytes);
    if (writer) throw new CodecError(`Expected the bytes of \`json\`, found ${writer}`);
    return bytes.length === 0 ? undefined : parseStored(bytes.toString());
  },
};

/**
 * JSON that is stored. The parser's own message would show it.
 *
 * @throws CodecError
 */
export function parseStored(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new CodecError('Expected JSON, found other bytes');
  }
}

/** Marks the codec of calls whose record is a mark in a set: no result is kept. */
export interface NoResult extends Codec {
  readonly form: 'none';
}

/** The codec of calls with `record: set`. */
export const noResult: NoResult = { form: 'none', encode: () => '', decode: () => undefined };

/**
 * Of a codec that is a layer around another: makes the same layer around a different one. Registered, since entry points
 * may be bundled apart.
 *
 * @internal
 */
export const AROUND: unique symbol = Symbol.for('redis-once.codec.around');

/**
 * The layers of a codec, around another in the place of the innermost.
 *
 * @internal
 */
export function layersAround(codec: Codec, inner: Codec): Codec {
  const { [AROUND]: around } = codec as { readonly [AROUND]?: (inner: Codec) => Codec };
  return around ? around(inner) : inner;
}

/** What callers get of a handler's `T`: its JSON form with a JSON codec, `T` itself with any other that keeps it. */
export type Stored<T, C extends Codec = JsonCodec> = C extends { readonly form: 'json' }
  ? JsonForm<T>
  : C extends { readonly form: 'none' }
    ? undefined
    : T;

/** What is left of a value after `JSON.parse(JSON.stringify(value))`, with `undefined` kept at the top. */
export type JsonForm<T> =
  IsAny<T> extends true
    ? T
    : unknown extends T
      ? T
      : T extends JsonValue
        ? T
        : T extends void
          ? undefined
          : T extends { toJSON(...args: never[]): infer U }
            ? JsonForm<U>
            : T extends bigint | Formless
              ? never
              : T extends ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>
                ? Record<string, never>
                : T extends readonly (infer E)[]
                  ? JsonArray<T, E>
                  : T extends object
                    ? JsonObject<T>
                    : never;

/** Types that JSON leaves as they are. They keep their name, and what refers to itself is not walked through. */
type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [name: string]: JsonValue };
type IsAny<T> = 0 extends 1 & T ? true : false;
/** JSON leaves these out of objects, and puts null for them into arrays. */
type Formless = symbol | ((...args: never[]) => unknown) | (abstract new (...args: never[]) => unknown);
/** Plain arrays are told from tuples: only `X[]` is put off by the compiler, so that a type may refer to itself in it. */
type JsonArray<T extends readonly unknown[], E> = E[] extends T
  ? T extends unknown[]
    ? JsonElement<E>[]
    : readonly JsonElement<E>[]
  : { [K in keyof T]: JsonElement<T[K]> };
type JsonElement<T> = T extends void ? null : T extends Formless ? null : JsonForm<T>;
/** Properties without a JSON form are left out; those that may be `undefined` may be left out. */
type JsonObject<T> = {
  [K in keyof T as Presence<K, T[K]> extends 'kept' ? K : never]: JsonForm<T[K]>;
} & {
  [K in keyof T as Presence<K, T[K]> extends 'optional' ? K : never]?: JsonForm<Exclude<Exclude<T[K], void>, Formless>>;
} extends infer O
  ? { [K in keyof O]: O[K] }
  : never;
type Presence<K, V> = K extends symbol
  ? 'dropped'
  : IsAny<V> extends true
    ? 'kept'
    : [V] extends [never]
      ? 'kept'
      : [Exclude<V, void>] extends [never]
        ? 'optional'
        : [Exclude<V, void>] extends [Formless]
          ? 'dropped'
          : [Extract<V, void> | Extract<V, Formless>] extends [never]
            ? 'kept'
            : 'optional';
