/** The same, over processes. */
import { expect, inject, test } from 'vitest';
import type { Outcome } from '../../src/index.js';
import { connect, expectRanOnce, freshNamespace } from '../support/index.js';
import { Worker } from '../support/processes.js';

type Called = Outcome<{ key: string; run: number; by: number }> & { key: string };

async function callFrom4Processes(keys: string[], times: number): Promise<Called[]> {
  const args = { url: inject('redisUrl'), namespace: freshNamespace(), keys, times, handlerMs: 50 };
  const workers = Array.from({ length: 4 }, () => new Worker('caller', args));
  await Promise.all(workers.map((worker) => worker.next()));
  for (const worker of workers) worker.tell({ go: true });
  const called = (await Promise.all(workers.map((worker) => worker.next<Called[]>()))).flat();
  const redis = connect();
  await redis.unlink(keys.map((key) => `${args.namespace}-runs-${key}`));
  return called;
}

test('200 calls of one key from 4 processes run the handler once and return equal values', async () => {
  const called = await callFrom4Processes(['k'], 50);
  expect(called).toHaveLength(200);
  expectRanOnce(called);
  expect(called[0]?.value.run).toBe(1);
});

test('so do 30 keys at once', async () => {
  const keys = Array.from({ length: 30 }, (_, i) => `k${i}`);
  const called = await callFrom4Processes(keys, 5);
  for (const key of keys) {
    const ofKey = called.filter((outcome) => outcome.key === key);
    expect(ofKey).toHaveLength(20);
    expectRanOnce(ofKey);
    expect(ofKey[0]?.value).toMatchObject({ key, run: 1 });
  }
});

/** The library's own connection and timers, were they to keep a process alive, would do so for 30 s. */
const AT_ONCE_MS = 10_000;

test.each([
  ['closes its Dedups and ends its own connections', true],
  ['only ends its own connections', false],
])('a program that %s ends by itself', async (_what, closes) => {
  const worker = new Worker('ends', { url: inject('redisUrl'), namespace: freshNamespace(), closes });
  expect(await worker.next()).toEqual(['held', 'held', 1]);
  const closedAt = performance.now();
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  const ms = performance.now() - closedAt;
  console.log(`ended ${ms.toFixed(0)} ms after its last word`);
  expect(ms).toBeLessThan(AT_ONCE_MS);
  expect(worker.stderr).toBe('');
});
