/** The events of a Dedup: that each is told, of every kind of call, and that nothing is made for one that nobody hears. */
import { createHash } from 'node:crypto';
import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Parts } from '../../src/call/parts.js';
import * as clock from '../../src/clock.js';
import { Dedup, type DedupEvents, type DedupOptions } from '../../src/index.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { claimsOf, connect, expectCode, freshNamespace, gate, makeDedup, until } from '../support/index.js';
import { type FaultProxy, startProxied } from '../support/proxy.js';

vi.mock('node:crypto', { spy: true });
vi.mock('../../src/clock.js', { spy: true });

type Told = { [E in keyof DedupEvents]: [event: E, payload: DedupEvents[E]] }[keyof DedupEvents];

/** What is told from now on, in order. */
function listen(dedup: Dedup, ...events: (keyof DedupEvents)[]): Told[] {
  const told: Told[] = [];
  for (const event of events) dedup.on(event, (payload) => told.push([event, payload] as Told));
  return told;
}

const OF_CALLS = ['executed', 'replayed', 'waited', 'released', 'failed', 'takenOver', 'leaseLost'] as const;
const OF_ALL = [...OF_CALLS, 'storeError', 'shortRetention', 'unsafeServer', 'historyLost'] as const;

/** A Dedup behind a proxy, both of the test's own. Its first call has been made, so that only the test's are told. */
async function behindProxy(options: DedupOptions): Promise<{ dedup: Dedup; proxy: FaultProxy }> {
  const { server, proxy } = await startProxied();
  const redis = new Redis(proxy.url, { retryStrategy: () => 5, autoResendUnfulfilledCommands: false });
  redis.on('error', () => {});
  const dedup = new Dedup(redis, { namespace: freshNamespace(), redisTimeout: 150, allowEviction: true, ...options });
  onTestFinished(async () => {
    proxy.reset();
    proxy.cutAll();
    await dedup.close({ drain: 0 });
    redis.disconnect();
    await proxy.stop();
    await server.stop();
  });
  await until(() => redis.status === 'ready');
  return { dedup: dedup as Dedup, proxy };
}

describe('an apply', () => {
  test('is told as executed and as replayed, with its attempt', async () => {
    const dedup = makeDedup();
    const told = listen(dedup, ...OF_CALLS);
    const data = freshNamespace();
    await dedup.apply('k', (tx) => tx.incr(data));
    await dedup.apply('k', (tx) => tx.incr(data));
    expect(told).toEqual([
      ['executed', expect.objectContaining({ attempt: 1, waitedMs: 0, ranMs: 0 })],
      ['replayed', expect.objectContaining({ attempt: 1, waitedMs: 0 })],
    ]);
  });

  test('that meets a conflict or cannot be made is told as released, and as failed when no attempt is left', async () => {
    const redis = connect();
    const dedup = makeDedup({ maxAttempts: 1 }, redis);
    const told = listen(dedup, ...OF_CALLS);
    const data = freshNamespace();
    await redis.set(data, 'text');
    await expectCode(
      dedup.apply('k', (tx) => tx.require.absent(data).set(data, 1)),
      'CONDITION_FAILED',
    );
    await expectCode(
      dedup.apply('k', (tx) => tx.incr(data)),
      'EFFECT_REJECTED',
    );
    for (let i = 0; i < 2; i += 1) {
      await expectCode(
        dedup.apply('k', (tx) => tx.incr(data)),
        'ATTEMPTS_EXHAUSTED',
      );
    }
    expect(told).toEqual([
      ['released', expect.objectContaining({ attempt: 1, ranMs: 0 })],
      ['released', expect.objectContaining({ attempt: 2, ranMs: 0 })],
      ['failed', expect.objectContaining({ attempt: 2, ranMs: 0 })],
    ]);
    await redis.del(data);
  });

  test.each(['executed', 'given up'])('that waited and was %s is told so, once', async (end) => {
    const redis = connect();
    const options: DedupOptions = { namespace: freshNamespace(), hints: 'poll' };
    const [holder, dedup] = [makeDedup(options), makeDedup(options, redis)];
    const [started, hold] = [gate(), gate()];
    const held = holder.once('k', () => {
      started.open();
      return hold.opened;
    });
    await started.opened;
    const told = listen(dedup, ...OF_CALLS);
    const sent = vi.spyOn(redis as unknown as { evalshaBuffer(...args: unknown[]): Promise<unknown> }, 'evalshaBuffer');
    const stop = new AbortController();
    const call = dedup.apply('k', () => {}, { signal: stop.signal });
    // Asked a second time, it has waited.
    await until(() => sent.mock.calls.filter(([sha1]) => sha1 === SCRIPTS.apply.sha1).length >= 2);
    if (end === 'executed') {
      await holder.forget('k', { force: true });
      await call;
    } else {
      stop.abort(new Error('no more'));
      await expect(call).rejects.toThrow('no more');
    }
    hold.open();
    await held.catch(() => {});
    const [, first] = told[0] as ['waited', DedupEvents['waited']];
    const { waitedMs } = first;
    expect(waitedMs).toBeGreaterThan(0);
    const waited = ['waited', expect.objectContaining({ waitedMs })];
    const executed = ['executed', expect.objectContaining({ attempt: 1, waitedMs })];
    expect(told).toEqual(end === 'executed' ? [waited, executed] : [waited]);
  });
});

