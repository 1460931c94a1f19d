/** Effects in a Cluster of three primaries: they land in their record's slot, and nothing crosses slots. */
import { Socket } from 'node:net';
import calculateSlot from 'cluster-key-slot';
import type { Cluster } from 'ioredis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Effects } from '../../src/index.js';
import {
  type ClusterOptions,
  connect,
  connectCluster as connectTo,
  expectCode,
  expectRanOnce,
  freshNamespace,
  heldHandler,
  makeDedup,
  until,
} from '../support/index.js';
import { type RedisCluster, startCluster } from '../support/redis/cluster.js';

let servers: RedisCluster;
beforeAll(async () => {
  servers = await startCluster();
});
afterAll(() => servers.stop());

function connectCluster(keyPrefix = '', options: ClusterOptions = {}): Cluster {
  return connectTo(servers.nodes, { keyPrefix, ...options });
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

/** How many script calls the servers have run, and with how many keys, since they were last asked. */
async function scriptCalls(cluster: Cluster): Promise<number[]> {
  return Promise.all(
    cluster.nodes('master').map(async (node) => {
      const calls = /cmdstat_evalsha:calls=(\d+)/.exec(await node.info('commandstats'))?.[1];
      await node.config('RESETSTAT');
      return Number(calls ?? 0);
    }),
  );
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, number) => all + number, 0);
const FORTY = Array.from({ length: 40 }, (_, index) => `k${index}`);

describe.each<[string, ClusterOptions]>([
  ['', {}],
  [', with a keyPrefix', { keyPrefix: 'app:' }],
  [', with a keyPrefix of the servers', { redisOptions: { keyPrefix: 'app:' } }],
])('calls of one tick%s', (_what, options) => {
  test('on keys of one slot are one list', async () => {
    const cluster = connectCluster('', options);
    const dedup = makeDedup({}, cluster).with({ slot: 'one' });
    await dedup.once('warm', () => 1);
    await scriptCalls(cluster);
    const spec = { key: (key: string) => key, handler: (key: string) => key };
    expect(new Set((await dedup.onceMany(FORTY, spec)).map(({ status }) => status))).toEqual(new Set(['executed']));
    expect(sum(await scriptCalls(cluster))).toBe(2);
    expect(new Set((await dedup.onceMany(FORTY, spec)).map(({ status }) => status))).toEqual(new Set(['replayed']));
    expect(sum(await scriptCalls(cluster))).toBe(1);
  });
});

test('calls of one tick on keys of many slots are one call each, in one write a server', async () => {
  const cluster = connectCluster();
  const dedup = makeDedup({}, cluster);
  const call = () => Promise.all(FORTY.map((key) => dedup.once(key, () => key)));
  await call();
  await scriptCalls(cluster);
  const ports = new Set(servers.nodes.map(({ port }) => port));
  const writes: number[] = [];
  const raw = Socket.prototype as unknown as Record<'_write' | '_writev', (...args: unknown[]) => unknown>;
  for (const name of ['_write', '_writev'] as const) {
    const write = raw[name];
    const spy = vi.spyOn(raw, name).mockImplementation(function (this: unknown, ...args: unknown[]) {
      const { remotePort } = this as Socket;
      if (ports.has(remotePort as number)) writes.push(remotePort as number);
      return write.apply(this, args);
    });
    onTestFinished(() => spy.mockRestore());
  }
  expect(await call()).toEqual(FORTY);
  expect(writes.sort()).toEqual([...ports].sort());
  expect(sum(await scriptCalls(cluster))).toBe(FORTY.length);
});

test('a client that pipelines by itself runs calls of many slots, once each', async () => {
  const dedup = makeDedup({}, connectCluster('', { enableAutoPipelining: true }));
  let runs = 0;
  for (const round of [1, 2]) {
    const call = (key: string) => dedup.once(key, () => ++runs);
    await Promise.all(FORTY.map(call));
    expect([round, runs]).toEqual([round, FORTY.length]);
  }
});

test('a list whose slot is being moved is split at once: what is there is answered, what is not is claimed where it goes', async () => {
  const namespace = freshNamespace();
  const cluster = connectCluster('', { retryDelayOnTryAgain: 60_000 });
  const dedup = makeDedup({ namespace }, cluster).with({ slot: 'split' });
  await dedup.once('there', () => 'before');
  const slot = String(calculateSlot('split'));
  const owners = await Promise.all(
    cluster.nodes('master').map(async (node) => ({
      node,
      id: String(await node.call('CLUSTER', 'MYID')),
      isOwner: (await node.call('CLUSTER', 'COUNTKEYSINSLOT', slot)) === 1,
    })),
  );
  const [source, target] = [owners.find(({ isOwner }) => isOwner), owners.find(({ isOwner }) => !isOwner)];
  await target?.node.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(source?.id));
  await source?.node.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(target?.id));
  onTestFinished(async () => {
    for (const { node } of owners) await node.call('CLUSTER', 'SETSLOT', slot, 'STABLE');
  });
  await source?.node.config('RESETSTAT');
  const outcomes = await dedup.onceMany(['there', 'new'], { key: (key) => key, handler: () => 'now' });
  expect(outcomes).toMatchObject([
    { status: 'replayed', value: 'before' },
    { status: 'executed', value: 'now' },
  ]);
  expect(String(await source?.node.info('errorstats'))).toContain('errorstat_TRYAGAIN:count=1');
});

