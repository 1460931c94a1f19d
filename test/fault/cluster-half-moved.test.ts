/**
 * A slot of a Cluster that is half moved, for a moment and for longer than the client waits: what is there is answered,
 * what is not waits until the slot has moved or the call gives up, and no half of a call is made.
 */
import calculateSlot from 'cluster-key-slot';
import type { Cluster } from 'ioredis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Dedup, Effects } from '../../src/index.js';
import {
  type ClusterOptions,
  connectCluster,
  expectCode,
  freshNamespace,
  gate,
  makeDedup,
  until,
} from '../support/index.js';
import { type RedisCluster, startCluster } from '../support/redis/cluster.js';
import { SlotMove } from '../support/redis/reshard.js';

let servers: RedisCluster;
beforeAll(async () => {
  servers = await startCluster();
});
afterAll(() => servers.stop());

/** A client that gives a slot in motion up sooner than the library does. */
const HASTY: ClusterOptions = { retryDelayOnTryAgain: 5, retryDelayOnClusterDown: 5, maxRedirections: 3 };

interface Stage {
  readonly namespace: string;
  readonly cluster: Cluster;
  /** Its calls are in the slot, and can wait. */
  readonly dedup: Dedup;
  /** The same, and cannot. */
  readonly impatient: Dedup;
  /** The name of a key in the slot. */
  readonly data: (name: string) => string;
  readonly begin: () => Promise<SlotMove>;
}

function stage(client: ClusterOptions = HASTY): Stage {
  const namespace = freshNamespace();
  const cluster = connectCluster(servers.nodes, client);
  const dedup = (redisTimeout: number) => makeDedup({ namespace, redisTimeout }, cluster).with({ slot: namespace });
  return {
    namespace,
    cluster,
    dedup: dedup(20_000),
    impatient: dedup(1_000),
    data: (name) => `{${namespace}}${name}`,
    begin: async () => {
      const move = await SlotMove.begin(servers, calculateSlot(`{${namespace}}`));
      for (const { admin } of [move.source, move.target]) await admin.config('RESETSTAT');
      // Whatever the test came to, the slot is whole for the next one.
      onTestFinished(() => move.finish());
      return move;
    },
  };
}

