/** Ids that are marked together with a completed record, and records that are such marks. */
import { describe, expect, test } from 'vitest';
import { type Codec, Dedup, type Effects, type SeenSet } from '../../src/index.js';
import {
  connect,
  describeOnEachServer,
  expectCode,
  expectRanOnce,
  freshNamespace,
  gate,
  heldHandler,
  keysOf,
  makeDedup,
  ownRedis,
} from '../support/index.js';

/** As if the time for resends had passed. */
async function expireRecord(dedup: Dedup, redis: ReturnType<typeof connect>, key: string): Promise<void> {
  const info = await dedup.inspect(key);
  expect(info?.expiresInMs).toBeLessThanOrEqual(60_000);
  expect(await redis.unlink(info?.redisKey as string)).toBe(1);
}

const never = () => expect.fail('the handler must not run');

describeOnEachServer('tx.seen', (version) => {
  async function world() {
    const redis = connect({}, version ? await ownRedis([], version) : undefined);
    const namespace = freshNamespace();
    const dedup = makeDedup({ namespace }, redis);
    return { redis, namespace, dedup, set: dedup.seen('events', { capacity: 1 }), data: `data-${namespace}` };
  }
  type World = Awaited<ReturnType<typeof world>>;
  const WAYS: ['once' | 'apply', (world: World, key: string, write: (tx: Effects) => void) => Promise<unknown>][] = [
    ['once', ({ dedup }, key, write) => dedup.once(key, ({ tx }) => write(tx))],
    ['apply', ({ dedup }, key, write) => dedup.apply(key, write)],
  ];

  describe.each(WAYS)('of `%s`', (_way, call) => {
    test('marks its ids with the commit', async () => {
      const here = await world();
      const { set, redis, data } = here;
      await set.add('old');
      await call(here, 'k', (tx) => void tx.seen(set, 'a').incr(data).seen(set, 'old').seen(set, 'b'));
      expect(await set.addMany(['a', 'b', 'old', 'c'])).toEqual([false, false, false, true]);
      expect(await redis.get(data)).toBe('1');
      await call(here, 'k', (tx) => void tx.seen(set, 'd'));
      expect(await set.has('d')).toBe(false);
    });

    test('marks nothing where another write cannot succeed, or a condition does not hold', async () => {
      const here = await world();
      const { set, redis, data } = here;
      await redis.set(data, 'text');
      const rejected = await expectCode(
        call(here, 'k', (tx) => void tx.seen(set, 'a').seen(set, 'b').incr(data)),
        'EFFECT_REJECTED',
      );
      expect(rejected).toMatchObject({ index: 2, command: 'incr' });
      const failed = await expectCode(
        call(here, 'k', (tx) => void tx.seen(set, 'a').require.exists(data).require.absent(data)),
        'CONDITION_FAILED',
      );
      expect(failed.index).toBe(1);
      expect(await set.has('a')).toBe(false);
    });

    test('is rejected where a foreign value stands in the place of a bucket, and nothing is applied', async () => {
      const here = await world();
      const { set, redis, data, namespace } = here;
      for (const bucket of [0, 1, 2, 3]) {
        const place = `{0}:${namespace}::seen:events:${bucket}`;
        await redis.set(place, 'foreign');
        const error = await expectCode(
          call(here, `k${bucket}`, (tx) => void tx.incr(data).seen(set, 'a')),
          'EFFECT_REJECTED',
        );
        expect(error).toMatchObject({ index: 1, command: 'seen', reason: 'wrong_type' });
        await redis.unlink(place);
      }
      expect(await redis.exists(data)).toBe(0);
      expect(await set.has('a')).toBe(false);
    });

    test('applies nothing where others use the set with other options', async () => {
      const here = await world();
      const { set, redis, data, namespace } = here;
      await makeDedup({ namespace }, redis).seen('events', { window: '1h' }).add('a');
      await expectCode(
        call(here, 'k', (tx) => void tx.incr(data).seen(set, 'a')),
        'INVALID_OPTION',
      );
      expect(await redis.exists(data)).toBe(0);
      expect((await here.dedup.inspect('k'))?.state).toBe(_way === 'once' ? 'released' : undefined);
    });

    test('takes sets of its own connection and ids alone', async () => {
      const here = await world();
      const { set, redis } = here;
      const others = [makeDedup().seen('events'), {}, null, 'events', undefined];
      for (const [index, other] of others.entries()) {
        await expectCode(
          call(here, `k${index}`, (tx) => void tx.seen(other as SeenSet, 'a')),
          'INVALID_OPTION',
        );
      }
      for (const [index, id] of [undefined, '', 7, 'x'.repeat(513)].entries()) {
        await expectCode(
          call(here, `id${index}`, (tx) => void tx.seen(set, id as string)),
          'INVALID_KEY',
        );
      }
      // Another Dedup on the same connection, in another namespace.
      const beside = makeDedup({}, redis).seen('events');
      await call(here, 'k', (tx) => void tx.seen(beside, 'a'));
      expect(await beside.has('a')).toBe(true);
    });
  });

  test('is 1 among the replies of `apply` where the id is new, and 0 where it was marked', async () => {
    const { set, dedup, data } = await world();
    await set.add('old');
    const write = (tx: Effects) => void tx.seen(set, 'a').seen(set, 'old').incr(data).seen(set, 'a').seen(set, 'b');
    expect((await dedup.apply('k', write)).replies).toEqual([1, 0, 1, 0, 1]);
    expect((await dedup.apply('k', write)).replies).toEqual([1, 0, 1, 0, 1]);
    expect((await dedup.apply('k2', write)).replies).toEqual([0, 0, 2, 0, 0]);
  });

  test('of several sets and shards in one commit marks each in its place', async () => {
    const { dedup } = await world();
    const sets = [dedup.seen('one'), dedup.seen('two', { buckets: 5 }), dedup.scope('s').seen('one')];
    const ids = Array.from({ length: 50 }, (_, at) => `id-${at}`);
    await dedup.once('k', ({ tx }) => {
      for (const id of ids) for (const set of sets) tx.seen(set, `${set.name}${id}`);
    });
    for (const set of sets) {
      expect(await set.addMany(ids.map((id) => `${set.name}${id}`))).toEqual(ids.map(() => false));
      expect(await set.addMany(ids)).toEqual(ids.map(() => true));
    }
  });

  test('packs as `add` does, and its keys expire', async () => {
    const { redis, dedup, namespace } = await world();
    const set = dedup.seen('events', { window: '10s' });
    await dedup.once('k', ({ tx }) => void tx.seen(set, 'a'), { record: set });
    const marks = (await keysOf(redis, namespace)).filter((key) => key.startsWith('{'));
    expect(marks).toHaveLength(2);
    for (const key of marks) {
      expect(await redis.object('ENCODING', key)).toBe('intset');
      expect(await redis.pttl(key)).toBeGreaterThan(9_000);
      expect(await redis.pttl(key)).toBeLessThanOrEqual(15_000);
    }
  });

  test('cannot be used by a handler that runs without Redis', async () => {
    const redis = connect();
    const dedup = makeDedup({ onStoreFailure: 'proceed', redisTimeout: 100 }, redis);
    const set = dedup.seen('events');
    redis.disconnect();
    await expectCode(
      dedup.once('k', ({ tx }) => void tx.seen(set, 'a')),
      'STORE_UNAVAILABLE',
    );
    expect(await dedup.run('k', () => 'value', { record: set })).toMatchObject({
      status: 'bypassed',
      value: undefined,
    });
  });
});

