/** The life of a call as its caller sees it. */
import { getEventListeners } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { OnceContext } from '../../src/index.js';
import {
  connect,
  expectCode,
  expectRanOnce,
  freshNamespace,
  gate,
  heldHandler,
  keysOf,
  makeDedup,
  until,
} from '../support/index.js';

describe('a first call and its replays', () => {
  test('run the handler once and return equal values', async () => {
    const dedup = makeDedup();
    let runs = 0;
    const handler = () => ({ charged: 1999, run: ++runs });
    expect(await dedup.run('k', handler)).toMatchObject({
      status: 'executed',
      value: { run: 1 },
      attempt: 1,
      waitedMs: 0,
    });
    expect(await dedup.run('k', handler)).toMatchObject({
      status: 'replayed',
      value: { run: 1 },
      attempt: 1,
      waitedMs: 0,
    });
    expect(await dedup.once('k', handler)).toEqual({ charged: 1999, run: 1 });
  });

  test.each([undefined, null, 0, '', false, [], {}, 'text', [null, 1]])('%j replays as itself', async (value) => {
    const dedup = makeDedup();
    expect(await dedup.once('k', () => value)).toStrictEqual(value);
    expect(await dedup.once('k', () => 'another')).toStrictEqual(value);
  });

  test('return the decoded form of what was stored, the first call too', async () => {
    const dedup = makeDedup();
    const when = new Date(0);
    expect(await dedup.once('k', () => ({ when }))).toEqual({ when: when.toISOString() });
    expect(await dedup.once('k', () => ({ when }))).toEqual({ when: when.toISOString() });
  });

  test('do not share their objects', async () => {
    const dedup = makeDedup();
    const first = await dedup.once('k', () => ({ list: [1] }));
    first.list.push(2);
    expect(await dedup.once('k', () => ({ list: [] as number[] }))).toEqual({ list: [1] });
  });

  test('200 at once in one process run the handler once', async () => {
    const dedup = makeDedup();
    const outcomes = await Promise.all(
      Array.from({ length: 200 }, () => dedup.run('k', () => ({ at: Math.random() }))),
    );
    expectRanOnce(outcomes);
  });

  test('200 at once in one process claim once', async () => {
    const redis = connect();
    const dedup = makeDedup({ allowEviction: true }, redis);
    const sent: string[] = [];
    const scripting = redis as unknown as { evalshaBuffer(...args: unknown[]): Promise<unknown> };
    const { evalshaBuffer } = scripting;
    scripting.evalshaBuffer = (...args) => {
      sent.push(String(args[0]));
      return evalshaBuffer.apply(redis, args);
    };
    await dedup.once('warm', () => 1);
    sent.length = 0;
    await Promise.all(Array.from({ length: 200 }, () => dedup.once('k', () => 1)));
    expect(sent).toHaveLength(2);
  });
});

