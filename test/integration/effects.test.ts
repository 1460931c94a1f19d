import { Redis } from 'ioredis';
import { describe, expect, test, vi } from 'vitest';
import { Wait } from '../../src/call/wait.js';
import { type Effects, type Reply, TxClosedError } from '../../src/index.js';
import { connect, expectCode, freshNamespace, gate, makeDedup, ownRedis } from '../support/index.js';

/** A Dedup, its connection, and data keys of the test's own. */
function world() {
  const redis = connect();
  const place = freshNamespace();
  return { redis, dedup: makeDedup({}, redis), at: (name: string) => `data-${place}:${name}` };
}

const numbers = (count: number) => Array.from({ length: count }, (_, at) => String(at + 1)) as [string, ...string[]];

describe('the writes of a handler', () => {
  test('are not seen before it has returned, and with its record after', async () => {
    const { redis, dedup, at } = world();
    const [written, hold] = [gate(), gate()];
    const call = dedup.once('key', async ({ tx }) => {
      tx.set(at('a'), 1).rpush(at('b'), 'x', 'y');
      written.open();
      await hold.opened;
      return 'done';
    });
    await written.opened;
    expect(await redis.exists(at('a'), at('b'))).toBe(0);
    hold.open();
    expect(await call).toBe('done');
    expect(await redis.get(at('a'))).toBe('1');
    expect(await redis.lrange(at('b'), 0, -1)).toEqual(['x', 'y']);
    expect((await dedup.inspect('key'))?.state).toBe('completed');
  });

  test('leave no trace where it throws, and are made by the next attempt once', async () => {
    const { redis, dedup, at } = world();
    const handler = ({ tx, attempt }: { tx: Effects; attempt: number }) => {
      tx.incr(at('n'));
      if (attempt === 1) throw new Error('no');
    };
    await expect(dedup.once('key', handler)).rejects.toThrow('no');
    expect(await redis.exists(at('n'))).toBe(0);
    await dedup.once('key', handler);
    await dedup.once('key', handler);
    expect(await redis.get(at('n'))).toBe('1');
  });

  test('are all left out where one of them cannot succeed, and the error says which', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('text'), 'abc');
    const error = await expectCode(
      dedup.once('key', ({ tx }) => void tx.set(at('other'), 1).incr(at('text')).incr(at('other'))),
      'EFFECT_REJECTED',
    );
    expect(error).toMatchObject({ index: 1, command: 'incr', reason: 'not_an_integer', retryable: false, key: 'key' });
    expect(await redis.exists(at('other'))).toBe(0);
    expect((await dedup.inspect('key'))?.state).toBe('released');
    expect(await dedup.once('key', ({ attempt }) => attempt)).toBe(2);
  });

  test('that were rejected count as failed attempts', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('text'), 'abc');
    const call = () => dedup.once('key', ({ tx }) => void tx.incr(at('text')), { maxAttempts: 2 });
    await expectCode(call(), 'EFFECT_REJECTED');
    await expectCode(call(), 'EFFECT_REJECTED');
    expect((await expectCode(call(), 'ATTEMPTS_EXHAUSTED')).attempts).toBe(2);
  });

  test.each<
    [string, (redis: Redis, key: string, count: number) => Promise<unknown>, (tx: Effects, key: string) => Effects]
  >([
    [
      'hash',
      (redis, key, count) => redis.hset(key, Object.fromEntries(numbers(count).map((n) => [n, n]))),
      (tx, key) => tx.hdel(key, ...numbers(1_001)),
    ],
    ['set', (redis, key, count) => redis.sadd(key, ...numbers(count)), (tx, key) => tx.srem(key, ...numbers(1_001))],
    [
      'zset',
      (redis, key, count) => redis.zadd(key, ...numbers(count).flatMap((n) => [n, n])),
      (tx, key) => tx.zremrangebyrank(key, 0, -1),
    ],
    ['list', (redis, key, count) => redis.rpush(key, ...numbers(count)), (tx, key) => tx.ltrim(key, 1, 0)],
  ])(
    'of several types follow a %s to its last element, where it has no more than 1,000',
    async (_type, fill, empty) => {
      const { redis, dedup, at } = world();
      await fill(redis, at('large'), 1_001);
      const other = dedup.once(
        'large',
        ({ tx }) => void empty(tx, at('large')).set(at('a'), 1).append(at('large'), 'x'),
      );
      expect(await expectCode(other, 'EFFECT_REJECTED')).toMatchObject({ index: 0, reason: 'too_large' });
      expect(await redis.exists(at('a'))).toBe(0);
      await fill(redis, at('small'), 1_000);
      await dedup.once('small', ({ tx }) => void empty(tx, at('small')).append(at('small'), 'x'));
      expect(await redis.get(at('small'))).toBe('x');
    },
  );

  /** Each leaves no element, by the order and number that only a check which follows every step knows. */
  test.each<[string, (redis: Redis, key: string) => Promise<unknown>, (tx: Effects, key: string) => Effects]>([
    ['ranks by score', (r, k) => r.zadd(k, 1, 'b', 2, 'a'), (tx, k) => tx.zremrangebyrank(k, 0, 0).zrem(k, 'a')],
    [
      'ranks by bytes among equal scores',
      (r, k) => r.zadd(k, 1, 'ad', 1, 'ab', 1, 'ac', 1, 'aa', 1, 'ae'),
      (tx, k) => tx.zremrangebyrank(k, 0, 1).zrem(k, 'ac', 'ad', 'ae'),
    ],
    [
      'shorter before longer',
      (r, k) => r.zadd(k, 1, 'aa', 1, 'a'),
      (tx, k) => tx.zremrangebyrank(k, 0, 0).zrem(k, 'aa'),
    ],
    [
      'LREM from the head',
      (r, k) => r.rpush(k, 'a', 'b', 'c', 'a'),
      (tx, k) => tx.lrem(k, 1, 'a').ltrim(k, 0, 0).lrem(k, 0, 'b'),
    ],
    [
      'LREM from the tail',
      (r, k) => r.rpush(k, 'a', 'c', 'b', 'a'),
      (tx, k) => tx.lrem(k, -1, 'a').ltrim(k, 2, 2).lrem(k, 0, 'b'),
    ],
    ['RPUSH at the tail', (r, k) => r.rpush(k, 'a'), (tx, k) => tx.rpush(k, 'x').ltrim(k, 0, 0).lrem(k, 0, 'a')],
    ['LPUSH at the head', (r, k) => r.rpush(k, 'a'), (tx, k) => tx.lpush(k, 'x', 'y').ltrim(k, 0, 0).lrem(k, 0, 'y')],
    [
      'LTRIM to an end',
      (r, k) => r.rpush(k, 'a', 'b', 'c'),
      (tx, k) => tx.ltrim(k, 1, -1).ltrim(k, 0, -2).lrem(k, 0, 'b'),
    ],
  ])('of another type find the key empty: %s', async (_name, fill, empty) => {
    const { redis, dedup, at } = world();
    await fill(redis, at('key'));
    await dedup.once('key', ({ tx }) => void empty(tx, at('key')).append(at('key'), 'x'));
    expect(await redis.get(at('key'))).toBe('x');
  });

  test.each([1, -1])('of another type do not find a key empty of which LREM %i leaves a copy', async (count) => {
    const { redis, dedup, at } = world();
    await redis.rpush(at('key'), 'a', 'a');
    const write = ({ tx }: { tx: Effects }) => void tx.lrem(at('key'), count, 'a').append(at('key'), 'x');
    const error = await expectCode(dedup.once('key', write), 'EFFECT_REJECTED');
    expect(error).toMatchObject({ index: 1, reason: 'wrong_type' });
    expect(await redis.lrange(at('key'), 0, -1)).toEqual(['a', 'a']);
  });

  test('find in a string the bits that an earlier one left as they were', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('digits'), '11');
    // Its second byte is 0x31, and then 0x33.
    await dedup.once('digits', ({ tx }) => void tx.setbit(at('digits'), 14, 1).incr(at('digits')));
    expect(await redis.get(at('digits'))).toBe('14');
  });

  test('count DECR down, at both ends of 64 bits', async () => {
    const { redis, dedup, at } = world();
    await redis.mset(at('most'), '9223372036854775807', at('least'), '-9223372036854775808');
    await dedup.once('most', ({ tx }) => void tx.decr(at('most')).decr(at('most')));
    expect(await redis.get(at('most'))).toBe('9223372036854775805');
    const below = dedup.once('least', ({ tx }) => void tx.incr(at('other')).decr(at('least')));
    expect(await expectCode(below, 'EFFECT_REJECTED')).toMatchObject({ index: 1, reason: 'out_of_range' });
    expect(await redis.exists(at('other'))).toBe(0);
  });

  test.each<[string, (tx: Effects, key: string) => Effects]>([
    ['XX where the member is there', (tx, k) => tx.zadd(k, 'XX', 'inf', 'm').zincrby(k, '-inf', 'm')],
    ['NX where it is not', (tx, k) => tx.zadd(k, 'NX', 'inf', 'n').zincrby(k, '-inf', 'n')],
    ['GT of a greater score', (tx, k) => tx.zadd(k, 'GT', 'inf', 'm').zincrby(k, '-inf', 'm')],
    ['GT of a smaller one', (tx, k) => tx.zadd(k, 'inf', 'm').zadd(k, 'GT', 5, 'm').zincrby(k, '-inf', 'm')],
    ['LT of a smaller score', (tx, k) => tx.zadd(k, 'LT', '-inf', 'm').zincrby(k, 'inf', 'm')],
    ['LT of a greater one', (tx, k) => tx.zadd(k, '-inf', 'm').zadd(k, 'LT', 5, 'm').zincrby(k, 'inf', 'm')],
    ['ZINCRBY beyond all numbers', (tx, k) => tx.zincrby(k, 'inf', 'm').zincrby(k, 5, 'm').zincrby(k, '-inf', 'm')],
  ])('follow scores to the sum of two infinities: %s', async (_name, write) => {
    const { redis, dedup, at } = world();
    await redis.zadd(at('key'), 1, 'm');
    const error = await expectCode(
      dedup.once('key', ({ tx }) => void write(tx, at('key'))),
      'EFFECT_REJECTED',
    );
    expect(error.reason).toBe('not_a_number');
    expect(await redis.zscore(at('key'), 'm')).toBe('1');
  });

  test.each<[string, (tx: Effects, key: string) => Effects]>([
    ['SET EXAT', (tx, k) => tx.set(k, 'v', 'EXAT', 1)],
    ['SET PXAT', (tx, k) => tx.set(k, 'v', 'PXAT', 1_000)],
    ['EXPIREAT', (tx, k) => tx.expireat(k, 1)],
    ['PEXPIREAT', (tx, k) => tx.pexpireat(k, 1_000)],
    ['EXPIRE', (tx, k) => tx.expire(k, 0)],
    ['PEXPIRE', (tx, k) => tx.pexpire(k, -1)],
  ])('find a key gone by a time that is past, and not by one to come: %s', async (name, expire) => {
    const { redis, dedup, at } = world();
    await redis.hset(at('key'), 'f', 'v');
    await dedup.once('past', ({ tx }) => void expire(tx, at('key')).sadd(at('key'), 'm'));
    expect(await redis.smembers(at('key'))).toEqual(['m']);
    const soon = Date.now() + 3_600_000;
    const later: Record<string, (tx: Effects, key: string) => Effects> = {
      'SET EXAT': (tx, k) => tx.set(k, 'v', 'EXAT', Math.ceil(soon / 1_000)),
      'SET PXAT': (tx, k) => tx.set(k, 'v', 'PXAT', soon),
      EXPIREAT: (tx, k) => tx.expireat(k, Math.ceil(soon / 1_000)),
      PEXPIREAT: (tx, k) => tx.pexpireat(k, soon),
      EXPIRE: (tx, k) => tx.expire(k, 3_600),
      PEXPIRE: (tx, k) => tx.pexpire(k, 3_600_000),
    };
    const kept = dedup.once('later', ({ tx }) => void later[name]?.(tx, at('key')).hset(at('key'), 'f', 'v'));
    expect((await expectCode(kept, 'EFFECT_REJECTED')).reason).toBe('wrong_type');
  });

  test('on a key of any size are made, where its commands are of one type', async () => {
    const { redis, dedup, at } = world();
    await redis.hset(at('hash'), Object.fromEntries(numbers(1_001).map((n) => [n, n])));
    await redis.rpush(at('list'), ...numbers(1_001));
    await redis.set(at('string'), 'x'.repeat(30_000));
    await dedup.once('key', ({ tx }) => {
      tx.hset(at('hash'), 'f', 'v').hincrby(at('hash'), '7', 1).hdel(at('hash'), '8');
      tx.lset(at('list'), 1_000, 'last').append(at('string'), 'y');
    });
    expect(await redis.hmget(at('hash'), 'f', '7', '8')).toEqual(['v', '8', null]);
    expect(await redis.lindex(at('list'), -1)).toBe('last');
    expect(await redis.strlen(at('string'))).toBe(30_001);
  });

  test.each([
    ['(0', '1', 'a'],
    ['0', '(1', 'b'],
  ])('of another type find what a bound without itself has left: %s to %s', async (min, max, left) => {
    const { redis, dedup, at } = world();
    await redis.zadd(at('key'), 0, 'a', 1, 'b');
    const write = (tx: Effects) => void tx.zremrangebyscore(at('key'), min, max).append(at('key'), 'x');
    expect((await expectCode(dedup.apply('a', write), 'EFFECT_REJECTED')).reason).toBe('wrong_type');
    await dedup.apply(
      'b',
      (tx) => void tx.zremrangebyscore(at('key'), min, max).zrem(at('key'), left).append(at('key'), 'x'),
    );
    expect(await redis.get(at('key'))).toBe('x');
  });

  test('add to a stream above its last id, and not at it or below', async () => {
    const { redis, dedup, at } = world();
    const add = (id: string) => dedup.apply(`${id} ${Math.random()}`, (tx) => void tx.xadd(at('x'), id, 'f', 'v'));
    for (const id of ['5-0', '5-1', '5-9', '5-10', '9-1', '10-0', '10', '10-0', '9-99', '10-1']) {
      const plain = await redis.xadd(at('plain'), id, 'f', 'v').catch(() => null);
      const ours = await add(id).then(
        ({ replies }) => replies[0],
        ({ reason }) => (reason === 'stream_id' ? null : reason),
      );
      expect(ours, id).toBe(plain);
    }
  });

  test('calculate with all 64 bits', async () => {
    const { redis, dedup, at } = world();
    const max = 2n ** 63n - 1n;
    const values = [
      0n,
      1n,
      -1n,
      10n ** 9n,
      -(10n ** 9n),
      5n * 10n ** 9n,
      -9223372036n * 10n ** 9n,
      max,
      -max,
      -max - 1n,
    ];
    for (const value of values) {
      for (const by of values) {
        const [sum, key] = [value + by, `${value} ${by}`];
        await redis.set(at('n'), String(value));
        // Twice there and back: the check calculates with its own sums as well.
        const back = by === -max - 1n ? 1n : -by;
        const call = dedup.apply(key, (tx) => void tx.incrby(at('n'), by).incrby(at('n'), back));
        if (sum > max || sum < -max - 1n || sum + back > max || sum + back < -max - 1n)
          await expectCode(call, 'EFFECT_REJECTED');
        else await call;
      }
    }
  });

  test('leave a field that is there as it is, by HSETNX', async () => {
    const { redis, dedup, at } = world();
    await redis.hset(at('hash'), 'text', 'x', 'number', 5);
    const count = (field: string) => (tx: Effects) =>
      void tx.hsetnx(at('hash'), field, 7).hincrby(at('hash'), field, 1);
    expect((await expectCode(dedup.apply('a', count('text')), 'EFFECT_REJECTED')).reason).toBe('not_an_integer');
    expect((await dedup.apply('b', count('number'))).replies).toEqual([0, 6]);
    expect((await dedup.apply('c', count('none'))).replies).toEqual([1, 8]);
  });

  test('count the ids that a stream has left', async () => {
    const { redis, dedup, at } = world();
    const last = '18446744073709551615';
    await redis.xadd(at('near'), `${last}-18446744073709551609`, 'f', 'v');
    await redis.xadd(at('half'), `5-${last}`, 'f', 'v');
    const add = (count: number) => (tx: Effects) => {
      for (let n = 0; n < count; n += 1) tx.xadd(at('near'), '*', 'f', 'v');
    };
    const error = await expectCode(dedup.apply('seven', add(7)), 'EFFECT_REJECTED');
    expect(error).toMatchObject({ index: 6, reason: 'stream_exhausted' });
    await dedup.apply('six', add(6));
    await dedup.apply('other', (tx) => void tx.xadd(at('half'), '*', 'f', 'v'));
    expect(await redis.xlen(at('near'))).toBe(7);
  });

  test('replace a key of another type after DEL', async () => {
    const { redis, dedup, at } = world();
    await redis.hset(at('key'), 'f', 1);
    await dedup.once('key', ({ tx }) => void tx.del(at('key')).rpush(at('key'), 'a'));
    expect(await redis.lrange(at('key'), 0, -1)).toEqual(['a']);
  });

  test('are closed with the handler: what it left running adds nothing', async () => {
    const { redis, dedup, at } = world();
    let kept: Effects | undefined;
    await dedup.once('key', ({ tx }) => {
      kept = tx;
    });
    expect(() => kept?.set(at('a'), 1)).toThrow(TxClosedError);
    expect(() => kept?.require).toThrow(TxClosedError);
    expect(await redis.exists(at('a'))).toBe(0);
  });

  test('cannot be made without Redis: a bypassed handler that touches tx is told so', async () => {
    const redis = new Redis({ port: 1, lazyConnect: true, retryStrategy: () => null });
    redis.on('error', () => {});
    const dedup = makeDedup({ onStoreFailure: 'proceed', redisTimeout: 200 }, redis);
    expect((await dedup.run('key', () => 'without')).status).toBe('bypassed');
    await expectCode(
      dedup.once('key', ({ tx }) => void tx.set('a', 1)),
      'STORE_UNAVAILABLE',
    );
  });

  test('of a user who may not give one of them are all refused', async () => {
    const url = await ownRedis([]);
    const [admin, user] = [connect({}, url), connect({ username: 'shop', password: 'pw' }, url)];
    await admin.call('ACL', ['SETUSER', 'shop', 'on', '>pw', '~*', '&*', '+@all', '-lpush']);
    const error = await expectCode(
      makeDedup({}, user).once('key', ({ tx }) => void tx.set('a', 1).lpush('b', 1)),
      'EFFECT_REJECTED',
    );
    expect(error).toMatchObject({ index: 1, reason: 'no_permission' });
    expect(await admin.exists('a', 'b')).toBe(0);
  });

  test('whose condition the user may not read are refused, and that is no conflict', async () => {
    const url = await ownRedis([]);
    const [admin, user] = [connect({}, url), connect({ username: 'shop', password: 'pw' }, url)];
    await admin.call('ACL', ['SETUSER', 'shop', 'on', '>pw', '~*', '&*', '+@all', '-hget']);
    const call = makeDedup({}, user).once('key', ({ tx }) => void tx.require.hashEquals('h', 'f', 'v').set('a', 1));
    expect((await expectCode(call, 'STORE_UNAVAILABLE')).message).toContain('permission');
    expect(await admin.exists('a')).toBe(0);
  });

  test('make strings as long as the server allows, and no longer', async () => {
    const redis = connect({}, await ownRedis(['--proto-max-bulk-len', '2mb']));
    const dedup = makeDedup({}, redis);
    const limit = 2 * 1024 * 1024;
    const calls: [string, (tx: Effects, bytes: number) => unknown][] = [
      ['setrange', (tx, bytes) => tx.setrange('s', bytes - 1, 'x')],
      ['setbit', (tx, bytes) => tx.setbit('s', (bytes - 1) * 8, 1)],
      ['append', (tx, bytes) => tx.setrange('s', bytes - 2, 'x').append('s', 'y')],
      ['replaced', (tx, bytes) => tx.del('h').setrange('h', bytes - 1, 'x')],
    ];
    for (const [name, write] of calls) {
      await redis.del('s', 'h');
      await redis.hset('h', 'f', 'v');
      const tooLong = await expectCode(
        dedup.once(`${name} longer`, ({ tx }) => void write(tx, limit + 1)),
        'EFFECT_REJECTED',
      );
      expect(tooLong.reason).toBe('too_long');
      expect(await redis.type('s')).toBe('none');
      await dedup.once(name, ({ tx }) => void write(tx, limit));
      expect(await redis.strlen(name === 'replaced' ? 'h' : 's')).toBe(limit);
    }
  });

  test.each([
    ['1e308', '1e308', 'out_of_range'],
    ['1e309', '-1', 'out_of_range'],
    [`1.${'0'.repeat(5_118)}`, '1', 'not_a_float'],
    [`1.${'0'.repeat(5_117)}`, '1', null],
    ['1e307', '1e307', null],
    ['.51e3', '1e3', null],
    ['-.5E-3', '1', null],
    ['5.e3', '1', null],
  ])('add to floats within bounds (%#)', async (value, by, reason) => {
    const { redis, dedup, at } = world();
    await redis.hset(at('h'), 'f', value);
    const call = dedup.once('key', ({ tx }) => void tx.hincrbyfloat(at('h'), 'f', by));
    if (reason) expect((await expectCode(call, 'EFFECT_REJECTED')).reason).toBe(reason);
    else await call;
  });

  test.each([
    ['no header', 'HYLL'],
    ['a header that breaks off', 'HYLL\x01\0\0'],
    ['another magic', `HYLX\x01${'\0'.repeat(11)}\x7f\xff`],
    ['an encoding that is none', `HYLL\x02${'\0'.repeat(11)}\x7f\xff`],
    ['a dense one that is too short', `HYLL\0${'\0'.repeat(11)}`],
    ['a sparse one without registers', `HYLL\x01${'\0'.repeat(11)}`],
    ['one that breaks off', `HYLL\x01${'\0'.repeat(11)}\x7f`],
    ['one that has too many', `HYLL\x01${'\0'.repeat(11)}\x7f\xff\0`],
  ])('add to no HyperLogLog that is damaged: %s', async (_damage, value) => {
    const { redis, dedup, at } = world();
    const bytes = Buffer.from(value, 'latin1');
    await redis.set(at('hll'), bytes);
    const error = await expectCode(
      dedup.once('key', ({ tx }) => void tx.pfadd(at('hll'), 'a')),
      'EFFECT_REJECTED',
    );
    expect(error.reason).toBe('not_a_hyperloglog');
    const again = dedup.once('again', ({ tx }) => void tx.pfadd(at('hll')).pfadd(at('hll'), 'a'));
    expect((await expectCode(again, 'EFFECT_REJECTED')).reason).toBe('not_a_hyperloglog');
    // Without elements only the header is looked at, by Redis as by the check.
    const plain = await redis.pfadd(at('hll')).then(
      () => null,
      () => 'not_a_hyperloglog',
    );
    const empty = await dedup
      .once('empty', ({ tx }) => void tx.pfadd(at('hll')))
      .then(
        () => null,
        ({ reason }) => reason,
      );
    expect(empty).toBe(plain);
  });

  test('add to a HyperLogLog that is sound, sparse or dense', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('sparse'), Buffer.from(`HYLL\x01${'\0'.repeat(11)}\x7f\xff`, 'latin1'));
    await redis.pfadd(at('dense'), ...numbers(5_000));
    await redis.pfadd(at('mixed'), ...numbers(300));
    for (const key of ['sparse', 'dense', 'mixed'])
      await dedup.once(key, ({ tx }) => void tx.pfadd(at(key), 'a').pfadd(at(key), 'b'));
    expect(await redis.pfcount(at('sparse'))).toBe(2);
  });

  test.each([
    ['no key', 0, 'no_such_key'],
    ['two', 2, 'out_of_range'],
    ['two', -3, 'out_of_range'],
    ['two', 1, null],
    ['two', -2, null],
  ] as const)('set an element of a list where there is one: of %s at %i', async (name, index, reason) => {
    const { redis, dedup, at } = world();
    await redis.rpush(at('two'), 'a', 'b');
    const call = dedup.once('key', ({ tx }) => void tx.lset(at(name), index, 'x'));
    if (reason) expect((await expectCode(call, 'EFFECT_REJECTED')).reason).toBe(reason);
    else await call;
  });

  test('of a command that the server does not know are all refused', async () => {
    const url = await ownRedis(['--rename-command', 'LPUSH', 'XLPUSH']);
    const redis = connect({}, url);
    const error = await expectCode(
      makeDedup({}, redis).once('key', ({ tx }) => void tx.set('a', 1).lpush('b', 1)),
      'EFFECT_REJECTED',
    );
    expect(error).toMatchObject({ index: 1, reason: 'unknown_command' });
    expect(await redis.exists('a')).toBe(0);
  });

  test('find memory full after their claim and are made all the same', async () => {
    const redis = connect({}, await ownRedis([]));
    const dedup = makeDedup({}, redis);
    await dedup.once('key', async ({ tx }) => {
      tx.set('a', 1).rpush('b', 'x');
      await redis.config('SET', 'maxmemory', '1');
    });
    expect(await redis.get('a')).toBe('1');
    await expectCode(
      dedup.apply('other', (tx) => void tx.set('c', 1)),
      'STORE_UNAVAILABLE',
    );
    expect(await redis.exists('c')).toBe(0);
  });
});

