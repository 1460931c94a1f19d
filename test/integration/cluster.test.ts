/** Effects in a Cluster of three primaries: they land in their record's slot, and nothing crosses slots. */
import calculateSlot from 'cluster-key-slot';
import { Cluster } from 'ioredis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Effects } from '../../src/index.js';
import { expectCode, expectRanOnce, freshNamespace, heldHandler, makeDedup, until } from '../support/index.js';
import { type RedisCluster, startCluster } from '../support/redis/cluster.js';

let servers: RedisCluster;
beforeAll(async () => {
  servers = await startCluster();
});
afterAll(() => servers.stop());

function connectCluster(keyPrefix = ''): Cluster {
  const cluster = new Cluster(servers.nodes, { keyPrefix });
  cluster.on('error', () => {});
  onTestFinished(() => cluster.disconnect());
  return cluster;
}

/** All keys of the namespace, over all nodes. */
async function keysOf(cluster: Cluster, namespace: string): Promise<string[]> {
  const pages = await Promise.all(cluster.nodes('master').map((node) => node.keys(`*${namespace}*`)));
  return pages.flat().sort();
}

describe.each(['', 'app:', '{app}:'])('with keyPrefix `%s`,', (keyPrefix) => {
  function stage() {
    const namespace = freshNamespace();
    const plain = connectCluster();
    return { namespace, plain, dedup: makeDedup({ namespace }, connectCluster(keyPrefix)) };
  }
  /** With a tag of its own the prefix decides alone, and every key is in its slot. */
  const isTagged = keyPrefix.includes('{');

  test.each(['once', 'apply'] as const)('effects of `%s` land beside their record, in its slot', async (way) => {
    const { namespace, plain, dedup } = stage();
    const tags = ['a', 'b', 'c', 'd', 'e', 'f'];
    const outcomes = await Promise.all(
      tags.flatMap((slot) => {
        const write = (tx: Effects) => {
          tx.require.absent(`{${slot}}${namespace}-none`).incrby(`{${slot}}${namespace}-data`, 7);
          tx.rpush(`{${slot}}${namespace}-list`, slot);
        };
        const call = () =>
          way === 'once' ? dedup.run('k', ({ tx }) => write(tx), { slot }) : dedup.apply('k', write, { slot });
        return [call(), call()];
      }),
    );
    expect(outcomes.filter(({ status }) => status === 'executed')).toHaveLength(tags.length);
    const parts = (slot: string) => [
      `{${slot}}:${namespace}:k`,
      `{${slot}}${namespace}-data`,
      `{${slot}}${namespace}-list`,
    ];
    expect(await keysOf(plain, namespace)).toEqual(
      tags
        .flatMap(parts)
        .map((key) => keyPrefix + key)
        .sort(),
    );
    for (const slot of tags) {
      expect(new Set(parts(slot).map((key) => calculateSlot(keyPrefix + key))).size).toBe(1);
      expect(await plain.get(`${keyPrefix}{${slot}}${namespace}-data`)).toBe('7');
      expect(await plain.lrange(`${keyPrefix}{${slot}}${namespace}-list`, 0, -1)).toEqual([slot]);
    }
    if (!isTagged) expect(new Set(tags.map((slot) => calculateSlot(slot) >> 12)).size).toBeGreaterThan(1);
  });

  test.skipIf(isTagged)(
    'a key of another slot is refused by the call on `tx` itself, and nothing is written',
    async () => {
      const { namespace, plain, dedup } = stage();
      const write = (tx: Effects) => {
        tx.incr(`{a}${namespace}-data`);
        expect(() => tx.incr(`{b}${namespace}-data`)).toThrow(/slot of the record/);
        expect(() => tx.require.exists(`${namespace}-data`)).toThrow(/slot of the record/);
        tx.del(`{a}${namespace}-x`, `{b}${namespace}-data`);
      };
      await expectCode(
        dedup.once('once', ({ tx }) => write(tx), { slot: 'a' }),
        'CROSS_SLOT',
      );
      await expectCode(dedup.apply('apply', write, { slot: 'a' }), 'CROSS_SLOT');
      await expectCode(
        dedup.apply('bare', (tx) => void tx.incr('elsewhere')),
        'CROSS_SLOT',
      );
      // The handler's claim is given back; of `apply` nothing was sent.
      expect(await keysOf(plain, namespace)).toEqual([`${keyPrefix}{a}:${namespace}:once`]);
      expect(await dedup.inspect('once', { slot: 'a' })).toMatchObject({ state: 'released' });
    },
  );

  test('without a slot, keys that carry the key of the record as their tag are in its slot', async () => {
    const { namespace, plain, dedup } = stage();
    for (const key of ['one', 'two', 'three']) {
      // The record has no tag of its own: what is hashed is its whole name, with the prefix.
      const data = isTagged ? `data-${namespace}-${key}` : `{${keyPrefix}${namespace}:${key}}-data`;
      if (!isTagged && keyPrefix !== '')
        expect(calculateSlot(keyPrefix + data)).toBe(calculateSlot(`${keyPrefix}${namespace}:${key}`));
      await dedup.once(key, ({ tx }) => void tx.set(data, key));
      expect(await plain.get(keyPrefix + data)).toBe(key);
      expect(await dedup.apply(`${key}`, (tx) => void tx.set(data, 'x')).catch(({ code }) => code)).toBe(
        'INVALID_OPTION',
      );
    }
  });

  test('`applyMany` and `onceMany` over several slots write each entry once', async () => {
    const { namespace, plain, dedup } = stage();
    const items = Array.from({ length: 60 }, (_, index) => ({ key: `k${index}`, slot: `tag${index % 12}` }));
    const write = (tx: Effects, { key, slot }: { key: string; slot: string }) =>
      void tx.rpush(`{${slot}}${namespace}-data`, key);
    for (const status of ['executed', 'replayed']) {
      const applied = await dedup.applyMany(items.map((item) => ({ ...item, write: (tx) => write(tx, item) })));
      expect(applied.map((outcome) => outcome.status)).toEqual(items.map(() => status));
      const ran = await dedup.scope('many').onceMany(items, {
        key: ({ key }) => key,
        slot: ({ slot }) => slot,
        handler: (item, { tx }) => write(tx, item),
      });
      expect(ran.map((outcome) => outcome.status)).toEqual(items.map(() => status));
    }
    for (let tag = 0; tag < 12; tag += 1) {
      const expected = items.filter(({ slot }) => slot === `tag${tag}`).flatMap(({ key }) => [key, key]);
      const there = await plain.lrange(`${keyPrefix}{tag${tag}}${namespace}-data`, 0, -1);
      expect(there.sort()).toEqual(expected.sort());
    }
  });

  test('callers on two connections run once, and one that waits is told', async () => {
    const namespace = freshNamespace();
    const dedups = [1, 2].map(() => makeDedup({ namespace }, connectCluster(keyPrefix)));
    const { handler, started, release } = heldHandler('value');
    const first = dedups[0]?.run('k', handler, { slot: 'a' });
    await started;
    const second = dedups[1]?.run('k', () => 'never', { slot: 'a' });
    release();
    expectRanOnce((await Promise.all([first, second])).flatMap((outcome) => outcome ?? []));
  });
});

