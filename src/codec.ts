/** How results become bytes and come back. */

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
    return bytes.length === 0 ? undefined : JSON.parse(bytes.toString());
  },
};

/** What callers get of a handler's `T`: its JSON form with a JSON codec, `T` itself with any other. */
export type Stored<T, C extends Codec = JsonCodec> = C extends { readonly form: 'json' } ? JsonForm<T> : T;

/** What is left of a value after `JSON.parse(JSON.stringify(value))`, with `undefined` kept at the top. */
export type JsonForm<T> =
  IsAny<T> extends true
    ? T
    : unknown extends T
      ? T
      : T extends string | number | boolean | null | undefined
        ? T
        : T extends void
          ? undefined
          : T extends { toJSON(...args: never[]): infer U }
            ? JsonForm<U>
            : T extends Unserializable
              ? never
              : T extends ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>
                ? Record<string, never>
                : T extends readonly unknown[]
                  ? { [K in keyof T]: JsonElement<T[K]> }
                  : T extends object
                    ? JsonObject<T>
                    : never;

type IsAny<T> = 0 extends 1 & T ? true : false;
type Unserializable = bigint | symbol | ((...args: never[]) => unknown);
type JsonElement<T> = T extends undefined | symbol | ((...args: never[]) => unknown) ? null : JsonForm<T>;
/** Properties without a JSON form are left out; those that may be `undefined` may be left out. */
type JsonObject<T> = Flatten<
  {
    [K in keyof T as K extends string | number
      ? IsDropped<T[K]> extends true
        ? never
        : MayBeMissing<T[K]> extends true
          ? never
          : K
      : never]: JsonForm<T[K]>;
  } & {
    [K in keyof T as K extends string | number
      ? IsDropped<T[K]> extends true
        ? never
        : MayBeMissing<T[K]> extends true
          ? K
          : never
      : never]?: JsonForm<Exclude<T[K], undefined | symbol | ((...args: never[]) => unknown)>>;
  }
>;
type IsDropped<T> = [T] extends [undefined | symbol | ((...args: never[]) => unknown)] ? true : false;
type MayBeMissing<T> =
  IsAny<T> extends true
    ? false
    : unknown extends T
      ? false
      : [Extract<T, undefined | symbol | ((...args: never[]) => unknown)>] extends [never]
        ? false
        : true;
type Flatten<T> = { [K in keyof T]: T[K] };
