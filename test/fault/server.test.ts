/** A server that forgets its scripts, or that dies and comes back, under load. */
import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Dedup, isDedupError } from '../../src/index.js';
import { freshNamespace } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { startRedis } from '../support/redis/index.js';

async function serverAndDedup(args: string[] = []) {
  const server = await startRedis(args);
  const redis = new Redis(server.url, { retryStrategy: () => 20 });
  redis.on('error', () => {});
  const dedup = new Dedup(redis, { namespace: freshNamespace(), redisTimeout: '3s', lease: '5s', hints: 'poll' });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
    await server.stop();
  });
  return { server, redis, dedup };
}

test('SCRIPT FLUSH every 5 ms during 2,000 calls: nothing is lost or doubled', async () => {
  const { server, dedup } = await serverAndDedup();
  const admin = new Redis(server.url);
  onTestFinished(() => admin.disconnect());
  let flushes = 0;
  const flushing = setInterval(() => {
    flushes += 1;
    void admin.script('FLUSH');
  }, 5);
  const runs = new Map<string, number>();
  let next = 0;
  const line = async () => {
    for (let index = next++; index < 2_000; index = next++) {
      const key = `k${index >> 1}`;
      const value = await dedup.once(key, async () => {
        runs.set(key, (runs.get(key) ?? 0) + 1);
        await new Promise((resolve) => setImmediate(resolve));
        return key;
      });
      expect(value).toBe(key);
    }
  };
  await Promise.all(Array.from({ length: 50 }, line));
  clearInterval(flushing);
  expect(flushes).toBeGreaterThan(5);
  expect(runs.size).toBe(1_000);
  expect([...runs.values()].every((count) => count === 1)).toBe(true);
});

describe('a server killed and started again under load, appendfsync always', () => {
  test('keeps what was acknowledged, and every promise settles with what is true', async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const { server, dedup } = await serverAndDedup(['--appendonly', 'yes', '--appendfsync', 'always']);
    await dedup.once('warm', () => 1);
    const acknowledged = new Map<string, number>();
    const codes = new Map<string, number>();
    let nonce = 0;
    let over = false;
    const line = async (name: number) => {
      for (let index = 0; !over; index += 1) {
        const key = `k${name}-${index}`;
        try {
          const value = nonce++;
          acknowledged.set(key, await dedup.once(key, () => value));
        } catch (error) {
          if (!isDedupError(error)) throw error;
          codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
        }
      }
    };
    const lines = Array.from({ length: 20 }, (_, name) => line(name));
    for (let kill = 0; kill < 4; kill += 1) {
      const enough = acknowledged.size + 100 + Math.floor(random() * 200);
      while (acknowledged.size < enough) await new Promise((resolve) => setTimeout(resolve, 5));
      await server.kill();
      await server.restart();
    }
    over = true;
    await Promise.all(lines);
    expect(
      [...codes.keys()].filter((code) => code !== 'STORE_UNAVAILABLE' && code !== 'OUTCOME_UNKNOWN'),
      `seed ${seed}`,
    ).toEqual([]);
    expect(acknowledged.size).toBeGreaterThan(400);
    for (const [key, value] of acknowledged)
      expect(await dedup.once(key, () => -1), `seed ${seed}, ${key}`).toBe(value);
  }, 60_000);
});