describeOnEachServer('with `record: set`', (version) => {
  async function world() {
    const url = version ? await ownRedis([], version) : undefined;
    const [redis, other] = [connect({}, url), connect({}, url)];
    const namespace = freshNamespace();
    const dedup = makeDedup({ namespace }, redis);
    const beside = makeDedup({ namespace }, other);
    return { redis, namespace, dedup, set: dedup.seen('done'), beside, setBeside: beside.seen('done') };
  }

  test('a call runs once, returns nothing, and leaves its mark; its record goes after 60 s', async () => {
    const { redis, dedup, set, beside, setBeside } = await world();
    let runs = 0;
    const handler = () => ({ run: ++runs });
    const first = await dedup.run('k', handler, { record: set });
    expect(first).toMatchObject({ status: 'executed', attempt: 1 });
    expect(first.value).toBeUndefined();
    expect(await set.has('k')).toBe(true);
    expect(await dedup.run('k', handler, { record: set })).toMatchObject({ status: 'replayed', attempt: 1 });
    expect(await dedup.inspect('k')).toMatchObject({ state: 'completed', resultBytes: 0 });
    expect((await dedup.inspect('k'))?.expiresInMs).toBeGreaterThan(55_000);
    await expireRecord(dedup, redis, 'k');
    const late = await beside.run('k', handler, { record: setBeside });
    expect(late).toEqual({ status: 'replayed', value: undefined, attempt: 0, waitedMs: 0 });
    expect(await dedup.once('k', handler, { record: set })).toBeUndefined();
    expect(await dedup.inspect('k')).toBeNull();
    expect(runs).toBe(1);
  });

  test('callers at once run once, and those that wait get nothing too', async () => {
    const { dedup, beside, set, setBeside } = await world();
    const { handler, started, release, runs } = heldHandler('value');
    const first = dedup.run('k', handler, { record: set });
    await started;
    const waiting = [dedup.run('k', never, { record: set }), beside.run('k', never, { record: setBeside })];
    release();
    const outcomes = await Promise.all([first, ...waiting]);
    expectRanOnce(outcomes);
    expect(outcomes.map(({ value }) => value)).toEqual([undefined, undefined, undefined]);
    expect(runs()).toBe(1);
  });

  test('a handler that fails leaves no mark; a failure that is stored lives for the retention', async () => {
    const { dedup, set } = await world();
    const failing = () => Promise.reject(new Error('no'));
    await expect(dedup.once('k', failing, { record: set })).rejects.toThrow('no');
    expect(await set.has('k')).toBe(false);
    expect(await dedup.run('k', () => 1, { record: set })).toMatchObject({ status: 'executed', attempt: 2 });
    await expect(dedup.once('kept', failing, { record: set, onError: 'store' })).rejects.toThrow('no');
    await expectCode(dedup.once('kept', never, { record: set }), 'STORED_FAILURE');
    expect((await dedup.inspect('kept'))?.expiresInMs).toBeGreaterThan(23 * 3_600_000);
    expect(await set.has('kept')).toBe(false);
  });

  test('its writes on `tx`, its marks and its own mark are made together, or none', async () => {
    const { redis, dedup, set, namespace } = await world();
    const data = `data-${namespace}`;
    await redis.set(data, 'text');
    const write = (tx: Effects) => void tx.incr(`${data}:2`).seen(set, 'other').incr(data);
    const error = await expectCode(
      dedup.once('k', ({ tx }) => write(tx), { record: set }),
      'EFFECT_REJECTED',
    );
    expect(error).toMatchObject({ index: 2, command: 'incr' });
    await expectCode(dedup.apply('k2', write, { record: set }), 'EFFECT_REJECTED');
    expect(await redis.exists(`${data}:2`)).toBe(0);
    for (const id of ['k', 'k2', 'other']) expect(await set.has(id)).toBe(false);
    await redis.set(data, '1');
    await dedup.once('k', ({ tx }) => write(tx), { record: set });
    for (const id of ['k', 'other']) expect(await set.has(id)).toBe(true);
    expect(await redis.mget(data, `${data}:2`)).toEqual(['2', '1']);
  });

  test('a condition that does not hold is told by its own number', async () => {
    const { dedup, set, namespace } = await world();
    const write = (tx: Effects) => void tx.require.absent(`x${namespace}`).require.exists(`y${namespace}`);
    const once = dedup.once('k', ({ tx }) => write(tx), { record: set });
    expect((await expectCode(once, 'CONDITION_FAILED')).index).toBe(1);
    expect((await expectCode(dedup.apply('k2', write, { record: set }), 'CONDITION_FAILED')).index).toBe(1);
    expect(await set.has('k')).toBe(false);
    expect(await set.has('k2')).toBe(false);
  });

  test('`apply` writes once, also when its record is gone, and tells no replies', async () => {
    const { redis, dedup, beside, set, setBeside, namespace } = await world();
    const data = `data-${namespace}`;
    const write = (tx: Effects) => void tx.incr(data);
    expect(await dedup.apply('k', write, { record: set })).toEqual({ status: 'executed', replies: [], attempt: 1 });
    expect(await dedup.apply('k', write, { record: set })).toEqual({ status: 'replayed', replies: [], attempt: 1 });
    await expireRecord(dedup, redis, 'k');
    expect(await beside.apply('k', write, { record: setBeside })).toEqual({
      status: 'replayed',
      replies: [],
      attempt: 0,
    });
    const outcomes = await dedup.applyMany(
      ['k', 'l', 'm', 'l'].map((key) => ({ key, write })),
      { record: set },
    );
    expect(outcomes.map(({ status }) => status)).toEqual(['replayed', 'executed', 'executed', 'replayed']);
    expect(await redis.get(data)).toBe('3');
    expect(await set.addMany(['k', 'l', 'm', 'n'])).toEqual([false, false, false, true]);
  });

  test('an `apply` whose attempts are exhausted stays so for the retention', async () => {
    const { redis, dedup, set, namespace } = await world();
    const data = `data-${namespace}`;
    await redis.set(data, 'text');
    const call = () => dedup.apply('k', (tx) => void tx.incr(data), { record: set, maxAttempts: 1 });
    await expectCode(call(), 'EFFECT_REJECTED');
    await expectCode(call(), 'ATTEMPTS_EXHAUSTED');
    expect((await dedup.inspect('k'))?.expiresInMs).toBeGreaterThan(23 * 3_600_000);
  });

  test('an id that was added by hand counts as completed', async () => {
    const { dedup, set, namespace } = await world();
    await set.add('k');
    expect(await dedup.run('k', never, { record: set })).toMatchObject({ status: 'replayed', attempt: 0 });
    const written = await dedup.apply('k', (tx) => void tx.incr(`data-${namespace}`), { record: set });
    expect(written.status).toBe('replayed');
    expect(await dedup.inspect('k')).toBeNull();
  });

  test('no key is taken over, or taken after a release, once its mark stands', async () => {
    const { dedup, beside, set, setBeside } = await world();
    const hold = gate();
    // A holder whose lease ends at once: it is renewed no more.
    const held = dedup.once('k', () => hold.opened, { record: set, lease: 100, maxRunTime: 100 }).catch(() => {});
    await set.add('k');
    expect(await beside.run('k', never, { record: setBeside })).toMatchObject({ status: 'replayed', value: undefined });
    hold.open();
    await held;
    await expect(dedup.once('l', () => Promise.reject(new Error('no')), { record: set })).rejects.toThrow('no');
    await set.add('l');
    expect(await beside.run('l', never, { record: setBeside, maxAttempts: 1 })).toMatchObject({ status: 'replayed' });
    expect((await dedup.inspect('l'))?.state).toBe('released');
  });

  test('keys of other scopes and slots than the set never meet in it, nor its own ids', async () => {
    const { redis, dedup, set } = await world();
    let runs = 0;
    const views = [dedup, dedup.scope('a'), dedup.scope('b'), dedup.with({ slot: 'x' }), dedup.with({ slot: 'y' })];
    for (const view of views) await view.once('k', () => ++runs, { record: set });
    expect(runs).toBe(views.length);
    for (const view of views) {
      const { redisKey = '' } = (await view.inspect('k', view === views[3] ? { slot: 'x' } : {})) ?? {};
      if (redisKey) await redis.unlink(redisKey);
    }
    for (const view of views) expect(await view.run('k', never, { record: set })).toMatchObject({ status: 'replayed' });
    await dedup.scope('a').once('m', () => {}, { record: set });
    expect(await set.has('m')).toBe(false);
    expect(await set.has(String((await dedup.scope('a').inspect('m'))?.redisKey))).toBe(false);
  });

  test('a slower Redis is given longer to resend', async () => {
    const { redis, namespace } = await world();
    const dedup = makeDedup({ namespace, redisTimeout: '30s' }, redis);
    const set = dedup.seen('done');
    await dedup.once('k', () => {}, { record: set });
    await dedup.apply('l', () => {}, { record: set });
    for (const key of ['k', 'l']) {
      const left = (await dedup.inspect(key))?.expiresInMs;
      expect(left).toBeGreaterThan(85_000);
      expect(left).toBeLessThanOrEqual(90_000);
    }
  });

  test('nothing runs where others use the set with other options', async () => {
    const { dedup, beside, set } = await world();
    await beside.seen('done', { buckets: 7 }).add('x');
    await expectCode(dedup.once('k', never, { record: set }), 'INVALID_OPTION');
    await expectCode(
      dedup.apply('k', () => {}, { record: set }),
      'INVALID_OPTION',
    );
    expect(await dedup.inspect('k')).toBeNull();
  });

  test('`onceMany` runs each key once', async () => {
    const { dedup, set } = await world();
    const items = ['a', 'b', 'a', 'c'];
    const call = () =>
      dedup.onceMany(items, { key: (item) => item, handler: (item) => item.toUpperCase() }, { record: set });
    expect((await call()).map(({ status }) => status).sort()).toEqual(['executed', 'executed', 'executed', 'replayed']);
    expect((await call()).map(({ status }) => status)).toEqual(['replayed', 'replayed', 'replayed', 'replayed']);
  });
});