describe('a write that is the only one', () => {
  test.each<[string, string, (tx: Effects, key: string) => unknown]>([
    ['incr', 'wrong_type', (tx, key) => tx.incr(key)],
    ['hset', 'wrong_type', (tx, key) => tx.hset(key, 'f', 1)],
    ['sadd', 'wrong_type', (tx, key) => tx.sadd(key, 1)],
    ['hincrby', 'not_an_integer', (tx, key) => tx.hincrby(`${key}-hash`, 'text', 1)],
    ['decrby', 'out_of_range', (tx, key) => tx.decrby(`${key}-least`, 1)],
  ])('%s is told to be %s as one of many is, and leaves nothing', async (_name, reason, write) => {
    const { redis, dedup, at } = world();
    const key = at('data');
    await redis.rpush(key, 'element');
    await redis.hset(`${key}-hash`, 'text', 'x');
    await redis.set(`${key}-least`, '-9223372036854775808');
    const dump = () => Promise.all([key, `${key}-hash`, `${key}-least`].map((name) => redis.dumpBuffer(name)));
    const before = await dump();
    const ways = [
      () => dedup.apply('applied', (tx) => void write(tx, key)),
      () => dedup.once('run', ({ tx }) => void write(tx, key)),
      () => dedup.apply('many', (tx) => void write(tx.set(at('other'), 1), key)),
    ];
    for (const way of ways) expect(await expectCode(way(), 'EFFECT_REJECTED')).toMatchObject({ reason });
    expect(await dump()).toEqual(before);
    expect(await redis.exists(at('other'))).toBe(0);
  });
});