describe('many calls', () => {
  test('are told one by one', async () => {
    const dedup = makeDedup();
    const told = listen(dedup, ...OF_CALLS);
    const [data, keys] = [freshNamespace(), ['a', 'b', 'c']];
    await dedup.onceMany(keys, { key: (key) => `once-${key}`, handler: () => 1 });
    await dedup.applyMany(keys.map((key) => ({ key: `apply-${key}`, write: (tx) => void tx.incr(data) })));
    await dedup.onceMany(keys, { key: (key) => `once-${key}`, handler: () => 1 });
    const of = (event: string) =>
      told.filter(([name]) => name === event).map(([, payload]) => (payload as { key: string }).key);
    expect(of('executed').sort()).toEqual(['apply-a', 'apply-b', 'apply-c', 'once-a', 'once-b', 'once-c']);
    expect(of('replayed').sort()).toEqual(['once-a', 'once-b', 'once-c']);
    expect(told).toHaveLength(9);
  });
});

describe('an exchange without an answer', () => {
  test('of a commit is told, and so is the release that ends its attempt', async () => {
    const { dedup, proxy } = await behindProxy({});
    proxy.fate = ({ script }) => (script === 'commit' ? 'cut before' : 'pass');
    const told = listen(dedup, ...OF_ALL);
    await expectCode(
      dedup.once('k', () => 1),
      'STORE_UNAVAILABLE',
    );
    expect(told.at(-1)).toEqual(['released', expect.objectContaining({ attempt: 1, ranMs: expect.any(Number) })]);
    expect(told.slice(0, -1).length).toBeGreaterThan(0);
    for (const one of told.slice(0, -1)) {
      expect(one).toEqual(['storeError', expect.objectContaining({ operation: 'commit', code: null })]);
    }
  });

  test('of a claim is told, and so is that it was given back', async () => {
    const { dedup, proxy } = await behindProxy({ lease: '20s' });
    proxy.fate = ({ script }) => (script === 'claim' ? 'lose reply' : 'pass');
    const told = listen(dedup, ...OF_ALL);
    await expectCode(
      dedup.once('k', () => expect.fail('must not run')),
      'STORE_UNAVAILABLE',
    );
    expect(told).toEqual([['storeError', expect.objectContaining({ operation: 'claim', code: null })]]);
    proxy.fate = () => 'pass';
    proxy.cutAll();
    await until(() => told.at(-1)?.[0] === 'released');
    expect(told.at(-1)?.[1]).toMatchObject({ key: 'k', attempt: 1 });
  });

  test('of a confirmation is told; its result is stored, and that is told as well', async () => {
    const { dedup, proxy } = await behindProxy({ durability: { replicas: 1, timeout: 50 } });
    proxy.fate = ({ words }) => (words.some((word) => String(word) === SCRIPTS.touch.sha1) ? 'lose reply' : 'pass');
    const told = listen(dedup, ...OF_ALL);
    await expectCode(
      dedup.once('k', () => 1),
      'NOT_DURABLE',
    );
    await expectCode(
      dedup.apply('k2', () => {}),
      'NOT_DURABLE',
    );
    expect(told.map(([event, payload]) => [event, (payload as DedupEvents['storeError']).operation])).toEqual([
      ['executed', undefined],
      ['storeError', 'confirm'],
      ['executed', undefined],
      ['storeError', 'confirm'],
    ]);
  });

  test('of a look, a removal and a set is told', async () => {
    const { dedup, proxy } = await behindProxy({});
    const set = dedup.seen('set');
    await set.add('known');
    proxy.fate = ({ script }) => (script ? 'lose reply' : 'pass');
    const told = listen(dedup, ...OF_ALL);
    await expectCode(dedup.inspect('k'), 'STORE_UNAVAILABLE');
    await expectCode(dedup.forget('k'), 'OUTCOME_UNKNOWN');
    await expectCode(set.has('id'), 'STORE_UNAVAILABLE');
    expect(told.map(([event, payload]) => [event, (payload as DedupEvents['storeError']).operation])).toEqual([
      ['storeError', 'inspect'],
      ['storeError', 'forget'],
      ['storeError', 'seen'],
    ]);
  });
});

