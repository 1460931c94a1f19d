/** What callers get of a handler's type: its JSON form, or the type itself with a codec that keeps it. */
import { expectTypeOf, test } from 'vitest';
import type { Codec, JsonCodec, JsonForm, Stored } from '../../src/index.js';

/** What a call of a function without a result comes to. */
type Nothing = ReturnType<() => void>;

test('JSON types come back as they are', () => {
  expectTypeOf<Stored<string>>().toEqualTypeOf<string>();
  expectTypeOf<Stored<number>>().toEqualTypeOf<number>();
  expectTypeOf<Stored<boolean>>().toEqualTypeOf<boolean>();
  expectTypeOf<Stored<null>>().toEqualTypeOf<null>();
  expectTypeOf<Stored<'a' | 1 | true | null>>().toEqualTypeOf<'a' | 1 | true | null>();
  expectTypeOf<Stored<number[]>>().toEqualTypeOf<number[]>();
  expectTypeOf<Stored<{ id: string; lines: { cents: number }[] }>>().toEqualTypeOf<{
    id: string;
    lines: { cents: number }[];
  }>();
  expectTypeOf<Stored<Record<string, number>>>().toEqualTypeOf<Record<string, number>>();
  expectTypeOf<Stored<string & { readonly brand: 'OrderId' }>>().toEqualTypeOf<
    string & { readonly brand: 'OrderId' }
  >();
});

test('interfaces come back with the same properties', () => {
  interface Line {
    readonly cents: number;
    note?: string;
  }
  interface Order {
    id: string;
    lines: Line[];
    parent: Order | null;
  }
  expectTypeOf<Stored<Line>>().toEqualTypeOf<{ readonly cents: number; note?: string }>();
  expectTypeOf<Stored<Order>['lines'][number]>().toEqualTypeOf<{ readonly cents: number; note?: string }>();
  expectTypeOf<Stored<Order>>().toExtend<Order>();
  expectTypeOf<Order>().toExtend<Stored<Order>>();
});

test('a Date is a string: at the top, nested, in arrays, where it is optional', () => {
  expectTypeOf<Stored<Date>>().toEqualTypeOf<string>();
  expectTypeOf<Stored<Date[]>>().toEqualTypeOf<string[]>();
  expectTypeOf<Stored<Date | null>>().toEqualTypeOf<string | null>();
  expectTypeOf<Stored<{ at: Date; by: { at: Date }[] }>>().toEqualTypeOf<{ at: string; by: { at: string }[] }>();
  expectTypeOf<Stored<{ at?: Date; or: Date | undefined }>>().toEqualTypeOf<{ at?: string; or?: string }>();
  expectTypeOf<Stored<Record<string, Date>>>().toEqualTypeOf<Record<string, string>>();
});

test('undefined and void at the top are undefined', () => {
  expectTypeOf<Stored<undefined>>().toEqualTypeOf<undefined>();
  expectTypeOf<Stored<void>>().toEqualTypeOf<undefined>();
  expectTypeOf<Stored<Date | undefined>>().toEqualTypeOf<string | undefined>();
  expectTypeOf<Stored<never>>().toEqualTypeOf<never>();
});

test('properties that may be undefined may be missing', () => {
  expectTypeOf<Stored<{ a: string | undefined; b?: number | undefined; c: null }>>().toEqualTypeOf<{
    a?: string;
    b?: number;
    c: null;
  }>();
  expectTypeOf<Stored<{ readonly a?: Date }>>().toEqualTypeOf<{ readonly a?: string }>();
  expectTypeOf<Stored<{ sent: Nothing; known: undefined }>>().toEqualTypeOf<{ sent?: never; known?: never }>();
});

test('the members of a union that the compiler made alike stay readable one by one', () => {
  const either = (ok: boolean) => (ok ? { ok, id: 'a' } : { ok, error: 'b' });
  expectTypeOf<Stored<ReturnType<typeof either>>['error']>().toEqualTypeOf<string | undefined>();
  expectTypeOf<Stored<ReturnType<typeof either>>>().toExtend<ReturnType<typeof either>>();
});

test('functions, classes and symbols are left out of objects and are null in arrays', () => {
  class Point {
    x = 1;
    length(): number {
      return this.x;
    }
  }
  expectTypeOf<Stored<Point>>().toEqualTypeOf<{ x: number }>();
  expectTypeOf<
    Stored<{ f(): void; g?: () => void; make: typeof Point; s: symbol; [Symbol.iterator]: number; n: 1 }>
  >().toEqualTypeOf<{ n: 1 }>();
  expectTypeOf<Stored<{ at: Date | (() => Date) }>>().toEqualTypeOf<{ at?: string }>();
  expectTypeOf<Stored<(() => void)[]>>().toEqualTypeOf<null[]>();
  expectTypeOf<Stored<(Date | undefined)[]>>().toEqualTypeOf<(string | null)[]>();
  expectTypeOf<Stored<Nothing[]>>().toEqualTypeOf<null[]>();
  expectTypeOf<Stored<() => void>>().toEqualTypeOf<never>();
});