describe('a condition', () => {
  test('version raises the version with the writes, from 1 where there was none', async () => {
    const { redis, dedup, at } = world();
    for (const expected of [0, 1, '2', 3n]) {
      await dedup.once(
        `edit ${expected}`,
        ({ tx }) => void tx.require.version(at('doc'), 'v', expected).hset(at('doc'), 'body', 'x'),
      );
    }
    expect(await redis.hget(at('doc'), 'v')).toBe('4');
    const { replies } = await dedup.apply('apply', (tx) => void tx.require.version(at('doc'), 'v', 4).incr(at('n')));
    expect(replies).toEqual([1]);
  });

  test('that fails runs the handler again with conflictRetries: the same attempt and fence, and no attempt is counted', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('n'), 0);
    const seen: { attempt: number; fence: number }[] = [];
    const result = await dedup.once(
      'key',
      async ({ tx, attempt, fence }) => {
        seen.push({ attempt, fence });
        const old = Number(await redis.get(at('n')));
        if (seen.length < 3) await redis.incr(at('n'));
        tx.require.equals(at('n'), old).set(at('n'), old + 100);
        return old;
      },
      { conflictRetries: 2, maxAttempts: 1 },
    );
    expect(result).toBe(2);
    expect(seen).toHaveLength(3);
    expect(new Set(seen.map((run) => JSON.stringify(run))).size).toBe(1);
    expect(await redis.get(at('n'))).toBe('102');
  });

  test('that holds, beside a write that cannot succeed: conflictRetries does not run the handler again', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('text'), 'x');
    let runs = 0;
    const call = dedup.once(
      'key',
      ({ tx }) => {
        runs += 1;
        tx.require.exists(at('text')).incr(at('text'));
      },
      { conflictRetries: 3 },
    );
    await expectCode(call, 'EFFECT_REJECTED');
    expect(runs).toBe(1);
  });

  test('that goes on failing is told after as many runs, and the call may be made again', async () => {
    const { redis, dedup, at } = world();
    let runs = 0;
    const call = () =>
      dedup.once(
        'key',
        ({ tx }) => {
          runs += 1;
          tx.require.exists(at('a'));
        },
        { conflictRetries: 3, maxAttempts: 1 },
      );
    await expectCode(call(), 'CONDITION_FAILED');
    expect(runs).toBe(4);
    await redis.set(at('a'), 1);
    await call();
  });
});

