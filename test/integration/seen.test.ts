/** Sets of seen ids: the first time is told from later ones, once, whoever asks. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { type SeenOptions, SeenSet } from '../../src/index.js';
import {
  connect,
  describeOnEachServer,
  expectCode,
  freshNamespace,
  keysOf,
  makeDedup,
  ownRedis,
  until,
} from '../support/index.js';

const ids = (count: number, name = randomUUID()) => Array.from({ length: count }, (_, at) => `${name}-${at}`);

/** Nasty and near each other: no two may be taken for one. */
const HOSTILE = [
  ...[
    ' ',
    '\0',
    '\n',
    '{}',
    '{a}:b',
    ':',
    '::',
    '%',
    '%25',
    '*',
    '[a-z]',
    '🦀',
    'ä',
    'a\u0308',
    '\u{10ffff}',
    '-1',
    '0',
    '00',
  ],
  ...[
    '\ud800',
    '\udbff',
    '\udc00',
    '\ufffd',
    'a\ud800',
    'a\ud801',
    '\ud800\udc00',
    '\udc00\ud800',
    '__proto__',
    'constructor',
  ],
  ...['x'.repeat(511), 'x'.repeat(512), 'ß'.repeat(256), '9223372036854775807', '-9223372036854775808', '1e3', 'nil'],
];

describeOnEachServer('a set of seen ids', (version) => {
  const server = async () => (version ? connect({}, await ownRedis([], version)) : connect());

  test('is new once for each id, and known afterwards', async () => {
    const redis = await server();
    const dedup = makeDedup({}, redis);
    const set = dedup.seen('events');
    expect(set).toBeInstanceOf(SeenSet);
    expect(set.name).toBe('events');
    expect(await set.has('a')).toBe(false);
    expect(await set.add('a')).toBe(true);
    expect(await set.has('a')).toBe(true);
    expect(await set.add('a')).toBe(false);
    expect(await set.add('b')).toBe(true);
    expect(await set.addMany(['a', 'c', 'c', 'd', 'b', 'c'])).toEqual([false, true, false, true, false, false]);
    expect(await set.addMany([])).toEqual([]);
  });

  test('packs its marks as integers, and every key of it expires within the window and one bucket', async () => {
    const redis = await server();
    const namespace = freshNamespace();
    const set = makeDedup({ namespace }, redis).seen('events', { window: '60s', buckets: 3, capacity: 10_000 });
    const news = await set.addMany(ids(10_000));
    expect(news.filter(Boolean)).toHaveLength(10_000);
    const keys = await keysOf(redis, namespace);
    const marks = keys.filter((key) => key.startsWith('{'));
    let count = 0;
    for (const key of marks) {
      expect(await redis.object('ENCODING', key)).toBe('intset');
      const ttl = await redis.pttl(key);
      expect(ttl).toBeGreaterThan(60_000 - 1_000);
      expect(ttl).toBeLessThanOrEqual(80_000);
      count += await redis.scard(key);
    }
    expect(count).toBe(10_000);
    expect(keys.filter((key) => !key.startsWith('{'))).toEqual([`${namespace}::seen:events`]);
  });

  test('beyond its capacity takes more memory, and no wrong answer', async () => {
    const redis = await server();
    const namespace = freshNamespace();
    const set = makeDedup({ namespace }, redis).seen('events', { capacity: 1 });
    const many = ids(5_000);
    expect((await set.addMany(many)).every(Boolean)).toBe(true);
    expect((await set.addMany(many)).some(Boolean)).toBe(false);
    expect(await set.has(many[4_999] as string)).toBe(true);
    expect(await set.has('another')).toBe(false);
    const marks = (await keysOf(redis, namespace)).filter((key) => key.startsWith('{'));
    const encodings = await Promise.all(marks.map((key) => redis.object('ENCODING', key)));
    expect(encodings.every((encoding) => encoding === 'hashtable')).toBe(true);
  });

  test('tells each of many hostile ids from all others', async () => {
    const set = makeDedup({}, await server()).seen('events', { capacity: 1 });
    expect(await set.addMany(HOSTILE)).toEqual(HOSTILE.map(() => true));
    for (const id of HOSTILE) expect(await set.add(id)).toBe(false);
  });

  test('is refused where a foreign value stands in its place, and nothing is marked', async () => {
    const redis = await server();
    const namespace = freshNamespace();
    const set = makeDedup({ namespace }, redis).seen('events', { capacity: 1 });
    await set.has('a');
    for (const bucket of [0, 1, 2, 3]) await redis.set(`{0}:${namespace}::seen:events:${bucket}`, 'foreign');
    await expectCode(set.add('a'), 'STORE_UNAVAILABLE');
    await expectCode(set.has('a'), 'STORE_UNAVAILABLE');
    await redis.unlink(...[0, 1, 2].map((bucket) => `{0}:${namespace}::seen:events:${bucket}`));
    await expectCode(set.add('a'), 'STORE_UNAVAILABLE');
    await redis.unlink(`{0}:${namespace}::seen:events:3`);
    expect(await set.add('a')).toBe(true);
  });
});