describe('a handler', () => {
  test('is told its key, attempt and fence', async () => {
    const dedup = makeDedup();
    const contexts: OnceContext[] = [];
    const handler = (context: OnceContext) => {
      contexts.push(context);
      if (contexts.length < 3) throw new Error('not yet');
    };
    for (let i = 0; i < 2; i += 1) await dedup.once('k', handler).catch(() => {});
    await dedup.once('k', handler);
    expect(contexts.map(({ key, attempt }) => [key, attempt])).toEqual([
      ['k', 1],
      ['k', 2],
      ['k', 3],
    ]);
    const fences = contexts.map(({ fence }) => fence);
    expect(fences).toEqual([...fences].sort((a, b) => a - b));
    expect(new Set(fences).size).toBe(3);
  });

  test('has an idempotency key for each step: the same in every attempt, another for every key', async () => {
    const dedup = makeDedup();
    const steps: string[][] = [];
    const handler = (context: OnceContext) => {
      steps.push(['charge', 'mail'].map((step) => context.idempotencyKey(step)));
      if (steps.length === 1) throw new Error('again');
    };
    await dedup.once('k', handler).catch(() => {});
    await dedup.once('k', handler);
    await dedup.once('other', handler);
    await dedup.scope('s').once('k', handler);
    await dedup.once('k', handler, { slot: 'tag' });
    expect(steps[0]).toEqual(steps[1]);
    expect(new Set(steps.flat()).size).toBe(8);
  });

  test('may throw: its own error to its caller, attempt 2 for the next', async () => {
    const dedup = makeDedup();
    const error = new Error('boom');
    const thrown = dedup.once('k', () => {
      throw error;
    });
    await expect(thrown).rejects.toBe(error);
    expect(await dedup.inspect('k')).toMatchObject({ state: 'released', attempt: 1 });
    expect(await dedup.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2, attempt: 2 });
    expect(await dedup.run('k', () => 0)).toMatchObject({ status: 'replayed', value: 2, attempt: 2 });
  });

  test.each([
    [
      'an Error with a code',
      Object.assign(new TypeError('no'), { code: 'E_NO' }),
      { name: 'TypeError', message: 'no', code: 'E_NO' },
    ],
    ['a string', 'just text', { name: 'Error', message: 'just text' }],
    ['undefined', undefined, { name: 'Error', message: '' }],
  ])("may throw %s under onError: 'store', which is kept and replayed", async (_name, error, failure) => {
    const dedup = makeDedup({ onError: 'store' });
    let runs = 0;
    const handler = () => {
      runs += 1;
      throw error;
    };
    await dedup.once('k', handler).then(
      () => expect.fail('the handler threw'),
      (reason) => expect(reason).toBe(error),
    );
    const stored = await expectCode(dedup.once('k', handler), 'STORED_FAILURE');
    expect(stored.failure).toEqual(failure);
    expect(stored.key).toBe('k');
    expect(runs).toBe(1);
    expect(await dedup.inspect('k')).toMatchObject({ state: 'failed', attempt: 1 });
  });

  test('may have its errors sorted: some stored, the rest released; a policy that throws releases', async () => {
    const dedup = makeDedup();
    const onError = (error: unknown) => {
      const { message } = error as Error;
      if (message === 'bad policy') throw new Error('of its own');
      return message === 'final' ? ('store' as const) : ('release' as const);
    };
    const throwing = (message: string) => () => {
      throw new Error(message);
    };
    for (const message of ['passing', 'bad policy', 'final']) {
      await expect(dedup.once('k', throwing(message), { onError })).rejects.toThrow(message);
    }
    await expectCode(dedup.once('k', throwing('never'), { onError }), 'STORED_FAILURE');
  });

  test('whose attempts all fail fails the key for good at maxAttempts', async () => {
    const dedup = makeDedup({ maxAttempts: 2 });
    const handler = () => {
      throw new Error('always');
    };
    await expect(dedup.once('k', handler)).rejects.toThrow('always');
    await expect(dedup.once('k', handler)).rejects.toThrow('always');
    const failed: [number, number][] = [];
    dedup.on('failed', ({ attempt, ranMs }) => failed.push([attempt, ranMs]));
    for (let i = 0; i < 2; i += 1) {
      const error = await expectCode(dedup.once('k', handler), 'ATTEMPTS_EXHAUSTED');
      expect(error).toMatchObject({ key: 'k', attempts: 2 });
    }
    expect(failed).toEqual([[2, 0]]);
    expect(await dedup.inspect('k')).toMatchObject({ state: 'failed' });
  });

  test('that calls its own key is refused at once, that of another key is not', async () => {
    const dedup = makeDedup();
    const value = await dedup.once('k', async () => {
      await expectCode(
        dedup.once('k', () => 'inner'),
        'IN_PROGRESS',
      );
      await expectCode(
        dedup.scope('s').once('k', () => dedup.once('k', () => 'deep')),
        'IN_PROGRESS',
      );
      return dedup.once('another', () => 'fine');
    });
    expect(value).toBe('fine');
  });

  test('that calls its own key through another Dedup of the connection is refused too', async () => {
    const redis = connect();
    const namespace = freshNamespace();
    const [one, two] = [makeDedup({ namespace }, redis), makeDedup({ namespace }, redis)];
    await one.once('k', () =>
      expectCode(
        two.once('k', () => 'inner'),
        'IN_PROGRESS',
      ),
    );
  });

  test('refuses a step without a name, by which two would have one key', async () => {
    const dedup = makeDedup();
    for (const step of [undefined, null, '', 5, { a: 1 }]) {
      await expectCode(
        dedup.once('k', ({ idempotencyKey }) => idempotencyKey(step as string)),
        'INVALID_OPTION',
      );
    }
  });

  test('may take its context apart', async () => {
    const dedup = makeDedup();
    const parts = await dedup.once('k', ({ key, attempt, fence, signal, idempotencyKey }) => [
      key,
      attempt,
      fence > 0,
      signal.aborted,
      idempotencyKey('step').length,
    ]);
    expect(parts).toEqual(['k', 1, true, false, 43]);
  });

  test('may call its own key from what it leaves behind', async () => {
    const dedup = makeDedup();
    const later = gate();
    let left: Promise<unknown> = Promise.resolve();
    await dedup.once('k', () => {
      left = later.opened.then(() => dedup.run('k', () => 'second'));
      return 'first';
    });
    later.open();
    expect(await left).toMatchObject({ status: 'replayed', value: 'first' });
  });
});

