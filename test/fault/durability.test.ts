/**
 * A primary whose replica falls behind and is then promoted, in mid-load: with `durability` no acknowledged result is lost;
 * without, some are, each of them whole, record and effects.
 */
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { Dedup, isDedupError } from '../../src/index.js';
import { connect, freshNamespace, ownServer, until } from '../support/index.js';

const CALLS = 240;

test.each([
  ['with a replica that confirms', { replicas: 1, timeout: 500 } as const],
  ['without', undefined],
])('%s, the replica cut off under load, and promoted when the primary is killed', async (_, durability) => {
  const primary = await ownServer('--repl-diskless-sync-delay', '0');
  const replica = await ownServer('--replicaof', '127.0.0.1', String(primary.port));
  const [admin, heir] = [connect({}, primary.url), connect({}, replica.url)];
  await until(async () => (await admin.info('replication')).includes('state=online'));
  const namespace = freshNamespace();
  const redis = new Redis(primary.url, { retryStrategy: () => null });
  redis.on('error', () => {});
  const dedup = new Dedup(redis, { namespace, durability, redisTimeout: '1s', hints: 'poll' });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  });

  const [acknowledged, codes] = [new Set<string>(), new Map<string, number>()];
  let [settled, cut, killed] = [0, undefined as Promise<unknown> | undefined, undefined as Promise<void> | undefined];
  const call = async (key: string) => {
    try {
      if (key.endsWith('a')) await dedup.apply(key, (tx) => tx.hset('effects', key, 1));
      else await dedup.once(key, ({ tx }) => void tx.hset('effects', key, 1));
      acknowledged.add(key);
    } catch (error) {
      if (!isDedupError(error)) throw error;
      codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
    }
    settled += 1;
  };
  let next = 0;
  const line = async () => {
    for (let number = next++; number < CALLS; number = next++) {
      await call(`k${number}${number % 2 ? 'a' : ''}`);
      if (settled >= CALLS / 2) cut ??= heir.replicaof('NO', 'ONE');
      if (settled >= CALLS * 0.7) killed ??= primary.kill();
    }
  };
  await Promise.all(Array.from({ length: 16 }, line));
  await cut;
  await killed;

  // Every promise settled, and those that failed say so truly.
  expect(acknowledged.size).toBeGreaterThan(0);
  expect(acknowledged.size + [...codes.values()].reduce((sum, count) => sum + count, 0)).toBe(CALLS);
  expect([...codes.keys()].filter((code) => !/STORE_UNAVAILABLE|OUTCOME_UNKNOWN|NOT_DURABLE/.test(code))).toEqual([]);
  const effects = await heir.hgetall('effects');
  const after = new Dedup(heir, { namespace });
  let lost = 0;
  for (let number = 0; number < CALLS; number += 1) {
    const key = `k${number}${number % 2 ? 'a' : ''}`;
    const isCompleted = (await after.inspect(key))?.state === 'completed';
    expect(isCompleted, key).toBe(key in effects);
    if (acknowledged.has(key) && !isCompleted) lost += 1;
  }
  if (durability) expect(lost).toBe(0);
  else expect(lost).toBeGreaterThan(0);
  await after.close();
});
