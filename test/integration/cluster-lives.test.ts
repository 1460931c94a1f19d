/** Whole lives in a Cluster of three primaries and their replicas, on both versions of the client. */
import calculateSlot from 'cluster-key-slot';
import { Cluster } from 'ioredis';
import { Cluster as Cluster5 } from 'ioredis5';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { DedupOptions, Effects } from '../../src/index.js';
import { expectCode, expectRanOnce, freshNamespace, heldHandler, makeDedup, until } from '../support/index.js';
import { type RedisCluster, startCluster } from '../support/redis/cluster.js';

let servers: RedisCluster;
beforeAll(async () => {
  servers = await startCluster({ replicas: 1 });
});
afterAll(() => servers.stop());

/** One of each primary's slots, and none. */
const SLOTS = ['a', 'b', 'c', undefined];

test('the slots of these tests are on all primaries', async () => {
  const owners = await Promise.all(['a', 'b', 'c'].map((tag) => servers.ownerOf(calculateSlot(tag))));
  expect(new Set(owners).size).toBe(3);
});

describe.each([
  ['6', Cluster],
  ['5', Cluster5 as unknown as typeof Cluster],
])('on ioredis %s', (_version, Client) => {
  function connect(): Cluster {
    // Reads that go to replicas are the caller's own: no answer of the library may come from there.
    const cluster = new Client(servers.nodes, { scaleReads: 'slave' });
    cluster.on('error', () => {});
    onTestFinished(() => cluster.disconnect());
    return cluster;
  }

  /** Two callers, each on a connection of its own, in one namespace. */
  function callers(given: DedupOptions = {}) {
    const options = { namespace: freshNamespace(), ...given };
    const [redis, other] = [connect(), connect()];
    return { namespace: options.namespace, redis, one: makeDedup(options, redis), two: makeDedup(options, other) };
  }

  test.each(SLOTS)(
    'in slot `%s`, a life is run once, replayed, inspected and forgotten, and run again',
    async (slot) => {
      const { one, two } = callers();
      expect(await one.run('k', () => ({ run: 1 }), { slot })).toMatchObject({ status: 'executed', attempt: 1 });
      expect(await two.run('k', () => ({ run: 2 }), { slot })).toMatchObject({ status: 'replayed', value: { run: 1 } });
      expect(await two.inspect('k', { slot })).toMatchObject({
        state: 'completed',
        attempt: 1,
        leaseRemainingMs: null,
      });
      expect(await two.forget('k', { slot })).toBe(true);
      expect(await one.inspect('k', { slot })).toBeNull();
      expect(await one.run('k', () => ({ run: 3 }), { slot })).toMatchObject({ status: 'executed', value: { run: 3 } });
    },
  );

  test.each(['pubsub', 'poll'] as const)(
    'with hints by %s, waiters on other connections get the same result',
    async (hints) => {
      const { namespace, one, two } = callers({ hints });
      const three = makeDedup({ namespace, hints }, connect());
      for (const slot of SLOTS) {
        const { handler, started, release, runs } = heldHandler({ by: 'holder' });
        const held = one.run('k', handler, { slot, fingerprint: { amount: 1 } });
        await started;
        const waiting = [two, three].map((dedup) => dedup.run('k', handler, { slot, fingerprint: { amount: 1 } }));
        await until(async () => hints === 'poll' || (await subscribers(`${namespace}::hints`)) === 2);
        release();
        expectRanOnce(await Promise.all([held, ...waiting]));
        expect(runs()).toBe(1);
        await expectCode(two.run('k', handler, { slot, fingerprint: { amount: 2 } }), 'FINGERPRINT_MISMATCH');
      }
    },
  );

  test('a hint of a commit on any primary wakes a waiter that would not have asked for long', async () => {
    const { namespace, one, two } = callers();
    for (const slot of SLOTS) {
      const { handler, started, release } = heldHandler('value');
      const held = one.run('woken', handler, { slot });
      await started;
      const waiting = two.run('woken', handler, { slot });
      await until(async () => (await subscribers(`${namespace}::hints`)) === 1);
      release();
      await held;
      expect(await waiting).toMatchObject({ status: 'replayed' });
    }
  });

  test.each(SLOTS.slice(-2))(
    'in slot `%s`, a holder without its connection is taken over, and changes nothing any more',
    async (slot) => {
      const { redis, one, two } = callers({ lease: 300 });
      await one.run('k', () => Promise.reject(new Error('fails')), { slot }).catch(() => {});
      const { handler, started, release } = heldHandler('late');
      const held = one.run('k', handler, { slot });
      await started;
      // Without its connection the holder renews nothing.
      redis.disconnect();
      expect(await two.run('k', ({ attempt }) => attempt, { slot })).toMatchObject({ status: 'executed', value: 3 });
      await redis.connect();
      release();
      await expectCode(held, 'LEASE_LOST');
      expect(await two.once('k', () => 'never', { slot })).toBe(3);
    },
  );

  test('many keys of many slots at once, by `onceMany` and `applyMany`, are each made once', async () => {
    const { namespace, one, two } = callers();
    const items = Array.from({ length: 120 }, (_, index) => ({ key: `k${index}`, slot: `tag${index % 30}` }));
    type Item = (typeof items)[number];
    const write = (tx: Effects, { key, slot }: Item, way: string) => void tx.rpush(`{${slot}}${namespace}-${way}`, key);
    const spec = {
      key: ({ key }: Item) => key,
      slot: ({ slot }: Item) => slot,
      handler: (item: Item, { tx }: { tx: Effects }) => write(tx, item, 'once'),
    };
    const entries = items.map((item) => ({ ...item, write: (tx: Effects) => write(tx, item, 'apply') }));
    const lists = await Promise.all([
      ...[one, two].map((dedup) => dedup.onceMany(items, spec)),
      ...[one, two].map((dedup) => dedup.scope('apply').applyMany(entries)),
    ]);
    for (const [index] of items.entries()) {
      const told = lists.map((list) => list[index]?.status);
      expect(told.slice(0, 2).sort()).toEqual(['executed', 'replayed']);
      expect(told.slice(2).sort()).toEqual(['executed', 'replayed']);
    }
    const primary = new Client(servers.nodes, {});
    onTestFinished(() => primary.disconnect());
    for (const slot of new Set(items.map((item) => item.slot))) {
      const expected = items.filter((item) => item.slot === slot).map(({ key }) => key);
      for (const way of ['once', 'apply']) {
        const there = await primary.lrange(`{${slot}}${namespace}-${way}`, 0, -1);
        expect(there.sort()).toEqual(expected.sort());
      }
    }
  });
});

/** On all servers together. */
async function subscribers(channel: string): Promise<number> {
  const counts = await Promise.all(servers.servers.map(({ admin }) => admin.pubsub('NUMSUB', channel)));
  return counts.reduce<number>((sum, reply) => sum + Number((reply as unknown[])[1]), 0);
}