describe.each(['', 'app:', '{app}:'])('a set of seen ids with keyPrefix `%s`', (keyPrefix) => {
  const ids = Array.from({ length: 500 }, (_, at) => `id-${at}`);

  test('spreads its shards over the slots, each with all its buckets, and is sure of every answer', async () => {
    const [namespace, plain] = [freshNamespace(), connectCluster()];
    const set = makeDedup({ namespace }, connectCluster(keyPrefix)).seen('events', { capacity: 10_000 });
    expect((await set.addMany(ids)).every(Boolean)).toBe(true);
    expect((await set.addMany(ids)).some(Boolean)).toBe(false);
    expect(await set.add('another')).toBe(true);
    expect(await set.add('another')).toBe(false);
    expect(await set.has('a third')).toBe(false);
    const slots = new Set((await keysOf(plain, namespace)).map((key) => calculateSlot(key)));
    if (keyPrefix === '{app}:') expect(slots.size).toBe(1);
    else expect(slots.size).toBeGreaterThan(20);
  });

  test('with a slot of its own is in that slot', async () => {
    const [namespace, plain] = [freshNamespace(), connectCluster()];
    const set = makeDedup({ namespace }, connectCluster(keyPrefix)).seen('events', { slot: 'mine', capacity: 10_000 });
    expect((await set.addMany(ids)).every(Boolean)).toBe(true);
    expect((await set.addMany(ids)).some(Boolean)).toBe(false);
    const keys = await keysOf(plain, namespace);
    expect(keys.length).toBeGreaterThan(20);
    expect(new Set(keys.map((key) => calculateSlot(key)))).toEqual(new Set([calculateSlot(`${keyPrefix}{mine}`)]));
  });

  test('marks ids and records in the slot that both have, and in no other', async () => {
    const namespace = freshNamespace();
    const dedup = makeDedup({ namespace }, connectCluster(keyPrefix));
    const [set, spread] = [dedup.seen('mine', { slot: 'mine' }), dedup.seen('spread')];
    const view = dedup.with({ slot: 'mine' });
    await view.once('k', ({ tx }) => void tx.seen(set, 'a'));
    await view.apply('l', (tx) => void tx.seen(set, 'b'));
    expect(await set.addMany(['a', 'b', 'c'])).toEqual([false, false, true]);
    const marked = view.with({ record: set });
    expect(await marked.run('m', () => 1)).toMatchObject({ status: 'executed', value: undefined });
    expect(await marked.run('m', () => 1)).toMatchObject({ status: 'replayed', value: undefined });
    await marked.forget('m');
    expect(await marked.run('m', () => 1)).toMatchObject({ status: 'replayed', attempt: 0 });
    expect(await marked.apply('m2', () => {})).toMatchObject({ status: 'executed' });
    await marked.forget('m2');
    expect(await marked.apply('m2', () => {})).toMatchObject({ status: 'replayed', attempt: 0 });
    // With a tag of its own the prefix decides alone, and every set is in the slot.
    const isTagged = keyPrefix.includes('{');
    const crossing = [
      () => view.once('x', ({ tx }) => void tx.seen(spread, 'a')),
      () => view.apply('y', (tx) => void tx.seen(spread, 'a')),
      () => view.once('z', () => {}, { record: spread }),
      () => dedup.once('z', () => {}, { record: set }),
      () => view.apply('zz', () => {}, { record: spread }),
    ];
    for (const call of crossing) {
      if (isTagged) await call();
      else await expectCode<'CROSS_SLOT'>(call(), 'CROSS_SLOT');
    }
  });

  test('whose options differ is refused, wherever its shards are', async () => {
    const namespace = freshNamespace();
    await makeDedup({ namespace }, connectCluster(keyPrefix)).seen('events').add('a');
    const other = makeDedup({ namespace }, connectCluster(keyPrefix)).seen('events', { capacity: 5 });
    await expectCode(other.add('a'), 'INVALID_OPTION');
  });
});

test('a mark that is found after the connection to its node has dropped may be of this very call: unknown', async () => {
  const set = makeDedup({}, connectCluster()).seen('events', { slot: 'mine' });
  expect(await set.add('a')).toBe(true);
  const admins = servers.nodes.map(({ host, port }) => connect({}, `redis://${host}:${port}`));
  for (const admin of admins) await admin.call('CLIENT', 'PAUSE', '20000', 'WRITE');
  const again = set.add('a').catch((error: Error) => error);
  const lists = () => Promise.all(admins.map((admin) => admin.call('CLIENT', 'LIST')));
  await until(async () => /flags=b .*cmd=eval/.test(String(await lists())));
  for (const admin of admins) await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  for (const admin of admins) await admin.call('CLIENT', 'UNPAUSE');
  expect(await again).toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  expect(await set.add('a')).toBe(false);
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
  await source?.node.config('RESETSTAT');
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
