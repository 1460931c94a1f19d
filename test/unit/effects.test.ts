/** What `tx` refuses by itself, and the bytes of replies. */
import { describe, expect, test } from 'vitest';
import { effectsOf, Recorder } from '../../src/effects/recorder.js';
import { decodeReplies } from '../../src/effects/replies.js';
import { type DedupErrorCode, type Effects, isDedupError } from '../../src/index.js';

const TERMS = {
  key: 'k',
  redisKey: '{tag}:once:k',
  namespace: 'once',
  keyPrefix: '',
  isCluster: false,
  connection: {},
};

function fresh(terms: Partial<typeof TERMS> = {}): { recorder: Recorder; tx: Effects } {
  const recorder = new Recorder({ ...TERMS, ...terms });
  return { recorder, tx: effectsOf(recorder) };
}

function codeOf(call: () => unknown): DedupErrorCode | undefined {
  try {
    call();
  } catch (error) {
    if (isDedupError(error)) return error.code;
    throw error;
  }
  return undefined;
}

type Loose = Record<string, (...args: unknown[]) => Effects>;

test.each<[string, ...unknown[]]>([
  ['set', 'k'],
  ['set', 'k', undefined],
  ['set', 'k', null],
  ['set', 'k', Number.NaN],
  ['set', 'k', Number.POSITIVE_INFINITY],
  ['set', 'k', {}],
  ['set', 'k', 'v', 'NX'],
  ['set', 'k', 'v', 'EX'],
  ['set', 'k', 'v', 'EX', 0],
  ['set', 'k', 'v', 'PX', -1],
  ['set', 'k', 'v', 'EX', 1.5],
  ['set', 'k', 'v', 'EX', 1, 'NX'],
  ['set', 'k', 'v', 'KEEPTTL', 1],
  ['setrange', 'k', -1, 'v'],
  ['setrange', 'k', 1],
  ['setbit', 'k', 0, 2],
  ['setbit', 'k', -1, 1],
  ['append', 'k'],
  ['append', 'k', 'a', 'b'],
  ['incr', 'k', 1],
  ['incrby', 'k', 1.5],
  ['incrby', 'k', '01'],
  ['incrby', 'k', '+1'],
  ['incrby', 'k', '9223372036854775808'],
  ['incrby', 'k', 2 ** 53],
  ['decrby', 'k', '-9223372036854775808'],
  ['incrbyfloat', 'k', 'inf'],
  ['incrbyfloat', 'k', '0x10'],
  ['incrbyfloat', 'k', '1e309'],
  ['incrbyfloat', 'k', '1e-400'],
  ['incrbyfloat', 'k', Number.NaN],
  ['hset', 'k'],
  ['hset', 'k', 'f'],
  ['hset', 'k', {}],
  ['hset', 'k', { f: undefined }],
  ['hdel', 'k'],
  ['hincrby', 'k', 'f', 'x'],
  ['sadd', 'k'],
  ['sadd', 'k', []],
  ['zadd', 'k', 'NX', 'XX', 1, 'm'],
  ['zadd', 'k', 'GT', 'LT', 1, 'm'],
  ['zadd', 'k', 'NX', 'GT', 1, 'm'],
  ['zadd', 'k', 'INCR', 1, 'm'],
  ['zadd', 'k', 'nan', 'm'],
  ['zadd', 'k', 1],
  ['zincrby', 'k', 'nan', 'm'],
  ['zremrangebyscore', 'k', '', 1],
  ['zremrangebyscore', 'k', '((1', 1],
  ['zremrangebyrank', 'k', 0],
  ['geoadd', 'k', 181, 0, 'm'],
  ['geoadd', 'k', 0, 86, 'm'],
  ['geoadd', 'k', 0, 0],
  ['lpush', 'k'],
  ['ltrim', 'k', 0],
  ['lrem', 'k', '-9223372036854775808', 'v'],
  ['lset', 'k', 'x', 'v'],
  ['expire', 'k', 'soon'],
  ['expire', 'k', 1, 'NX'],
  ['xadd', 'k', '*'],
  ['xadd', 'k', '*', 'f'],
  ['xadd', 'k', '0-0', 'f', 'v'],
  ['xadd', 'k', '0', 'f', 'v'],
  ['xadd', 'k', '1-*', 'f', 'v'],
  ['xadd', 'k', '01-1', 'f', 'v'],
  ['xadd', 'k', '18446744073709551616-0', 'f', 'v'],
  ['xadd', 'k', 'MAXLEN', '=', 5, 'LIMIT', 1, '*', 'f', 'v'],
  ['xadd', 'k', 'MAXLEN', -1, '*', 'f', 'v'],
  ['xtrim', 'k', 'LENGTH', 1],
  ['xtrim', 'k', 'MAXLEN'],
  ['xtrim', 'k', 'MAXLEN', 1, 2],
  ['xdel', 'k'],
  ['xdel', 'k', 'x'],
  ['xack', 'k', 'g'],
  ['publish', 'c'],
])('tx.%s with %o, %o, %o, %o, %o is refused by the call, and adds nothing', (name, ...args) => {
  const { recorder, tx } = fresh();
  expect(codeOf(() => (tx as unknown as Loose)[name]?.(...args))).toBe('INVALID_OPTION');
  expect(recorder.effects.words).toEqual([]);
});