describe('apply', () => {
  test('makes its writes once, and gives the same replies to all', async () => {
    const { redis, dedup, at } = world();
    const write = (tx: Effects) =>
      void tx
        .incr(at('n'))
        .set(at('s'), 'v')
        .incrbyfloat(at('f'), 0.5)
        .xadd(at('x'), 'NOMKSTREAM', '*', 'f', 'v')
        .del(at('s'), at('none'))
        .incrby(at('n'), '9223372036854775806')
        .hset(at('h'), { a: 1, b: Buffer.from([0, 255]) })
        .hincrby(at('h'), 'a', '9007199254740993');
    const first = await dedup.apply<[number, string, string, null, number, number, number, number]>('key', write);
    const replies = [1, 'OK', '0.5', null, 1, 2 ** 63, 2, 9007199254740994] satisfies Reply[];
    expect(first).toEqual({ status: 'executed', replies, attempt: 1 });
    expect(await dedup.apply('key', write)).toEqual({ status: 'replayed', replies, attempt: 1 });
    expect(await redis.get(at('n'))).toBe('9223372036854775807');
  });

  test('that was rejected leaves a released record, and the next one is attempt 2', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('n'), 'x');
    await expectCode(
      dedup.apply('key', (tx) => void tx.incr(at('n'))),
      'EFFECT_REJECTED',
    );
    expect(await dedup.inspect('key')).toMatchObject({ state: 'released', attempt: 1 });
    await redis.del(at('n'));
    expect(await dedup.apply('key', (tx) => void tx.incr(at('n')))).toMatchObject({ status: 'executed', attempt: 2 });
  });

  test('and once never share a key; apply waits for a running handler before it says so', async () => {
    const { dedup, at } = world();
    await dedup.apply('applied', (tx) => void tx.incr(at('n')));
    const applied = await expectCode(
      dedup.once('applied', () => 1),
      'INVALID_OPTION',
    );
    await dedup.once('ran', () => 1);
    const ran = await expectCode(
      dedup.apply('ran', (tx) => void tx.incr(at('n'))),
      'INVALID_OPTION',
    );
    expect([applied.key, ran.key]).toEqual(['applied', 'ran']);
    const [started, hold] = [gate(), gate()];
    const running = dedup.once('runs', () => {
      started.open();
      return hold.opened;
    });
    await started.opened;
    await expectCode(
      dedup.apply('runs', (tx) => void tx.incr(at('n')), { onInProgress: 'throw' }),
      'IN_PROGRESS',
    );
    const waits = expectCode(
      dedup.apply('runs', (tx) => void tx.incr(at('n'))),
      'INVALID_OPTION',
    );
    hold.open();
    await running;
    await waits;
  });

  test('with another fingerprint is refused, whatever became of the first', async () => {
    const { redis, dedup, at } = world();
    await dedup.apply('key', (tx) => void tx.incr(at('n')), { fingerprint: { a: 1 } });
    await expectCode(
      dedup.apply('key', (tx) => void tx.incr(at('n')), { fingerprint: { a: 2 } }),
      'FINGERPRINT_MISMATCH',
    );
    await expectCode(
      dedup.apply('key', (tx) => void tx.incr(at('n'))),
      'FINGERPRINT_MISMATCH',
    );
    expect(await redis.get(at('n'))).toBe('1');
  });

  test('waits for a running handler as long as it may, until it is aborted, or until the Dedup closes', async () => {
    const redis = connect();
    const namespace = freshNamespace();
    const [dedup, other] = [makeDedup({ namespace }, redis), makeDedup({ namespace }, redis)];
    const [started, hold] = [gate(), gate()];
    const running = other.once('key', () => {
      started.open();
      return hold.opened;
    });
    await started.opened;
    const write = (tx: Effects) => void tx.incr(`data-${namespace}`);
    const ended = vi.spyOn(Wait.prototype, 'end');
    const late = await expectCode(dedup.apply('key', write, { waitTimeout: 30 }), 'IN_PROGRESS');
    expect(late.retryAfterMs).toBeGreaterThan(20_000);
    expect(late.retryAfterMs).toBeLessThanOrEqual(30_000);
    // It listens for hints no more.
    expect(ended).toHaveBeenCalledOnce();
    const controller = new AbortController();
    const aborted = dedup.apply('key', write, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    await expect(dedup.apply('free', write, { signal: controller.signal })).rejects.toThrow('enough');
    const closed = expectCode(dedup.apply('key', write), 'CLOSED');
    await dedup.close();
    await closed;
    await expectCode(dedup.apply('free', write), 'CLOSED');
    hold.open();
    await running;
    expect(await redis.exists(`data-${namespace}`)).toBe(0);
  });

  test('tells each state of its key, and what became of the exchange', async () => {
    const redis = connect({}, await ownRedis([]));
    const dedup = makeDedup({}, redis);
    const at = (name: string) => `data:${name}`;
    const incr = (tx: Effects) => void tx.incr(at('n'));
    const told: string[] = [];
    for (const event of ['executed', 'replayed'] as const) dedup.on(event, () => told.push(event));
    dedup.on('storeError', ({ operation }) => told.push(operation));
    await dedup.apply('done', incr);
    await dedup.apply('done', incr);
    const { redisKey = '' } = (await dedup.inspect('done')) ?? {};
    await redis.append(redisKey, '?');
    const cut = await expectCode(dedup.apply('done', incr), 'CODEC');
    expect(cut).toMatchObject({ key: 'done', cause: expect.any(Error) });
    await redis.set(redisKey, 'no record');
    await expectCode(dedup.apply('done', incr), 'CODEC');
    await redis.set(at('text'), 'x');
    const fail = () => dedup.apply('fails', (tx) => void tx.incr(at('text')), { maxAttempts: 1 });
    await expectCode(fail(), 'EFFECT_REJECTED');
    expect((await expectCode(fail(), 'ATTEMPTS_EXHAUSTED')).attempts).toBe(1);
    await redis.config('SET', 'maxmemory', '1');
    await expectCode(dedup.apply('other', incr), 'STORE_UNAVAILABLE').finally(() =>
      redis.config('SET', 'maxmemory', '0'),
    );
    expect(told).toEqual(['executed', 'replayed', 'apply']);
    expect(await redis.get(at('n'))).toBe('1');
  });

  test('without writes leaves a record all the same, and no replies', async () => {
    const { dedup } = world();
    for (const status of ['executed', 'replayed']) {
      expect(await dedup.apply('key', () => {})).toEqual({ status, replies: [], attempt: 1 });
    }
  });

  test('tells sums to the digit, between those that Lua prints by itself and those that it cannot hold', async () => {
    const { dedup, at } = world();
    const sums = [99_999_999_999_999, 100_000_000_000_000, 2 ** 53 - 1, -(2 ** 53) + 1];
    for (const [index, sum] of sums.entries()) {
      const { replies } = await dedup.apply(
        `${index}`,
        (tx) => void tx.incrby(at(`n${index}`), sum).append(at('s'), 'x'),
      );
      expect(replies).toEqual([sum, index + 1]);
    }
  });

  test('takes the fingerprint of the first call that brings one', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('text'), 'x');
    await expectCode(
      dedup.apply('key', (tx) => void tx.incr(at('text'))),
      'EFFECT_REJECTED',
    );
    await dedup.apply('key', (tx) => void tx.incr(at('n')), { fingerprint: 'a' });
    await expectCode(
      dedup.apply('key', (tx) => void tx.incr(at('n')), { fingerprint: 'b' }),
      'FINGERPRINT_MISMATCH',
    );
  });

  test('whose script came twice before its first answer is asked again: the copy of a refused one says nothing', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('text'), 'x');
    const scripting = redis as unknown as { evalshaBuffer(...args: unknown[]): Promise<unknown> };
    const send = scripting.evalshaBuffer.bind(redis);
    const sent = vi.spyOn(scripting, 'evalshaBuffer');
    // As a connection that drops in between does it.
    await dedup.apply('known', (tx) => void tx.incr(at('n')));
    sent.mockImplementationOnce(async (...args) => {
      await send(...args);
      return send(...args);
    });
    const refused = await expectCode(
      dedup.apply('key', (tx) => void tx.incr(at('text'))),
      'EFFECT_REJECTED',
    );
    expect(refused).toMatchObject({ index: 0, command: 'incr' });
    expect(await dedup.inspect('key')).toMatchObject({ state: 'released', attempt: 2 });
  });

  test('takes no promise, no option of once, and no call from inside its key', async () => {
    const { dedup, at } = world();
    await expectCode(dedup.apply('a', (async (tx: Effects) => void tx.incr(at('n'))) as never), 'INVALID_OPTION');
    await expectCode(
      dedup.apply('a', () => {}, { lease: '1s' } as never),
      'INVALID_OPTION',
    );
    await expectCode(
      dedup.once('b', () => dedup.apply('b', (tx) => void tx.incr(at('n')))),
      'IN_PROGRESS',
    );
  });
});