test('a bigint has no form', () => {
  expectTypeOf<Stored<bigint>>().toEqualTypeOf<never>();
  expectTypeOf<Stored<{ cents: bigint }>>().toEqualTypeOf<{ cents: never }>();
  expectTypeOf<Stored<string | bigint>>().toEqualTypeOf<string>();
});

test('a Map and a Set are empty objects', () => {
  expectTypeOf<Stored<Map<string, Date>>>().toEqualTypeOf<Record<string, never>>();
  expectTypeOf<Stored<{ tags: Set<string>; ids: ReadonlySet<number> }>>().toEqualTypeOf<{
    tags: Record<string, never>;
    ids: Record<string, never>;
  }>();
});

test('tuples and readonly arrays keep their shape', () => {
  expectTypeOf<Stored<[string, Date]>>().toEqualTypeOf<[string, string]>();
  expectTypeOf<Stored<readonly [Date, () => void]>>().toEqualTypeOf<readonly [string, null]>();
  expectTypeOf<Stored<[Date, ...number[]]>>().toEqualTypeOf<[string, ...number[]]>();
  expectTypeOf<Stored<[Nothing, number]>>().toEqualTypeOf<[null, number]>();
  expectTypeOf<Stored<readonly Date[]>>().toEqualTypeOf<readonly string[]>();
  expectTypeOf<Stored<readonly number[]>>().toEqualTypeOf<readonly number[]>();
});

test('unions are taken member by member', () => {
  type Result = { ok: true; at: Date } | { ok: false; reason: string };
  expectTypeOf<Stored<Result>>().toEqualTypeOf<{ ok: true; at: string } | { ok: false; reason: string }>();
  expectTypeOf<Stored<Date | number | Date[]>>().toEqualTypeOf<string | number | string[]>();
});

test('unknown and any pass through, also inside', () => {
  expectTypeOf<Stored<unknown>>().toBeUnknown();
  expectTypeOf<Stored<{ u: unknown; list: unknown[] }>>().toEqualTypeOf<{ u: unknown; list: unknown[] }>();
  // biome-ignore lint/suspicious/noExplicitAny: what this is about
  type Any = any;
  expectTypeOf<Stored<Any>>().toBeAny();
  expectTypeOf<Stored<{ body: Any; at: Date }>>().toEqualTypeOf<{ body: Any; at: string }>();
  expectTypeOf<Stored<{ body?: Any; at: Date }>['body']>().toBeAny();
  expectTypeOf<Stored<Any[]>>().toEqualTypeOf<Any[]>();
});

test('`toJSON` says what is left', () => {
  interface Money {
    toJSON(): { cents: number; at: Date };
    format(): string;
  }
  expectTypeOf<Stored<Money>>().toEqualTypeOf<{ cents: number; at: string }>();
  expectTypeOf<Stored<{ price: Money; bytes: Buffer }>>().toEqualTypeOf<{
    price: { cents: number; at: string };
    bytes: { type: 'Buffer'; data: number[] };
  }>();
});

test('types that refer to themselves are walked through without an end', () => {
  type Json = string | number | boolean | null | Json[] | { [name: string]: Json };
  expectTypeOf<Stored<Json>>().toEqualTypeOf<Json>();

  type Loose = string | null | Loose[] | { [name: string]: Loose | undefined };
  expectTypeOf<Stored<Loose>>().toExtend<Loose>();

  type Dates = Date | Dates[] | { [name: string]: Dates };
  type Strings = string | Strings[] | { [name: string]: Strings };
  expectTypeOf<Stored<Dates>>().toExtend<Strings>();
  expectTypeOf<Strings>().toExtend<Stored<Dates>>();

  interface Tree {
    at: Date;
    children: readonly Tree[];
    parent?: Tree;
  }
  expectTypeOf<Stored<Tree>['children'][number]['children'][number]['at']>().toEqualTypeOf<string>();
});

test('a codec without a JSON form gives the type itself', () => {
  interface Lossless extends Codec {
    readonly form?: 'binary';
  }
  type Rich = { at: Date; n: bigint; tags: Set<string>; f?: () => void };
  expectTypeOf<Stored<Rich, Lossless>>().toEqualTypeOf<Rich>();
  expectTypeOf<Stored<void, Lossless>>().toEqualTypeOf<void>();
});

test('a codec that is marked as JSON gives the JSON form, and that is the default', () => {
  interface Compressed extends JsonCodec {
    readonly level: number;
  }
  expectTypeOf<Stored<{ at: Date }, Compressed>>().toEqualTypeOf<{ at: string }>();
  expectTypeOf<Stored<{ at: Date }>>().toEqualTypeOf<Stored<{ at: Date }, JsonCodec>>();
  expectTypeOf<Stored<{ at: Date }>>().toEqualTypeOf<JsonForm<{ at: Date }>>();
});