describe('a result', () => {
  test.each([
    ['a function', () => () => {}],
    ['a symbol', () => Symbol('s')],
    ['a BigInt', () => 1n],
    [
      'a cycle',
      () => {
        const cycle: Record<string, unknown> = {};
        cycle.self = cycle;
        return cycle;
      },
    ],
  ])('that JSON cannot encode, %s, is a CodecError: released, nothing stored', async (_name, handler) => {
    const dedup = makeDedup();
    const error = await expectCode(dedup.once('k', handler as () => unknown), 'CODEC');
    expect(error.key).toBe('k');
    expect(error.cause).toBeInstanceOf(Error);
    expect(await dedup.inspect('k')).toMatchObject({ state: 'released', resultBytes: null });
    expect(await dedup.once('k', () => 'good')).toBe('good');
  });

  test('that is too large is an error: released, nothing stored', async () => {
    const dedup = makeDedup({ maxResultBytes: 10 });
    const error = await expectCode(
      dedup.once('k', () => 'x'.repeat(9)),
      'RESULT_TOO_LARGE',
    );
    expect(error.message).not.toContain('xxx');
    expect(error.key).toBe('k');
    expect(await dedup.inspect('k')).toMatchObject({ state: 'released' });
    expect(await dedup.once('k', () => 'x'.repeat(8))).toBe('xxxxxxxx');
  });

  test('that a codec cannot decode is a CodecError, and the record stays', async () => {
    const dedup = makeDedup();
    await dedup.once('k', () => 'stored');
    const broken = {
      encode: String,
      decode: () => {
        throw new Error('cannot');
      },
    };
    const error = await expectCode(
      dedup.once('k', () => 1, { codec: broken }),
      'CODEC',
    );
    expect((error.cause as Error).message).toBe('cannot');
    expect(error.key).toBe('k');
    expect(await dedup.once('k', () => 1)).toBe('stored');
  });

  test.each([5, null, undefined, { text: 'text' }])(
    'that a codec encodes to %j is a CodecError: released',
    async (encoded) => {
      const dedup = makeDedup();
      const codec = { encode: () => encoded as never, decode: String };
      const error = await expectCode(
        dedup.once('k', () => 1, { codec }),
        'CODEC',
      );
      expect(error.message).toMatch(/^Expected the codec to encode to a string or a Buffer/);
      expect(error.key).toBe('k');
      expect(await dedup.inspect('k')).toMatchObject({ state: 'released' });
    },
  );

  test('goes through a codec of the caller, with the Redis key told', async () => {
    const dedup = makeDedup();
    const seen: string[] = [];
    const codec = {
      encode: (value: unknown, { redisKey }: { redisKey: string }) => {
        seen.push(redisKey);
        return Buffer.from(String(value));
      },
      decode: (bytes: Buffer, { redisKey }: { redisKey: string }) => {
        seen.push(redisKey);
        return BigInt(bytes.toString());
      },
    };
    expect(await dedup.once('k', () => 12n, { codec })).toBe(12n);
    expect(await dedup.once('k', () => 13n, { codec })).toBe(12n);
    const redisKey = (await dedup.inspect('k'))?.redisKey;
    expect(seen).toEqual([redisKey, redisKey, redisKey]);
  });
});