const BYTES_OF_TABLES_A_KEY = 72;

test('a set at its capacity takes at most 12 bytes an id, and no fresh id for one that was seen', async () => {
  const redis = connect({}, await ownRedis());
  const count = 100_000;
  const set = makeDedup({}, redis).seen('events', { capacity: count });
  const [first, others] = [ids(count), ids(count)];
  await set.has('warm');
  // Without what Lua holds, which Redis 8 counts as used memory too; and with what each key costs the server's tables.
  const used = async () => {
    const info = await redis.info('memory');
    const bytes = Number(/used_memory_dataset:(\d+)/.exec(info)?.[1]);
    return bytes + (await redis.dbsize()) * BYTES_OF_TABLES_A_KEY;
  };
  const before = await used();
  expect((await set.addMany(first)).every(Boolean)).toBe(true);
  expect(((await used()) - before) / count).toBeLessThanOrEqual(12);
  expect((await set.addMany(others)).every(Boolean)).toBe(true);
  expect((await set.addMany(first)).some(Boolean)).toBe(false);
});

describe('the ids of a set', () => {
  test('that many callers add at once are new to one of them', async () => {
    const namespace = freshNamespace();
    const sets = [1, 2, 3].map(() => makeDedup({ namespace }, connect()).seen('events'));
    const some = ids(200);
    const news = await Promise.all(sets.flatMap((set) => [...some.map((id) => set.add(id)), set.addMany(some)]));
    const perId = some.map((_, at) => {
      const answers = sets.flatMap((_set, s) => {
        const from = s * (some.length + 1);
        return [news[from + at], (news[from + some.length] as boolean[])[at]];
      });
      return answers.filter(Boolean).length;
    });
    expect(perId).toEqual(some.map(() => 1));
  });

  test('never meet those of other names, scopes, namespaces or slots', async () => {
    const redis = connect();
    const dedup = makeDedup({}, redis);
    const sets = [
      dedup.seen('a'),
      dedup.seen('b'),
      dedup.seen('a', { slot: '0' }),
      dedup.with({ slot: '1' }).seen('a'),
      dedup.scope('a').seen('a'),
      dedup.scope('a', 'seen').seen('a'),
      dedup.seen('a:0'),
      dedup.seen('a::seen:a'),
      dedup.seen('x'.repeat(400)),
      makeDedup({}, redis).seen('a'),
    ];
    for (const set of sets) expect(await set.add('id')).toBe(true);
    for (const set of sets) expect(await set.add('id')).toBe(false);
  });

  test('are sent in few round trips where many come at once', async () => {
    const redis = connect();
    const set = makeDedup({}, redis).seen('events', { capacity: 100_000 });
    await set.has('warm');
    let before = Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1]);
    const calls = async () => {
      const now = Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1]);
      return now - before;
    };
    // 261 shards, in lists of 128.
    await set.addMany(ids(10_000));
    expect(await calls()).toBe(3);
    before += 3;
    await Promise.all(ids(128).map((id) => set.add(id)));
    expect(await calls()).toBe(2);
  });

  test('of a shard that fails fail alone, and of many at once it is then not known which are marked', async () => {
    const redis = connect();
    const namespace = freshNamespace();
    const set = makeDedup({ namespace }, redis).seen('events', { capacity: 1_000 });
    for (const bucket of [0, 1, 2, 3]) await redis.set(`{1}:${namespace}::seen:events:${bucket}`, 'foreign');
    const some = ids(60);
    const answers = await Promise.allSettled(some.map((id) => set.add(id)));
    const failed = answers.filter(({ status }) => status === 'rejected');
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.length).toBeLessThan(some.length);
    for (const answer of failed) expect(answer).toMatchObject({ reason: { code: 'STORE_UNAVAILABLE' } });
    for (const answer of answers) if (answer.status === 'fulfilled') expect(answer.value).toBe(true);
    await expectCode(set.addMany(ids(60)), 'OUTCOME_UNKNOWN');
    const [left] = some.filter((_, at) => answers[at]?.status === 'rejected');
    await expectCode(set.addMany([left as string]), 'STORE_UNAVAILABLE');
  });

  test.each([
    ['nothing', undefined],
    ['a number', 7],
    ['empty', ''],
    ['longer than maxKeyBytes', 'x'.repeat(513)],
  ])('cannot be %s', async (_what, id) => {
    const set = makeDedup().seen('events');
    await expectCode(set.add(id as string), 'INVALID_KEY');
    await expectCode(set.has(id as string), 'INVALID_KEY');
    await expectCode(set.addMany(['good', id as string]), 'INVALID_KEY');
    expect(await set.has('good')).toBe(false);
  });

  test('that come in no array are refused', async () => {
    const set = makeDedup().seen('events');
    await expectCode(set.addMany('abc' as unknown as string[]), 'INVALID_OPTION');
  });
});