describe('many calls', () => {
  test('of applyMany stand in their order, fail alone, and run once for a key', async () => {
    const { redis, dedup, at } = world();
    await redis.set(at('text'), 'x');
    const outcomes = await dedup.applyMany([
      { key: 'a', write: (tx) => void tx.incr(at('n')) },
      { key: 'b', write: (tx) => void tx.incr(at('text')) },
      { key: 'a', write: (tx) => void tx.incr(at('n')) },
      {
        key: 'c',
        write: () => {
          throw new Error('mine');
        },
      },
      { key: '', write: (tx) => void tx.incr(at('n')) },
    ]);
    expect(outcomes.map(({ key, status }) => [key, status])).toEqual([
      ['a', 'executed'],
      ['b', 'failed'],
      ['a', 'replayed'],
      ['c', 'failed'],
      ['', 'failed'],
    ]);
    expect(await redis.get(at('n'))).toBe('1');
  });

  test('of onceMany stand in their order, fail alone, run once for a key, and no more handlers at a time than allowed', async () => {
    const { dedup } = world();
    let [running, most] = [0, 0];
    const items = ['a', 'b', 'a', 'bad', 'c', 'd', 'e', ''];
    const outcomes = await dedup.onceMany(items, {
      key: (item) => item,
      concurrency: 2,
      handler: async (item, { key }) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        if (item === 'bad') throw new Error('mine');
        return key.toUpperCase();
      },
    });
    expect(
      outcomes.map((outcome) => [outcome.item, outcome.status, 'value' in outcome ? outcome.value : null]),
    ).toEqual([
      ['a', 'executed', 'A'],
      ['b', 'executed', 'B'],
      ['a', 'replayed', 'A'],
      ['bad', 'failed', null],
      ['c', 'executed', 'C'],
      ['d', 'executed', 'D'],
      ['e', 'executed', 'E'],
      ['', 'failed', null],
    ]);
    expect(most).toBe(2);
  });

  test('with a spec or entries that are wrong are refused as a whole', async () => {
    const { dedup } = world();
    const spec = { key: String, handler: () => 1 };
    await expectCode(dedup.onceMany(1 as never, spec), 'INVALID_OPTION');
    const none = await expectCode(dedup.onceMany([1], { ...spec, concurrency: 0 }), 'INVALID_OPTION');
    expect(none.message).toContain('`concurrency`');
    await expectCode(dedup.onceMany([1], { ...spec, handler: 1 } as never), 'INVALID_OPTION');
    await expectCode(dedup.onceMany([1], { ...spec, other: 1 } as never), 'INVALID_OPTION');
    await expectCode(dedup.applyMany([null] as never), 'INVALID_OPTION');
    await expectCode(dedup.applyMany(['key'] as never), 'INVALID_OPTION');
  });

  test('of onceMany without a bound, one of whose keys cannot be told', async () => {
    const { dedup } = world();
    const key = (item: string) => (item === 'none' ? expect.fail('no key') : item);
    const outcomes = await dedup.onceMany(['a', 'none'], { key, handler: () => 1 });
    expect(outcomes).toMatchObject([
      { key: 'a', status: 'executed', value: 1 },
      { key: '', status: 'failed', error: { message: 'no key' } },
    ]);
  });
});