describe('a stored record', () => {
  test('of an unknown layout is an error that says so, and is untouched', async () => {
    const redis = connect();
    const dedup = makeDedup({}, redis);
    await dedup.once('k', () => 1);
    const { redisKey } = (await dedup.inspect('k')) as { redisKey: string };
    await redis.setrange(redisKey, 0, '\x09');
    const before = await redis.dumpBuffer(redisKey);
    const error = await expectCode(
      dedup.once('k', () => 2),
      'CODEC',
    );
    expect(error.message).toMatch(/layout/);
    expect(error.key).toBe('k');
    await expectCode(dedup.inspect('k'), 'CODEC');
    await expectCode(dedup.forget('k'), 'CODEC');
    expect(await redis.dumpBuffer(redisKey)).toEqual(before);
    expect(await dedup.forget('k', { force: true })).toBe(true);
  });

  test('of a failure that cannot be read is a CodecError, and stays', async () => {
    const redis = connect();
    const dedup = makeDedup({ onError: 'store' }, redis);
    const fails = () => Promise.reject(new Error('final'));
    await dedup.once('k', fails).catch(() => {});
    const { redisKey } = (await dedup.inspect('k')) as { redisKey: string };
    await redis.append(redisKey, '}');
    const error = await expectCode(dedup.once('k', fails), 'CODEC');
    expect(error.message).toMatch(/failure/);
    expect(error.key).toBe('k');
    expect(error.cause).toBeInstanceOf(Error);
    expect(await dedup.inspect('k')).toMatchObject({ state: 'failed' });
  });

  test('that is broken is an error until it is forgotten', async () => {
    const redis = connect();
    const dedup = makeDedup({}, redis);
    const { handler, started, release } = heldHandler(1);
    const held = dedup.once('k', handler);
    await started;
    const { redisKey } = (await dedup.inspect('k')) as { redisKey: string };
    await redis.setrange(redisKey, 1, 'B');
    release();
    expect((await expectCode(held, 'BROKEN')).key).toBe('k');
    const later = await expectCode(
      dedup.once('k', () => 2),
      'BROKEN',
    );
    expect(later.key).toBe('k');
    expect(await dedup.inspect('k')).toMatchObject({ state: 'broken' });
    expect(await dedup.forget('k')).toBe(true);
    expect(await dedup.once('k', () => 2)).toBe(2);
  });

  test('is inspected in every detail', async () => {
    const dedup = makeDedup({ namespace: 'inspected', retention: '1h' }).scope(`${Math.random()}`);
    expect(await dedup.inspect('k')).toBeNull();
    expect(await dedup.forget('k')).toBe(false);
    const { handler, started, release } = heldHandler('value');
    const held = dedup.once('k', handler, { fingerprint: { a: 1 } });
    await started;
    const running = await dedup.inspect('k');
    expect(running).toMatchObject({ key: 'k', state: 'in_progress', attempt: 1, resultBytes: null });
    expect(running?.leaseRemainingMs).toBeGreaterThan(20_000);
    expect(running?.leaseRemainingMs).toBeLessThanOrEqual(30_000);
    expect(running?.fingerprint).toMatch(/^[0-9a-f]{32}$/);
    await expectCode(dedup.forget('k'), 'IN_PROGRESS');
    release();
    await held;
    const completed = await dedup.inspect('k');
    expect(completed).toMatchObject({
      state: 'completed',
      fence: running?.fence,
      leaseRemainingMs: null,
      resultBytes: 7,
    });
    expect(completed?.expiresInMs).toBeLessThanOrEqual(3_600_000);
    expect(completed?.expiresInMs).toBeGreaterThan(3_500_000);
  });

  test('that is forgotten while its handler runs is not committed', async () => {
    const dedup = makeDedup();
    const lost: string[] = [];
    dedup.on('leaseLost', ({ reason }) => lost.push(reason));
    const { handler, started, release } = heldHandler(1);
    const held = dedup.once('k', handler);
    await started;
    expect(await dedup.forget('k', { force: true })).toBe(true);
    release();
    const error = await expectCode(held, 'LEASE_LOST');
    expect(error.key).toBe('k');
    expect(error.message).toMatch(/^The record is gone/);
    expect(lost).toEqual(['taken_over']);
    expect(await dedup.inspect('k')).toBeNull();
  });

  test('that is not completed lives as long as its retention, two leases and a minute', async () => {
    const dedup = makeDedup();
    const fails = () => Promise.reject(new Error('no'));
    const ttl = async (key: string, options: object) => {
      await dedup.once(key, fails, options).catch(() => {});
      return Math.ceil(((await dedup.inspect(key))?.expiresInMs as number) / 10_000) * 10;
    };
    expect(await ttl('retention', { retention: '5m', lease: '1s' })).toBe(300);
    expect(await ttl('lease', { retention: '1s', lease: '2m' })).toBe(240);
    expect(await ttl('minute', { retention: '1s', lease: '1s' })).toBe(60);
  });

  test('has a TTL, whatever it stands at', async () => {
    const redis = connect();
    const namespace = freshNamespace();
    const dedup = makeDedup({ namespace }, redis);
    const { handler, started } = heldHandler(1);
    void dedup.once('held', handler).catch(() => {});
    await started;
    await dedup.once('completed', () => 1);
    const fails = () => {
      throw new Error('no');
    };
    await dedup.once('released', fails).catch(() => {});
    await dedup.once('failed', fails, { onError: 'store' }).catch(() => {});
    await dedup.once('exhausted', fails, { maxAttempts: 1 }).catch(() => {});
    await dedup.once('exhausted', fails, { maxAttempts: 1 }).catch(() => {});
    const keys = await keysOf(redis, namespace);
    expect(keys).toHaveLength(5);
    for (const key of keys) expect(await redis.pttl(key), key).toBeGreaterThan(0);
  });
});