test('the keys of a set are no keys of the data', async () => {
  const namespace = freshNamespace();
  const dedup = makeDedup({ namespace });
  const sets = [dedup.seen('events'), dedup.seen('events', { slot: 's' }), dedup.scope('a').seen('events')];
  for (const set of sets) await set.add('id');
  const keys = await keysOf(connect(), namespace);
  expect(keys).toHaveLength(2 * sets.length);
  for (const key of keys) {
    await expectCode(
      dedup.once('k', ({ tx }) => void tx.sadd(key, 'x')),
      'INVALID_KEY',
    );
  }
});

describe.each(['smismember', 'sadd', 'pexpireat'])('a user who may not give %s', (command) => {
  test('is told so before anything is written', async () => {
    const url = await ownRedis();
    const [admin, user] = [connect({}, url), connect({ username: 'shop', password: 'pw' }, url)];
    await admin.call('ACL', ['SETUSER', 'shop', 'on', '>pw', '~*', '&*', '+@all', `-${command}`]);
    const dedup = makeDedup({}, user);
    const set = dedup.seen('events');
    const write = (tx: Effects) => void tx.set('a', 1).seen(set, 'a');
    // What reads is one of the check's own commands, what writes one of the handler's.
    const code = command === 'smismember' ? 'STORE_UNAVAILABLE' : 'EFFECT_REJECTED';
    const errors = [
      await expectCode(dedup.apply('k', write), code),
      await expectCode(
        dedup.once('l', ({ tx }) => write(tx)),
        code,
      ),
    ];
    for (const error of errors) {
      if (code === 'STORE_UNAVAILABLE') expect(error.message).toContain('permission');
      else expect(error).toMatchObject({ index: 1, command: 'seen', reason: 'no_permission' });
    }
    expect(await admin.exists('a')).toBe(0);
    expect(await admin.keys('{*')).toEqual([]);
  });
});

