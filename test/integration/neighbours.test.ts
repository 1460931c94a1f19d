/** What one call of a list comes to is its own: the others of its list are answered as if it were not there. */
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { effectsOf, Recorder } from '../../src/effects/recorder.js';
import type { Effects } from '../../src/index.js';
import { Connection } from '../../src/redis/connection.js';
import { ExchangeError } from '../../src/redis/exchange.js';
import { type EffectList, NO_EFFECTS, Scripts } from '../../src/redis/scripts.js';
import { newToken } from '../../src/token.js';
import { connect, freshNamespace, makeDedup, ownServer, sizesOn } from '../support/index.js';

const KEYS = ['a', 'b', 'c', 'd', 'e'];
const MIB = 1024 * 1024;

/** A Dedup whose scripts are cached, and how many keys each of its script calls has from now on. */
async function warm(
  url?: string,
): Promise<{ dedup: ReturnType<typeof makeDedup>; redis: Redis; sizes: number[]; data: string }> {
  const namespace = freshNamespace();
  const redis = connect({}, url);
  const dedup = makeDedup({ namespace }, redis);
  const data = `${namespace}-data`;
  await dedup.once('warm', ({ tx }) => void tx.incr(`${data}-warm`));
  await dedup.apply('warm too', (tx) => tx.incr(`${data}-warm`));
  return { dedup, redis, sizes: sizesOn(redis), data };
}

/** What a handler or an `apply` writes, as the scripts take it. */
function effectsFor(redisKey: string, write: (tx: Effects) => void): EffectList {
  const terms = { key: redisKey, redisKey, namespace: 'none', keyPrefix: '', isCluster: false, connection: {} };
  const recorder = new Recorder(terms);
  write(effectsOf(recorder));
  return recorder.effects;
}

test('a rejected write in a list of commits rejects no other', async () => {
  const { dedup, redis, sizes, data } = await warm();
  await redis.rpush(`${data}-list`, 'no number');
  const outcomes = await dedup.onceMany(KEYS, {
    key: (key) => key,
    handler: (key, { tx }) => void (key === 'c' ? tx.incr(`${data}-list`) : tx.hset(data, key, 1)),
  });
  expect(outcomes.map(({ status }) => status)).toEqual(['executed', 'executed', 'failed', 'executed', 'executed']);
  expect(outcomes[2]).toMatchObject({ error: { code: 'EFFECT_REJECTED' } });
  expect((await redis.hkeys(data)).sort()).toEqual(['a', 'b', 'd', 'e']);
  // Claims, commits with two keys an entry, and the settlement of the one.
  expect(sizes).toEqual([5, 10, 1]);
});

test('a commit that breaks off in a list breaks no other', async () => {
  const { redis, sizes, data } = await warm();
  const scripts = new Scripts(Connection.of(redis), 5_000);
  const keys = KEYS.map((key) => `${data}:${key}`);
  const terms = { lease_ms: 60_000, ttl_ms: 120_000, retention_ms: 60_000, max_attempts: 0, waits: '0' };
  const tokens = keys.map(newToken);
  const claims = await scripts.callMany(
    'claim',
    keys.map((redisKey, at) => ({ redisKey, args: { ...terms, token: tokens[at] as string, fingerprint: '' } })),
  );
  await redis.rpush(`${data}-list`, 'no number');
  const replies = await scripts.callMany(
    'commit',
    keys.map((redisKey, at) => {
      const claim = claims[at];
      if (!claim || claim instanceof ExchangeError) throw claim;
      const [, fence, born] = claim.fields as [number, number, number];
      const effects = effectsFor(redisKey, (tx) => {
        tx.hset(data, redisKey, 1);
        if (at === 2) tx.incr(`${data}-list`);
      });
      // Told to be of no type, its second write is not checked.
      const words = effects.words.map((word) => (at === 2 && word === 'string' ? 'none' : word));
      const args = { token: tokens[at] as string, fence, born, run: 0, retention_ms: 60_000, channel: '', result: '' };
      return { redisKey, args, effects: { ...NO_EFFECTS, ...effects, words } };
    }),
  );
  expect(replies.map((reply) => (reply instanceof ExchangeError ? reply.code : reply.status))).toEqual([
    'done',
    'done',
    'broken',
    'done',
    'done',
  ]);
  expect(await redis.hlen(data)).toBe(5);
  expect(sizes).toEqual([5, 11]);
});