describe('a fingerprint', () => {
  test('that differs is refused and never sees the result; key order does not matter, array order does', async () => {
    const dedup = makeDedup();
    await dedup.once('k', () => 'secret', { fingerprint: { a: 1, b: [1, 2] } });
    expect(await dedup.once('k', () => '', { fingerprint: { b: [1, 2], a: 1 } })).toBe('secret');
    for (const fingerprint of [{ a: 1, b: [2, 1] }, null, undefined, 'text', { a: 1 }]) {
      const error = await expectCode(
        dedup.once('k', () => '', { fingerprint }),
        'FINGERPRINT_MISMATCH',
      );
      expect(error.key).toBe('k');
      expect(JSON.stringify({ ...error, message: error.message })).not.toContain('secret');
    }
  });

  test('that differs is refused while the first still runs, and after it was released', async () => {
    const dedup = makeDedup();
    const { handler, started, release } = heldHandler('first');
    const held = dedup.once('k', handler, { fingerprint: 1 });
    await started;
    await expectCode(
      dedup.once('k', () => '', { fingerprint: 2 }),
      'FINGERPRINT_MISMATCH',
    );
    release();
    await held;
    await dedup
      .once(
        'r',
        () => {
          throw new Error('x');
        },
        { fingerprint: 1 },
      )
      .catch(() => {});
    await expectCode(
      dedup.once('r', () => '', { fingerprint: 2 }),
      'FINGERPRINT_MISMATCH',
    );
  });
});