describe('the option `record`', () => {
  test('is one of the whole Dedup, of a view and of a call, the nearest of which holds', async () => {
    const redis = connect();
    const set = makeDedup({}, redis).seen('done');
    const second = makeDedup({}, redis).with({ record: set });
    for (const dedup of [makeDedup({ record: set }, redis), second as Dedup<Codec> as Dedup]) {
      expect(await dedup.once('k', () => 'value')).toBeUndefined();
      expect(await dedup.run('k', () => 'value', { record: 'full' })).toMatchObject({ status: 'replayed' });
      expect(await dedup.once('full', () => 'value', { record: 'full' })).toBe('value');
      expect(await dedup.apply('a', () => {})).toMatchObject({ status: 'executed', replies: [] });
      expect((await dedup.inspect('a'))?.expiresInMs).toBeLessThanOrEqual(60_000);
      expect((await dedup.inspect('full'))?.expiresInMs).toBeGreaterThan(60_000);
    }
    expect(await second.with({ record: 'full' }).once('k2', () => 'value')).toBe('value');
  });

  test.each([null, 'set', {}, 7])('cannot be %j', async (record) => {
    expect(() => new Dedup(connect(), { record: record as 'full' })).toThrow(/`record`/);
    await expectCode(makeDedup().once('k', never, { record: record as 'full' }), 'INVALID_OPTION');
  });

  test('takes no fingerprint beside', async () => {
    const dedup = makeDedup();
    const record = dedup.seen('done');
    const fingerprint = { amount: 1 };
    await expectCode(dedup.once('k', never, { record, fingerprint } as object), 'INVALID_OPTION');
    await expectCode(dedup.with({ fingerprint }).once('k', never, { record }), 'INVALID_OPTION');
    await expectCode(
      dedup.apply('k', () => {}, { record, fingerprint }),
      'INVALID_OPTION',
    );
    const [outcome] = await dedup.onceMany(['k'], { key: String, handler: never, fingerprint: String }, { record });
    expect(outcome).toMatchObject({ status: 'failed', error: { code: 'INVALID_OPTION' } });
  });

  test('takes sets of the same connection alone', async () => {
    const dedup = makeDedup();
    const record = makeDedup().seen('done');
    await expectCode(dedup.once('k', never, { record }), 'INVALID_OPTION');
    await expectCode(
      dedup.apply('k', () => {}, { record }),
      'INVALID_OPTION',
    );
  });
});