test('a list that removes a key and makes it again waits while its slot is moved, and no half of it is made', async () => {
  const namespace = freshNamespace();
  const cluster = connectCluster();
  const dedup = makeDedup({ namespace }, cluster);
  const [slot, data] = ['moved', `{moved}${namespace}-data`];
  const number = String(calculateSlot(data));
  await cluster.rpush(data, 'old');
  const owners = await Promise.all(
    cluster.nodes('master').map(async (node) => ({
      node,
      id: String(await node.call('CLUSTER', 'MYID')),
      isOwner: (await node.call('CLUSTER', 'COUNTKEYSINSLOT', number)) === 1,
    })),
  );
  const source = owners.find(({ isOwner }) => isOwner);
  const target = owners.find(({ isOwner }) => !isOwner);
  const setSlot = (...args: string[]) => source?.node.call('CLUSTER', 'SETSLOT', number, ...args);
  const call = dedup.once(
    'k',
    async ({ tx }) => {
      tx.incr(`${data}-n`).del(data).rpush(data, 'new');
      await cluster.incr(`${data}-n`);
      await setSlot('MIGRATING', target?.id as string);
    },
    { slot },
  );
  const isPutOff = async () => /errorstat_(TRYAGAIN|ASK):/.test(String(await source?.node.info('errorstats')));
  await until(isPutOff);
  expect(await source?.node.call('EVAL', "return redis.call('LRANGE', KEYS[1], 0, -1)", '1', data)).toEqual(['old']);
  await setSlot('STABLE');
  await call;
  expect(await cluster.lrange(data, 0, -1)).toEqual(['new']);
  expect(await cluster.get(`${data}-n`)).toBe('2');
  expect(await dedup.inspect('k', { slot })).toMatchObject({ state: 'completed', attempt: 1 });
});