describe('views', () => {
  test('keep their keys apart, share the rest, and nest', async () => {
    const dedup = makeDedup();
    const values = await Promise.all([
      dedup.once('k', () => 'root'),
      dedup.scope('a').once('k', () => 'a'),
      dedup.scope('a', 'b').once('k', () => 'a b'),
      dedup.scope('a:b').once('k', () => 'a:b'),
      dedup.once('k', () => 'slot', { slot: 'x' }),
      dedup.with({ slot: 'y' }).once('k', () => 'with slot'),
    ]);
    expect(values).toEqual(['root', 'a', 'a b', 'a:b', 'slot', 'with slot']);
    expect(
      await dedup
        .scope('a')
        .scope('b')
        .once('k', () => ''),
    ).toBe('a b');
    expect(await dedup.inspect('k', { slot: 'y' })).toMatchObject({ state: 'completed' });
    expect(await dedup.with({ slot: 'x' }).inspect('k')).toMatchObject({ redisKey: expect.stringMatching(/^\{x\}:/) });
  });

  test("have the call's options before their own, those before the outer ones", async () => {
    const dedup = makeDedup({ retention: '1h' }).with({ retention: '2h' });
    const nested = dedup.with({ retention: undefined, lease: '1s' });
    await nested.once('view', () => 1);
    await nested.once('call', () => 1, { retention: '3h' });
    const hours = async (key: string) => Math.ceil(((await dedup.inspect(key))?.expiresInMs as number) / 3_600_000);
    expect([await hours('view'), await hours('call')]).toEqual([2, 3]);
  });

  test('leave closing to the Dedup that they came from', async () => {
    const dedup = makeDedup();
    await dedup.scope('a').close();
    expect(await dedup.scope('a').once('k', () => 1)).toBe(1);
    await dedup.close();
    await expectCode(
      dedup.scope('a').once('k', () => 1),
      'CLOSED',
    );
  });
});