test.each([
  [''],
  [undefined],
  [null],
  [1],
  [{}],
  ['once:a'],
  ['{tag}:once:b:c'],
  ['once::hints'],
  [Buffer.from('once:a')],
])('the key %o is refused by every call', (key) => {
  const { tx } = fresh();
  expect(codeOf(() => tx.set(key as never, 'v'))).toBe('INVALID_KEY');
  expect(codeOf(() => tx.del('fine', key as never))).toBe('INVALID_KEY');
  expect(codeOf(() => tx.require.exists(key as never))).toBe('INVALID_KEY');
});

test('a key that only resembles a record is one of the data', () => {
  expect(fresh().tx.set('once', 1).set('onceler:a', 1).set('a:once:b', 1)).toBeDefined();
});

test('in Cluster a key of another slot is refused, with the prefix reckoned in', () => {
  const { tx } = fresh({ isCluster: true });
  expect(codeOf(() => tx.set('{tag}:data', 1))).toBeUndefined();
  expect(codeOf(() => tx.set('{other}:data', 1))).toBe('CROSS_SLOT');
  expect(codeOf(() => tx.require.absent('{other}:data'))).toBe('CROSS_SLOT');
  expect(codeOf(() => fresh({ isCluster: true, keyPrefix: '{app}:' }).tx.set('{other}:data', 1))).toBeUndefined();
});

describe('a sequence that cannot be checked', () => {
  test.each<[string, (tx: Effects) => unknown]>([
    ['an integer command after a float one', (tx) => tx.incrbyfloat('k', 1).incr('k')],
    ['the same on a field', (tx) => tx.hincrbyfloat('k', 'f', 1).hincrby('k', 'f', 1)],
    ['a version after a float command on its field', (tx) => tx.hincrbyfloat('k', 'f', 1).require.version('k', 'f', 1)],
    ['a number command after bytes on a float', (tx) => tx.incrbyfloat('k', 1).append('k', '0').incrbyfloat('k', 1)],
    ['PFADD after bytes on what it made', (tx) => tx.pfadd('k', 'a').setbit('k', 1, 1).pfadd('k', 'b')],
    ['an id after *', (tx) => tx.xadd('k', '*', 'f', 'v').xadd('k', 'MAXLEN', '~', 5, '9-1', 'f', 'v')],
    ['LSET after an expiry', (tx) => tx.expire('k', 9).lset('k', 0, 'v')],
    ['LSET after LTRIM', (tx) => tx.ltrim('k', 0, 1).lset('k', 0, 'v')],
    ['LSET after LREM', (tx) => tx.lrem('k', 0, 'a').lset('k', 0, 'v')],
    [
      'another type after a removal by range among places',
      (tx) => tx.geoadd('k', 1, 1, 'm').zremrangebyrank('k', 0, 0).sadd('k', 'm'),
    ],
  ])('is refused: %s', (_name, write) => {
    expect(codeOf(() => write(fresh().tx))).toBe('INVALID_OPTION');
  });

  test('is none once the key was replaced in between, or on another key or field', () => {
    const { tx } = fresh();
    tx.incrbyfloat('k', 1).set('k', 1).incr('k').incrbyfloat('k', 1).del('k').incr('k').incrbyfloat('other', 1);
    tx.hincrbyfloat('h', 'f', 1).hincrby('h', 'g', 1).hset('h', 'f', 1).hincrby('h', 'f', 1);
    tx.ltrim('l', 0, 1).unlink('l').rpush('l', 'a').lset('l', 0, 'b');
  });
});

test('a tx holds so many commands, arguments and bytes, and no more', () => {
  const { tx } = fresh();
  for (let at = 0; at < 1_000; at += 1) tx.incr('k');
  expect(codeOf(() => tx.incr('k'))).toBe('INVALID_OPTION');
  expect(codeOf(() => fresh().tx.sadd('k', ...(Array.from({ length: 7_001 }, String) as [string])))).toBe(
    'INVALID_OPTION',
  );
  expect(codeOf(() => fresh().tx.sadd('k', ...(Array.from({ length: 7_000 }, String) as [string])))).toBeUndefined();
  expect(codeOf(() => fresh().tx.set('k', Buffer.alloc(8 * 1024 * 1024 + 1)))).toBe('INVALID_OPTION');
});

test('no message of a refusal holds an argument', () => {
  try {
    fresh().tx.incrby('k', 'secret');
  } catch (error) {
    expect((error as Error).message).toBe(
      'Expected the increment of `tx.incrby` to be an integer of 64 bits, got a string',
    );
  }
  expect.assertions(1);
});

test('replies of every form are read: nil, texts, integers beyond 2^53, nesting', () => {
  const bytes = Buffer.from('$-1\r\n+OK\r\n:9007199254740993\r\n$3\r\na\r\n\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n');
  expect(decodeReplies(bytes)).toEqual([null, 'OK', 9007199254740992, 'a\r\n', [1, ['']]]);
  expect(() => decodeReplies(Buffer.from('x1\r\n'))).toThrow();
  expect(() => decodeReplies(Buffer.from(':1'))).toThrow();
});