describe('where nobody listens', () => {
  /** Calls that meet every event of a call; the readings of the clock in them do not depend on how long anything takes. */
  async function play(dedup: Dedup, redis: Redis, round: string): Promise<void> {
    const data = freshNamespace();
    const key = (name: string) => `${round}-${name}`;
    await dedup.once(key('once'), () => 1);
    await dedup.once(key('once'), () => 1);
    await dedup.once(key('throws'), () => Promise.reject(new Error('no'))).catch(() => {});
    await dedup.once(key('stores'), () => Promise.reject(new Error('no')), { onError: 'store' }).catch(() => {});
    await dedup.once(key('lost'), () => dedup.forget(key('lost'), { force: true })).catch(() => {});
    await redis.set(data, 'text');
    const impossible = () => dedup.apply(key('rejected'), (tx) => tx.incr(data), { maxAttempts: 1 });
    await impossible().catch(() => {});
    await impossible().catch(() => {});
    await redis.del(data);
    await dedup.apply(key('apply'), (tx) => tx.set(data, 1));
    await dedup.apply(key('apply'), (tx) => tx.set(data, 1));
    await redis.del(data);
  }

  test('no event is made, no key is hashed, and the clock is not read for one', async () => {
    const redis = connect();
    const dedup = makeDedup({ hints: 'poll' }, redis);
    await play(dedup, redis, 'warm');
    const made = vi.spyOn(Parts.prototype, 'about');
    onTestFinished(() => made.mockRestore());
    const count = async (round: string) => {
      made.mockClear();
      vi.mocked(createHash).mockClear();
      vi.mocked(clock.monotonicMs).mockClear();
      await play(dedup, redis, round);
      return {
        events: made.mock.calls.length,
        hashes: vi.mocked(createHash).mock.calls.length,
        readings: vi.mocked(clock.monotonicMs).mock.calls.length,
      };
    };
    const unheard = await count('unheard');
    expect(unheard).toMatchObject({ events: 0, hashes: 0 });
    const told = listen(dedup, ...OF_CALLS);
    const heard = await count('heard');
    expect(told.map(([event]) => event)).toEqual([
      'executed',
      'replayed',
      'released',
      'failed',
      'leaseLost',
      'released',
      'failed',
      'executed',
      'replayed',
    ]);
    // Of a handler that ran it is told how long; an apply has no such time.
    const timed = ['executed', 'released', 'failed', 'leaseLost'].length;
    expect(heard).toEqual({ events: told.length, hashes: told.length, readings: unheard.readings + timed });
  });

  test('a listener that went leaves nothing behind', async () => {
    const dedup = makeDedup();
    const off = [dedup.on('executed', () => {}), dedup.on('executed', () => {})];
    await dedup.once('warm', () => 1);
    const made = vi.spyOn(Parts.prototype, 'about');
    onTestFinished(() => made.mockRestore());
    off[0]?.();
    await dedup.once('a', () => 1);
    expect(made).toHaveBeenCalledTimes(1);
    off[1]?.();
    off[1]?.();
    await dedup.once('b', () => 1);
    expect(made).toHaveBeenCalledTimes(1);
  });

  test('a wait, a takeover and a failed exchange make nothing either', async () => {
    const redis = connect();
    const options: DedupOptions = { namespace: freshNamespace(), hints: 'poll' };
    const [holder, waiter] = [makeDedup(options), makeDedup(options, redis)];
    const away = makeDedup(
      { redisTimeout: 20, allowEviction: true },
      connect({ lazyConnect: true }, 'redis://127.0.0.1:1'),
    );
    const made = vi.spyOn(Parts.prototype, 'about');
    onTestFinished(() => made.mockRestore());
    const [started, hold] = [gate(), gate()];
    const held = holder.once('k', () => {
      started.open();
      return hold.opened;
    });
    await started.opened;
    const claims = claimsOf(redis);
    const waiting = waiter.run('k', () => 'never');
    await until(() => claims() >= 2);
    hold.open();
    await held;
    expect((await waiting).waitedMs).toBeGreaterThan(0);
    await expectCode(
      away.once('k', () => 1),
      'STORE_UNAVAILABLE',
    );
    expect(made).not.toHaveBeenCalled();
    const told = listen(away, 'storeError');
    await expectCode(
      away.once('k', () => 1),
      'STORE_UNAVAILABLE',
    );
    expect(told).toHaveLength(1);
  });
});
