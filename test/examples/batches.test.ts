/** The examples of batches, on batches made up for them, against the real Redis. */
import { expect, test, vi } from 'vitest';
import { handleBatch, type KafkaBatch } from '../../examples/kafka-batch.js';
import { type SqsEvent, sqsHandler } from '../../examples/sqs-batch.js';
import type { Dedup } from '../../src/index.js';
import { connect, freshNamespace, heldHandler, makeDedup } from '../support/index.js';

/** The examples name their data plainly: a keyPrefix keeps each test's apart. */
function stage() {
  const keyPrefix = `${freshNamespace()}-`;
  const redis = connect({ keyPrefix });
  return { redis, dedup: makeDedup({ namespace: 'example' }, redis) };
}

async function completed(dedup: Dedup, keys: readonly string[]): Promise<boolean[]> {
  return Promise.all(keys.map(async (key) => (await dedup.inspect(key))?.state === 'completed'));
}

test('SQS: what failed is reported, the rest is done, and a batch that comes again writes nothing twice', async () => {
  const { redis, dedup } = stage();
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {});
  const handle = sqsHandler(dedup);
  const order = (messageId: string, count: number) => ({ messageId, body: JSON.stringify({ sku: 'cup', count }) });
  const event: SqsEvent = {
    Records: [
      order('m1', 1),
      order('m2', 2),
      { messageId: 'm3', body: 'no JSON' },
      order('m2', 2),
      // Its write cannot be made: 0.5 is no integer.
      order('m4', 0.5),
      order('m5', 5),
    ],
  };
  for (let delivery = 0; delivery < 3; delivery += 1) {
    expect(await handle(event)).toEqual({ batchItemFailures: [{ itemIdentifier: 'm3' }, { itemIdentifier: 'm4' }] });
    expect(await redis.hgetall('stock')).toEqual({ cup: '-8' });
    expect(await redis.xlen('shipments')).toBe(3);
  }
  expect(await completed(dedup.scope('orders'), ['m1', 'm2', 'm3', 'm4', 'm5'])).toEqual([
    true,
    true,
    false,
    false,
    true,
  ]);
  // Only what will not settle by itself is told.
  expect(new Set(logged.mock.calls.map(([text]) => text))).toEqual(
    new Set(['Message m3 failed:', 'Message m4 failed:']),
  );
  logged.mockRestore();
});

test('SQS: a message that another consumer has in hand is reported, and done by then when it comes again', async () => {
  const { redis, dedup } = stage();
  const { handler, started, release } = heldHandler(undefined);
  const elsewhere = dedup.scope('orders').once('m1', handler);
  await started;
  // Another process: a Dedup of its own.
  const handle = sqsHandler(makeDedup({ namespace: 'example' }, redis));
  const event = { Records: [{ messageId: 'm1', body: JSON.stringify({ sku: 'cup', count: 1 }) }] };
  expect(await handle(event)).toEqual({ batchItemFailures: [{ itemIdentifier: 'm1' }] });
  release();
  await elsewhere;
  expect(await handle(event)).toEqual({ batchItemFailures: [] });
  expect(await redis.exists('stock')).toBe(0);
});

test('Kafka: the first message that failed stops the commit, and what comes again is written once', async () => {
  const { redis, dedup } = stage();
  const payment = (offset: number, cents: number | string) => ({
    offset: String(offset),
    value: Buffer.from(JSON.stringify({ account: 'a', cents })),
  });
  const batch = (...messages: KafkaBatch['messages']): KafkaBatch => ({ topic: 'payments', partition: 3, messages });
  const bad = payment(12, 'none');
  const stopped = await handleBatch(dedup, batch(payment(10, 1), payment(11, 2), bad, payment(13, 4)));
  expect(stopped).toMatchObject({ commit: '12', error: { code: 'INVALID_OPTION' } });
  // The one behind it is written already, and stays when it comes again.
  expect(await redis.hget('balances', 'a')).toBe('7');
  expect(await handleBatch(dedup, batch(bad, payment(13, 4)))).toMatchObject({ commit: null });
  expect(await handleBatch(dedup, batch(payment(12, 8), payment(13, 4), payment(14, 16)))).toEqual({ commit: '15' });
  expect(await redis.hget('balances', 'a')).toBe('31');
  // Order within an account is that of the writes, not of the offsets, where one of them failed at first.
  expect(await redis.lrange('statement-a', 0, -1)).toEqual(['10 1', '11 2', '13 4', '12 8', '14 16']);
  // Offsets past 2^53 keep their digits; an empty batch commits nothing; another partition is another message.
  expect(await handleBatch(dedup, batch({ ...payment(0, 32), offset: '9007199254740993' }))).toEqual({
    commit: '9007199254740994',
  });
  expect(await handleBatch(dedup, batch())).toEqual({ commit: null });
  expect(await handleBatch(dedup, { ...batch(payment(10, 64)), partition: 4 })).toEqual({ commit: '11' });
  expect(await redis.hget('balances', 'a')).toBe('127');
});