/** How often the two have refused since the move began. */
async function refusals({ source, target }: SlotMove, code: string): Promise<number> {
  const counts = [source, target].map(async ({ admin }) => {
    return Number(new RegExp(`errorstat_${code}:count=(\\d+)`).exec(await admin.info('errorstats'))?.[1] ?? 0);
  });
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

describe.each(['begins to move', 'has moved but for its name'])(
  'of two commits in one list, on a slot that %s, the first removes a key and the second',
  (where) => {
    const values = (cluster: Cluster, key: string) => cluster.lrange(key, 0, -1);
    const value = (cluster: Cluster, key: string) => cluster.get(key);
    type Write = (tx: Effects, key: string, count: string) => unknown;
    test.each<[string, Write, (cluster: Cluster, key: string) => Promise<unknown>, unknown, count: number]>([
      ['sets it', (tx, key) => tx.set(key, 'new'), value, 'new', 0],
      ['sets it, after another write', (tx, key, count) => tx.incr(count).set(key, 'new'), value, 'new', 1],
      ['adds to it', (tx, key) => tx.rpush(key, 'new'), values, ['new'], 0],
      ['adds to it, after another write', (tx, key, count) => tx.incr(count).rpush(key, 'new'), values, ['new'], 1],
      ['removes it, after another write', (tx, key, count) => tx.incr(count).del(key), value, null, 1],
      ['removes it and another', (tx, key, count) => tx.incr(count).del(key, `${key}-2`), value, null, 1],
    ])('%s: each is made whole, once', async (_what, write, read, expected, count) => {
      const { cluster, dedup, data, begin } = stage();
      await cluster.rpush(data('key'), 'old');
      await cluster.set(data('key-2'), 'old');
      await cluster.set(data('count'), 0);
      const [removing, writing, both] = [gate(), gate(), gate()];
      let settled = false;
      const calls = dedup
        .onceMany(['removes', 'writes'], {
          key: (key) => key,
          handler: async (key, { tx }) => {
            if (key === 'removes') tx.del(data('key'));
            else write(tx, data('key'), data('count'));
            (key === 'removes' ? removing : writing).open();
            await both.opened;
          },
        })
        .finally(() => {
          settled = true;
        });
      await Promise.all([removing.opened, writing.opened]);
      const move = await begin();
      if (where !== 'begins to move') await move.moveKeys();
      both.open();
      await until(async () => settled || (await refusals(move, 'TRYAGAIN')) > 0);
      await move.finish();
      expect(await calls).toMatchObject([
        { status: 'executed', attempt: 1 },
        { status: 'executed', attempt: 1 },
      ]);
      expect(await read(cluster, data('key'))).toEqual(expected);
      expect(await cluster.get(data('count'))).toBe(String(count));
      for (const key of ['removes', 'writes']) expect(await dedup.inspect(key)).toMatchObject({ state: 'completed' });
    });
  },
);

describe.each<[string, ClusterOptions]>([
  ['gives up sooner', HASTY],
  ['would wait longer', { retryDelayOnTryAgain: 60_000 }],
])('on a slot that stays half moved, with a client that %s,', (_which, client) => {
  const halves: [string, (stage: Stage, move: SlotMove) => Promise<unknown>][] = [
    ['no data moved', async () => {}],
    ['some data moved', ({ data }, move) => move.move(data('total'))],
    ['all data moved', ({ data }, move) => move.move(data('total'), data('ledger'))],
  ];
  const write =
    ({ data }: Stage) =>
    (tx: Effects) =>
      tx.incrby(data('total'), 7).rpush(data('ledger'), 'seven');
  const prepare = async () => {
    const here = stage(client);
    const { cluster, dedup, data } = here;
    await dedup.once('warm', ({ tx }) => void tx.set(data('total'), 0).rpush(data('ledger'), 'first'));
    return {
      ...here,
      sums: async () => [Number(await cluster.get(data('total'))), await cluster.llen(data('ledger'))],
    };
  };

  /** Each half in a slot of its own, all at once: what they wait for is the deadline. */
  const eachHalf = (
    part: typeof halves,
    life: (here: Awaited<ReturnType<typeof prepare>>, move: SlotMove) => Promise<void>,
  ) =>
    Promise.all(
      part.map(async ([_what, half]) => {
        const here = await prepare();
        const move = await here.begin();
        await half(here, move);
        await life(here, move);
      }),
    );

  test('however much has moved, `apply` surely does nothing, alone and in lists, and is made once when all has', () =>
    eachHalf(halves, async (here, move) => {
      const { dedup, impatient, sums } = here;
      const entries = ['b', 'c'].map((key) => ({ key, write: write(here) }));
      const [alone, list] = await Promise.all([
        expectCode(impatient.apply('a', write(here)), 'STORE_UNAVAILABLE'),
        impatient.applyMany(entries),
      ]);
      expect(alone.message).toContain('nothing was applied');
      expect(list).toMatchObject(entries.map(() => ({ status: 'failed', error: { code: 'STORE_UNAVAILABLE' } })));
      await move.finish();
      expect(await sums()).toEqual([0, 1]);
      expect(await dedup.apply('a', write(here))).toMatchObject({ status: 'executed', attempt: 1 });
      expect(await dedup.applyMany(entries)).toMatchObject([{ status: 'executed' }, { status: 'executed' }]);
      expect(await sums()).toEqual([21, 4]);
    }));

  test('where its data are elsewhere, the result of `once` is surely not stored, its claim is given back, and it runs again', () =>
    eachHalf(halves.slice(0, 2), async (here, move) => {
      const { dedup, impatient, sums } = here;
      const vain = impatient.once('k', ({ tx }) => void write(here)(tx));
      expect((await expectCode(vain, 'STORE_UNAVAILABLE')).message).toContain('the claim is released');
      await move.finish();
      expect(await sums()).toEqual([0, 1]);
      expect(await dedup.run('k', ({ tx }) => void write(here)(tx))).toMatchObject({ status: 'executed', attempt: 2 });
      expect(await sums()).toEqual([7, 2]);
    }));

  test('with all data moved, `once` is made where they are: its record is made there as well', async () => {
    const here = await prepare();
    const { dedup, begin, sums, data } = here;
    const move = await begin();
    await move.move(data('total'), data('ledger'));
    expect(await dedup.run('k', ({ tx }) => void write(here)(tx))).toMatchObject({ status: 'executed', attempt: 1 });
    await move.finish();
    expect(await sums()).toEqual([7, 2]);
    expect(await dedup.run('k', () => {})).toMatchObject({ status: 'replayed' });
  });

  test.each(halves)('with %s, calls that can wait are made when it has moved', async (_what, half) => {
    const here = await prepare();
    const { dedup, begin, sums } = here;
    const move = await begin();
    await half(here, move);
    const calls = [
      dedup.apply('a', write(here)),
      dedup.run('k', ({ tx }) => void write(here)(tx)),
      ...['b', 'c'].map((key) => dedup.apply(key, write(here))),
    ];
    // More often than the hasty client asks by itself.
    await until(async () => (await refusals(move, 'TRYAGAIN')) > 20);
    await move.finish();
    for (const outcome of await Promise.all(calls)) expect(outcome).toMatchObject({ status: 'executed', attempt: 1 });
    expect(await sums()).toEqual([28, 5]);
  });

  test('keys without effects, and what is inspected, renewed and forgotten, do not wait', async () => {
    const { dedup, begin, namespace, cluster } = await prepare();
    const keys = Array.from({ length: 30 }, (_, index) => `k${index}`);
    const spec = { key: (key: string) => key, handler: (key: string) => key };
    await dedup.onceMany(keys.slice(0, 20), spec);
    const held = gate();
    const short = makeDedup({ namespace, lease: '1s' }, cluster).with({ slot: namespace });
    const running = short.run('held', () => held.opened);
    const leftOf = async () => (await short.inspect('held'))?.leaseRemainingMs ?? 0;
    await until(async () => (await leftOf()) > 0);
    const move = await begin();
    await move.moveKeys(10);
    const outcomes = await dedup.onceMany(keys, spec);
    expect(outcomes.map(({ status }) => status)).toEqual(keys.map((_, at) => (at < 20 ? 'replayed' : 'executed')));
    for (const key of keys) expect(await dedup.inspect(key)).toMatchObject({ state: 'completed' });
    expect(await Promise.all(keys.map((key) => dedup.forget(key)))).toEqual(keys.map(() => true));
    for (const key of keys) expect(await dedup.inspect(key)).toBeNull();
    await move.moveKeys();
    // Only a renewal makes it longer, and only where the record is now.
    let [before, now] = [Number.POSITIVE_INFINITY, await leftOf()];
    while (now <= before) [before, now] = [now, await leftOf()];
    held.open();
    expect(await running).toMatchObject({ status: 'executed', attempt: 1 });
  });

  test('a set of seen ids says that it was not asked, marks nothing, and goes on when the slot has moved', async () => {
    const { dedup, impatient, namespace, begin } = await prepare();
    expect(await dedup.seen('ids', { slot: namespace }).add('a')).toBe(true);
    const move = await begin();
    await expectCode(impatient.seen('ids', { slot: namespace }).add('b'), 'STORE_UNAVAILABLE');
    await move.finish();
    const seen = dedup.seen('ids', { slot: namespace });
    expect([await seen.add('a'), await seen.add('b')]).toEqual([false, true]);
  });
});

test('a user who may do no more than is documented reaches what has moved already', async () => {
  const { namespace, cluster, data, begin } = stage();
  const rights =
    '+evalsha +eval +get +set +setrange +pexpire +pttl +unlink +time +publish +subscribe +unsubscribe +info +ping +hello +auth +client +select +command';
  const inCluster = '+cluster +asking +type +persist +incrby';
  const patterns = [`~${namespace}:*`, `~{*}:${namespace}:*`, `~${data('*')}`, 'resetchannels', `&${namespace}::hints`];
  const words = ['app', 'on', '>secret', 'resetkeys', ...patterns, '-@all', ...`${rights} ${inCluster}`.split(' ')];
  for (const { admin } of servers.servers) await admin.call('ACL', 'SETUSER', ...words);
  const limited = connectCluster(servers.nodes, { ...HASTY, redisOptions: { username: 'app', password: 'secret' } });
  const dedup = makeDedup({ namespace, hints: 'poll' }, limited).with({ slot: namespace });
  await dedup.once('warm', ({ tx }) => void tx.incrby(data('total'), 1));
  const move = await begin();
  await move.moveKeys();
  expect(await dedup.run('k', ({ tx }) => void tx.incrby(data('total'), 1))).toMatchObject({ status: 'executed' });
  await move.finish();
  expect(await cluster.get(data('total'))).toBe('2');
});

test('a client that does not know yet that a slot has moved is led there, alone and by lists, and nothing is made twice', async () => {
  const { dedup, cluster, data, begin } = stage({ slotsRefreshInterval: 0 });
  const write = (tx: Effects) => void tx.incr(data('count'));
  await dedup.apply('before', write);
  await (await begin()).finish();
  expect(await dedup.apply('before', write)).toMatchObject({ status: 'replayed' });
  await (await begin()).finish();
  const entries = ['a', 'b', 'c'].map((key) => ({ key, write }));
  expect((await dedup.applyMany(entries)).map(({ status }) => status)).toEqual(['executed', 'executed', 'executed']);
  await (await begin()).finish();
  expect(await dedup.run('once', ({ tx }) => write(tx))).toMatchObject({ status: 'executed', attempt: 1 });
  expect(await cluster.get(data('count'))).toBe('5');
});