describe('bad input gets a named error and sends nothing', () => {
  test.each<[string, unknown[], 'INVALID_KEY' | 'INVALID_OPTION', RegExp]>([
    ['an empty key', ['', () => 1], 'INVALID_KEY', /non-empty/],
    ['a key that is a number', [5, () => 1], 'INVALID_KEY', /`5` \(number\)/],
    ['a key that is too long', ['x'.repeat(513), () => 1], 'INVALID_KEY', /512 bytes.*513/],
    ['a key that is too long in bytes', ['ä'.repeat(257), () => 1], 'INVALID_KEY', /514/],
    ['no handler', ['k'], 'INVALID_OPTION', /handler.*`undefined`/],
    [
      'a retention below 1 s',
      ['k', () => 1, { retention: 999 }],
      'INVALID_OPTION',
      /`retention`.*from 1 s to 1 year.*`999` \(number\)/,
    ],
    [
      'a lease of 0',
      ['k', () => 1, { lease: 0 }],
      'INVALID_OPTION',
      /Expected `lease` to be from 100 ms to 1 h, got `0` \(number\)/,
    ],
    ['a lease that is no duration', ['k', () => 1, { lease: 'soon' }], 'INVALID_OPTION', /`lease`.*`soon`/],
    ['a fraction', ['k', () => 1, { lease: 1000.5 }], 'INVALID_OPTION', /`lease`/],
    ['an unknown option', ['k', () => 1, { retenton: '1h' }], 'INVALID_OPTION', /`retenton` is not an option/],
    [
      'an option of the whole Dedup',
      ['k', () => 1, { namespace: 'n' }],
      'INVALID_OPTION',
      /`namespace` is an option of the whole/,
    ],
    ['another mode', ['k', () => 1, { onInProgress: 'skip' }], 'INVALID_OPTION', /`wait` or `throw`/],
    ['options that are no object', ['k', () => 1, 'wait'], 'INVALID_OPTION', /an object/],
    ['a slot with a brace', ['k', () => 1, { slot: 'a}b' }], 'INVALID_OPTION', /hash tag/],
    [
      'a policy that is none',
      ['k', () => 1, { onError: 'a function' }],
      'INVALID_OPTION',
      /`release`, `store` or a function/,
    ],
    ['a signal that is none', ['k', () => 1, { signal: {} }], 'INVALID_OPTION', /AbortSignal/],
    ['half a codec', ['k', () => 1, { codec: { encode: String } }], 'INVALID_OPTION', /`encode` and `decode`/],
    ['a fingerprint with a function', ['k', () => 1, { fingerprint: { f: () => 1 } }], 'INVALID_OPTION', /function/],
    ['a fingerprint with a Map', ['k', () => 1, { fingerprint: new Map() }], 'INVALID_OPTION', /Map/],
    ['a fingerprint of NaN', ['k', () => 1, { fingerprint: Number.NaN }], 'INVALID_OPTION', /NaN/],
  ])('%s', async (_name, args, code, message) => {
    const redis = connect({ lazyConnect: true });
    const dedup = makeDedup({}, redis);
    const error = await expectCode((dedup.run as (...all: unknown[]) => Promise<unknown>)(...args), code);
    expect(error.message).toMatch(message);
    expect(redis.status).toBe('wait');
  });

  test.each<[string, object, RegExp]>([
    ['an empty namespace', { namespace: '' }, /`namespace`/],
    ['a slot for the whole Dedup', { slot: 'x' }, /`slot` to be given to a call/],
    ['a redisTimeout of a year', { redisTimeout: '365d' }, /`redisTimeout`/],
    ['a durability without a timeout', { durability: { replicas: 1 } }, /`durability` to have a `timeout`/],
    ['a durability of nothing', { durability: { timeout: 1 } }, /`replicas`, `aof` or both/],
    ['hints by mail', { hints: 'mail' }, /`pubsub` or `poll`/],
  ])('%s, at construction', (_name, options, message) => {
    expect(() => makeDedup(options as never, connect({ lazyConnect: true }))).toThrow(message);
  });

  test('the options of other methods, and what is listened to', async () => {
    const dedup = makeDedup({}, connect({ lazyConnect: true }));
    await expectCode(dedup.forget('k', { force: 1 as never }), 'INVALID_OPTION');
    await expectCode(dedup.forget('k', { frce: true } as never), 'INVALID_OPTION');
    await expectCode(dedup.inspect('k', { force: true } as never), 'INVALID_OPTION');
    await expectCode(dedup.close({ drian: 1 } as never), 'INVALID_OPTION');
    await expectCode(dedup.close(null as never), 'INVALID_OPTION');
    expect(() => dedup.on('typo' as never, () => {})).toThrow(/`typo`/);
    expect(() => dedup.on('executed', 5 as never)).toThrow(/function/);
    expect(() => makeDedup({}, connect({ lazyConnect: true, keyPrefix: '{}' }))).toThrow(/balanced braces/);
  });

  test('what is no connection, and a keyPrefix that would steer the slots', () => {
    expect(() => makeDedup({}, {} as never)).toThrow(/ioredis connection/);
    expect(() => makeDedup({}, connect({ lazyConnect: true, keyPrefix: 'a{b' }))).toThrow(/balanced braces/);
  });
});