describe('the options of a set', () => {
  test.each([
    [{ window: '999ms' }, /`window`/],
    [{ window: '366d' }, /`window`/],
    [{ window: 'a while' }, /`window`/],
    [{ capacity: 0 }, /`capacity`/],
    [{ capacity: 1.5 }, /`capacity`/],
    [{ buckets: 0 }, /`buckets`/],
    [{ buckets: 61 }, /`buckets`/],
    [{ window: '1s', buckets: 11 }, /`buckets`/],
    [{ slot: '{a}' }, /`slot`/],
    [{ bucket: 1 }, /`bucket` is not an option/],
  ])('%j are refused', (options, message) => {
    expect(() => makeDedup().seen('events', options as object)).toThrow(message);
  });

  test.each([undefined, '', 7])('the name %j is refused', (name) => {
    expect(() => makeDedup().seen(name as string)).toThrow(/`name`/);
  });

  test('may be left undefined', async () => {
    const dedup = makeDedup();
    const none = { window: undefined, capacity: undefined, buckets: undefined, slot: undefined };
    expect(await dedup.seen('events', none).add('a')).toBe(true);
    expect(await dedup.seen('events').add('a')).toBe(false);
  });

  test.each<SeenOptions>([{ window: '23h' }, { capacity: 999_999 }, { buckets: 3 }])(
    'that differ from those in use, %j, are refused',
    async (options) => {
      const namespace = freshNamespace();
      await makeDedup({ namespace }).seen('events').add('a');
      const other = makeDedup({ namespace }).seen('events', options);
      const error = await expectCode(other.add('a'), 'INVALID_OPTION');
      expect(error.message).toContain('window=86400000 capacity=1000000 buckets=2');
      await expectCode(other.has('a'), 'INVALID_OPTION');
      await expectCode(other.addMany(['b', 'c']), 'INVALID_OPTION');
      expect(await makeDedup({ namespace }).seen('events').has('b')).toBe(false);
    },
  );

  test('outlive every mark that was made by them, and are renewed while the set is used', async () => {
    const redis = connect();
    const namespace = freshNamespace();
    const set = makeDedup({ namespace, redisTimeout: '1s' }, redis).seen('events', { window: '1s', buckets: 1 });
    await set.add('a');
    const key = `${namespace}::seen:events`;
    // Three times the longest life of a mark, 2 s, and of an exchange.
    const first = await redis.pexpiretime(key);
    expect(await redis.pttl(key)).toBeGreaterThan(8_000);
    await until(async () => {
      await set.has('a');
      return (await redis.pexpiretime(key)) > first;
    });
  });

  test('are compared again after a reconnect: what was lost meanwhile is found to differ', async () => {
    const [redis, admin] = [connect(), connect()];
    const namespace = freshNamespace();
    const set = makeDedup({ namespace }, redis).seen('events');
    await set.add('a');
    await admin.unlink(`${namespace}::seen:events`);
    await makeDedup({ namespace }).seen('events', { buckets: 3 }).add('a');
    const closed = once(redis, 'close');
    redis.disconnect(true);
    await closed;
    await expectCode(set.add('b'), 'INVALID_OPTION');
  });
});