test('a result of 1 MB in a list of replays neither fails nor holds up another, and comes by itself', async () => {
  const { dedup, sizes } = await warm();
  const resultOf = (key: string) => (key === 'c' ? 'x'.repeat(MIB - 2) : key);
  const call = () => dedup.onceMany(KEYS, { key: (key) => key, handler: resultOf });
  await call();
  sizes.length = 0;
  const outcomes = await call();
  expect(outcomes).toMatchObject(KEYS.map((key) => ({ status: 'replayed', value: resultOf(key) })));
  expect(sizes).toEqual([5, 1, 1, 1]);
});

test('no list of long results is answered with more than some 256 KB beyond its first, nor are more of them read', async () => {
  const { dedup, redis, sizes } = await warm((await ownServer()).url);
  const keys = Array.from({ length: 40 }, (_, index) => `k${index}`);
  const resultOf = (key: string) => key.padEnd(20_000, 'x');
  const call = () => dedup.onceMany(keys, { key: (key) => key, handler: resultOf });
  await call();
  sizes.length = 0;
  await redis.config('RESETSTAT');
  expect(await call()).toMatchObject(keys.map((key) => ({ status: 'replayed', value: resultOf(key) })));
  // 13 results of 20,002 bytes fit into each half. One of each is read in vain.
  expect(sizes).toEqual([20, 20, ...Array.from({ length: 2 * 7 }, () => 1)]);
  expect(await redis.info('commandstats')).toContain(`cmdstat_get:calls=${2 * (14 + 7)},`);
});

test('a command that may be slow travels behind the list of its tick, alone', async () => {
  const { dedup, redis, sizes, data } = await warm();
  await redis.rpush(`${data}-list`, ...KEYS);
  const order: string[] = [];
  const keys = [...KEYS, 'f', 'g', 'h', 'i', 'j'];
  const outcomes = await Promise.all(
    keys.map(async (key) => {
      const write = (tx: Effects) => void (key === 'c' ? tx.ltrim(`${data}-list`, 0, 1) : tx.hset(data, key, 1));
      const outcome = await dedup.apply(key, write);
      order.push(key);
      return outcome;
    }),
  );
  expect(outcomes.map(({ status }) => status)).toEqual(keys.map(() => 'executed'));
  expect(order).toEqual([...keys.filter((key) => key !== 'c'), 'c']);
  expect(sizes).toEqual([18, 2]);
  expect(await redis.lrange(`${data}-list`, 0, -1)).toEqual(['a', 'b']);
});

test('where nothing is in flight a long list leaves in two halves, each call in its place, and a short one as a whole', async () => {
  const { redis, data } = await warm();
  const scripts = new Scripts(Connection.of(redis), 5_000);
  const order: string[] = [];
  const inspectAll = (count: number) =>
    Promise.all(
      Array.from({ length: count }, async (_, at) => {
        await scripts.call('inspect', `${data}:${at}`, {});
        order.push(`inspect ${at}`);
      }),
    );
  const inOrder = (count: number) => Array.from({ length: count }, (_, at) => `inspect ${at}`);
  const sizes = sizesOn(redis);
  // The first may have to bring the script.
  for (const [count, lists] of [
    [20, [20]],
    [8, [8]],
    [9, [5, 4]],
    [400, [128, 128, 128, 16]],
  ] as const) {
    order.length = sizes.length = 0;
    await inspectAll(count);
    expect(sizes).toEqual(lists);
    expect(order).toEqual(inOrder(count));
  }
  // What another script does to the same keys keeps its place behind.
  order.length = sizes.length = 0;
  const forgotten = inspectAll(20);
  await scripts.call('forget', `${data}:19`, { force: '1' });
  order.push('forget');
  await forgotten;
  expect(sizes).toEqual([20, 1]);
  expect(order).toEqual([...inOrder(20), 'forget']);
});
