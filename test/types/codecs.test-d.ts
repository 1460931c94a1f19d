/** What callers get of a handler's type through layers of codecs, which libraries fit, and what the test kit's reports hold. */
import * as v8 from 'node:v8';
import { Packr, Unpackr } from 'msgpackr';
import superjson, { SuperJSON } from 'superjson';
import { expectTypeOf, test } from 'vitest';
import { compressed, encrypted, messagePack, rich } from '../../src/codecs/index.js';
import { type Codec, type Dedup, type JsonCodec, json, type Stored } from '../../src/index.js';
import { createTestDedup, deliverTwice, loseReply, type TestDedup } from '../../src/testing/index.js';

declare const dedup: Dedup;
declare const keys: { current: string; keys: Record<string, Buffer> };
interface Receipt {
  at: Date;
  total: bigint;
}
const handler = (): Receipt => ({ at: new Date(), total: 1n });

test('layers around JSON give the JSON form', () => {
  expectTypeOf(compressed(json)).toEqualTypeOf<JsonCodec>();
  expectTypeOf(encrypted(compressed(json), keys)).toEqualTypeOf<JsonCodec>();
  expectTypeOf(dedup.once('k', () => new Date(), { codec: compressed(json) })).resolves.toEqualTypeOf<string>();
});

test('layers around a codec that keeps types give the type itself', () => {
  for (const codec of [rich(superjson), messagePack(new Packr()), encrypted(compressed(rich(superjson)), keys)]) {
    expectTypeOf(codec).toEqualTypeOf<Codec>();
    expectTypeOf(dedup.once('k', handler, { codec })).resolves.toEqualTypeOf<Receipt>();
    expectTypeOf(dedup.with({ codec }).run('k', handler)).resolves.toHaveProperty('value').toEqualTypeOf<Receipt>();
  }
  const own = { encode: String, decode: Number } satisfies Codec;
  expectTypeOf<Stored<Receipt, ReturnType<typeof compressed<typeof own>>>>().toEqualTypeOf<Receipt>();
});

test('libraries fit where they can do it', () => {
  rich(new SuperJSON({ dedupe: true }));
  messagePack(new Packr({ moreTypes: true }));
  messagePack({ pack: (value) => Buffer.from(String(value)), unpack: String });
  // @ts-expect-error: it loses types
  rich(JSON);
  // @ts-expect-error: its bytes are no JSON
  rich(v8);
  // @ts-expect-error: another library
  rich(new Packr());
  // @ts-expect-error: another library
  messagePack(superjson);
  // @ts-expect-error: it only reads
  messagePack(new Unpackr());
  // @ts-expect-error: no text is a key
  encrypted(json, { current: 'a', keys: { a: 'x'.repeat(32) } });
  // @ts-expect-error: no such option
  compressed(json, { level: 9 });
});

test('a scenario’s value is what a caller gets', () => {
  expectTypeOf(deliverTwice(dedup, 'k', () => new Date()))
    .resolves.toHaveProperty('value')
    .toEqualTypeOf<string>();
  expectTypeOf(loseReply(dedup, (given) => given.once('k', () => new Date())))
    .resolves.toHaveProperty('value')
    .toEqualTypeOf<string>();
  expectTypeOf(loseReply(dedup, () => 5))
    .resolves.toHaveProperty('value')
    .toEqualTypeOf<number>();
  const lossless = dedup.with({ codec: rich(superjson) });
  expectTypeOf(deliverTwice(lossless, 'k', handler))
    .resolves.toHaveProperty('value')
    .toEqualTypeOf<Receipt>();
  deliverTwice(lossless, async (given) => {
    expectTypeOf(given).toEqualTypeOf<Dedup<Codec>>();
  });
  // @ts-expect-error: a handler needs a key
  deliverTwice(dedup, 'k');
});

test('a test Dedup is of the codec that it is made with', () => {
  expectTypeOf(createTestDedup()).resolves.toEqualTypeOf<TestDedup>();
  expectTypeOf(createTestDedup({ codec: rich(superjson) })).resolves.toEqualTypeOf<TestDedup<Codec>>();
});