function timersThatKeepUsAlive(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
}

describe('what is told', () => {
  test('as events: typed, without the key unless it is asked for, and a listener that throws affects nothing', async () => {
    const dedup = makeDedup({ namespace: `events-${Math.random()}` });
    const told: [string, Record<string, unknown>][] = [];
    for (const name of ['executed', 'replayed', 'released', 'failed', 'takenOver', 'waited', 'storeError'] as const) {
      dedup.on(name, (event) => {
        told.push([name, event as unknown as Record<string, unknown>]);
        throw new Error('a bad listener');
      });
    }
    dedup.on('executed', async () => Promise.reject(new Error('a bad listener, later')));
    const off = dedup.on('executed', () => expect.fail('no longer listening'));
    off();
    await dedup
      .once('secret-key', () => {
        throw new Error('x');
      })
      .catch(() => {});
    await dedup.once('secret-key', () => 1);
    await dedup.once('secret-key', () => 1);
    await dedup
      .once(
        'other',
        () => {
          throw new Error('x');
        },
        { onError: 'store' },
      )
      .catch(() => {});
    expect(told.map(([name]) => name)).toEqual(['released', 'executed', 'replayed', 'failed']);
    expect(JSON.stringify(told)).not.toContain('secret-key');
    expect(told[0]?.[1]).toMatchObject({
      attempt: 1,
      ranMs: expect.any(Number),
      keyHash: expect.stringMatching(/^[0-9a-f]{16}$/),
    });
    expect(told[1]?.[1]).toMatchObject({ attempt: 2, waitedMs: 0 });
    expect(told[1]?.[1].key).toBe('secret-key');
  });

  test.each(['pubsub', 'poll'] as const)(
    '1,000 parallel calls on one signal, with hints by %s, raise no warning and leave no timer and no listener',
    async (hints) => {
      const warnings: Error[] = [];
      const warn = (warning: Error) => warnings.push(warning);
      process.on('warning', warn);
      onTestFinished(() => {
        process.off('warning', warn);
      });
      const [redis, beside] = [connect(), connect()];
      const options = { namespace: freshNamespace(), hints };
      const dedups = Array.from({ length: 20 }, () => makeDedup({ hints }, redis));
      const [here, elsewhere] = [makeDedup(options, redis), makeDedup(options, beside)];
      await Promise.all([redis, beside].map((connection) => connection.ping()));
      await until(() => timersThatKeepUsAlive() === 0);
      const { signal } = new AbortController();
      const { handler, started, release } = heldHandler('held');
      const held = elsewhere.once('held', handler, { signal });
      await started;
      const calls = [
        // Many keys, some of them met by others at the same time in other namespaces.
        ...Array.from({ length: 600 }, (_, i) => dedups[i % 20]?.once(`k${i % 100}`, () => i, { signal })),
        // One key: a leader and those who follow it, and a leader that waits for another connection.
        ...Array.from({ length: 200 }, () => here.once('one', () => 'one', { signal })),
        ...Array.from({ length: 200 }, () => here.once('held', () => 'never', { signal })),
      ];
      expect(getEventListeners(signal, 'abort')).toHaveLength(1);
      await Promise.all(calls.slice(0, 800));
      // The leader that waits has opened its subscriber.
      const subscribers = async () => (await beside.pubsub('NUMSUB', `${options.namespace}::hints`))[1] as number;
      if (hints === 'pubsub') await until(async () => (await subscribers()) > 0);
      release();
      await Promise.all([held, ...calls]);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
      await until(() => timersThatKeepUsAlive() === 0);
      expect(redis.listenerCount('close')).toBeLessThan(5);
      await Promise.all([...dedups, here, elsewhere].map((dedup) => dedup.close()));
      await until(() => timersThatKeepUsAlive() === 0);
      expect(warnings).toEqual([]);
    },
  );
});