describe('the window of a set', () => {
  test('is held from the first time that an id was added, and at most one bucket longer', async () => {
    const redis = connect();
    const sets = [1, 2, 4].map((buckets) => ({
      buckets,
      set: makeDedup({}, redis).seen('events', { window: '1s', buckets }),
    }));
    const serverMs = async () => {
      const [s, us] = await redis.time();
      return Number(s) * 1_000 + Math.floor(Number(us) / 1_000);
    };
    await Promise.all(
      sets.map(async ({ buckets, set }) => {
        const before = await serverMs();
        expect(await set.add('a')).toBe(true);
        const after = await serverMs();
        let [lastSeenAt, newAt] = [0, 0];
        await until(async () => {
          const asked = await serverMs();
          const isNew = await set.add('a');
          const answered = await serverMs();
          if (!isNew) lastSeenAt = asked;
          else newAt = answered;
          return isNew;
        });
        // Neither a clock of ours nor the length of a wait: what the server's clock said around each answer.
        expect(newAt).toBeGreaterThanOrEqual(before + 1_000);
        expect(lastSeenAt).toBeLessThanOrEqual(after + 1_000 + Math.ceil(1_000 / buckets));
      }),
    );
  });
});

test('a closed Dedup adds nothing', async () => {
  const dedup = makeDedup();
  const set = dedup.seen('events');
  await dedup.close();
  await expectCode(set.add('a'), 'CLOSED');
  await expectCode(set.has('a'), 'CLOSED');
  await expectCode(set.addMany(['a']), 'CLOSED');
});

test('a server that may evict is refused before anything is sent', async () => {
  const url = await ownRedis(['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru']);
  const redis = new Redis(url);
  const set = makeDedup({}, redis).seen('events');
  await expectCode(set.add('a'), 'UNSAFE_SERVER');
  expect(await redis.dbsize()).toBe(0);
  redis.disconnect();
});

test('a keyPrefix goes before every key of a set', async () => {
  const plain = connect();
  const namespace = freshNamespace();
  const prefixed = makeDedup({ namespace }, connect({ keyPrefix: 'app:' })).seen('events', { capacity: 1 });
  expect(await prefixed.add('a')).toBe(true);
  expect(await makeDedup({ namespace }, plain).seen('events', { capacity: 1 }).add('a')).toBe(true);
  const keys = await keysOf(plain, namespace);
  expect(keys).toHaveLength(4);
  expect(keys.filter((key) => key.startsWith('app:'))).toHaveLength(2);
});
