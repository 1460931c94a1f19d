/** Waiting for another attempt, taking over from one that failed or died, and giving up. */
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Wait } from '../../src/call/wait.js';
import { Dedup, isDedupError, type Outcome } from '../../src/index.js';
import { Connection } from '../../src/redis/connection.js';
import { Scripts } from '../../src/redis/scripts.js';
import { newToken } from '../../src/token.js';
import {
  claimsOf,
  connect,
  expectCode,
  expectRanOnce,
  freshNamespace,
  heldHandler,
  makeDedup,
  until,
} from '../support/index.js';

/** Two Dedups of one namespace on connections of their own, as two processes have them. */
function twoDedups(options: Parameters<typeof makeDedup>[0] = {}) {
  const shared = { namespace: freshNamespace(), ...options };
  return [makeDedup(shared), makeDedup(shared)] as const;
}

/** A holder that claimed and died: nobody renews, nobody commits. */
async function deadHolder(dedup: Dedup, key: string, leaseMs: number): Promise<void> {
  await dedup.once(key, () => Promise.reject(new Error('leaves a record'))).catch(() => {});
  const redisKey = (await dedup.inspect(key))?.redisKey ?? '';
  const args = { token: newToken(), fingerprint: '', lease_ms: leaseMs, ttl_ms: 60_000, retention_ms: 60_000 };
  const scripts = new Scripts(Connection.of(connect()), 5_000);
  await scripts.call('claim', redisKey, { ...args, max_attempts: 0, waits: '0' });
}

describe.each(['pubsub', 'poll'] as const)('a waiter with hints by %s', (hints) => {
  test('gets the result of the running attempt, and tells how long it waited', async () => {
    const [one, two] = twoDedups({ hints });
    const { handler, started, release } = heldHandler({ done: true });
    const first = one.run('k', handler);
    await started;
    const told: number[] = [];
    two.on('waited', ({ waitedMs }) => told.push(waitedMs));
    const from = performance.now();
    const waited = two.run('k', () => ({ done: false }));
    const followed = one.run('k', () => ({ done: false }));
    setTimeout(release, 60);
    expectRanOnce(await Promise.all([first, waited, followed]));
    expect((await waited).waitedMs).toBeGreaterThan(20);
    expect((await waited).waitedMs).toBeLessThanOrEqual(performance.now() - from);
    expect(told).toEqual([(await waited).waitedMs]);
    expect((await followed).waitedMs).toBeGreaterThan(20);
    expect((await first).waitedMs).toBe(0);
  });

  test('takes over when the holder fails: of 20 in two places exactly one, and the others get its result', async () => {
    const [one, two] = twoDedups({ hints });
    const { handler, started, release } = heldHandler(0);
    const failing = one.once('k', async () => {
      await handler();
      throw new Error('the holder fails');
    });
    await started;
    let runs = 0;
    const waiters = Array.from({ length: 20 }, (_, i) =>
      (i % 2 ? one : two).run('k', async ({ attempt }) => {
        runs += 1;
        await new Promise((resolve) => setTimeout(resolve, 30));
        return { attempt };
      }),
    );
    await until(async () => (await one.inspect('k'))?.state === 'in_progress');
    release();
    await expect(failing).rejects.toThrow('the holder fails');
    const outcomes = await Promise.all(waiters);
    expectRanOnce(outcomes);
    expect(runs).toBe(1);
    expect(outcomes.every(({ attempt, value }) => attempt === 2 && value.attempt === 2)).toBe(true);
  });

  test('takes over from a holder that died when its lease ends, and not before', async () => {
    const [one, two] = twoDedups({ hints });
    const takenOver: number[] = [];
    two.on('takenOver', ({ attempt }) => takenOver.push(attempt));
    await deadHolder(one, 'k', 400);
    const left = (await one.inspect('k'))?.leaseRemainingMs as number;
    expect(left).toBeGreaterThan(0);
    const outcome = await two.run('k', ({ attempt }) => attempt);
    expect(outcome).toMatchObject({ status: 'executed', value: 3 });
    expect(outcome.waitedMs).toBeGreaterThanOrEqual(left - 50);
    expect(takenOver).toEqual([3]);
  });
});

describe('a hint of the end of an attempt', () => {
  /** What the channel of the hints hears of one attempt, after which `end` is published. */
  async function heard(waiter: Parameters<typeof makeDedup>[0]): Promise<string[]> {
    const namespace = freshNamespace();
    const [one, two] = [makeDedup({ namespace }), makeDedup({ namespace, ...waiter })];
    const [subscriber, redis] = [connect(), connect()];
    const messages: string[] = [];
    subscriber.on('message', (_channel, message) => messages.push(message));
    await subscriber.subscribe(`${namespace}::hints`);
    const { handler, started, release } = heldHandler('value');
    const held = one.once('k', handler);
    await started;
    await expectCode(
      two.once('k', () => 1, { waitTimeout: 20 }),
      'IN_PROGRESS',
    );
    release();
    await held;
    await redis.publish(`${namespace}::hints`, 'end');
    await until(() => messages.at(-1) === 'end');
    return messages.slice(0, -1);
  }

  test('is published where a caller waits for it', async () => {
    expect(await heard({})).toEqual([expect.stringMatching(/ completed$/)]);
  });

  test('is not published where nobody waits, or by polls only', async () => {
    expect(await heard({ onInProgress: 'throw' })).toEqual([]);
    expect(await heard({ hints: 'poll' })).toEqual([]);
  });
});

test('the subscription to hints is given up at a reconnect, which may be to another server, and made anew by the next wait', async () => {
  const namespace = freshNamespace();
  const [redis, admin] = [connect({ retryStrategy: () => 10 }), connect()];
  const [one, two] = [makeDedup({ namespace }), makeDedup({ namespace }, redis)];
  const { handler, started } = heldHandler(0);
  one.once('k', handler).catch(() => {});
  await started;
  const subscribers = async () => (await admin.pubsub('NUMSUB', `${namespace}::hints`))[1];
  const wait = () =>
    expectCode(
      two.once('k', () => 1, { waitTimeout: 20 }),
      'IN_PROGRESS',
    );
  await wait();
  await until(async () => (await subscribers()) === 1);
  redis.stream.destroy();
  await until(async () => (await subscribers()) === 0);
  await until(async () => {
    await wait();
    return (await subscribers()) === 1;
  });
});

describe('a waiter', () => {
  test("gives up at its waitTimeout, and is told when the holder's lease ends", async () => {
    const [one, two] = twoDedups();
    const { handler, started } = heldHandler(0);
    const held = one.once('k', handler);
    held.catch(() => {});
    await started;
    for (const dedup of [one, two]) {
      let waits = 0;
      dedup.on('waited', () => {
        waits += 1;
      });
      const error = await expectCode(
        dedup.once('k', () => 1, { waitTimeout: 30 }),
        'IN_PROGRESS',
      );
      expect(error.retryAfterMs).toBeGreaterThan(15_000);
      expect(error.retryAfterMs).toBeLessThanOrEqual(30_000);
      expect(error.retryable).toBe(true);
      expect(error.key).toBe('k');
      expect(waits).toBe(1);
    }
  });

  test("with onInProgress: 'throw' is refused at once, here and elsewhere, and replays what is completed", async () => {
    const [one, two] = twoDedups({ onInProgress: 'throw' });
    const { handler, started, release } = heldHandler('value');
    const held = one.once('k', handler);
    await started;
    const refused = [one, two].map((dedup) =>
      expectCode(
        dedup.once('k', () => 1),
        'IN_PROGRESS',
      ),
    );
    expect((await Promise.all(refused)).every(({ retryAfterMs }) => retryAfterMs > 15_000)).toBe(true);
    release();
    await held;
    expect(await Promise.all([one.once('k', () => ''), two.once('k', () => '')])).toEqual(['value', 'value']);
  });

  test('that follows gets a failure that was stored without asking Redis', async () => {
    const redis = connect();
    const dedup = makeDedup({ onError: 'store' }, redis);
    const { handler, started, release } = heldHandler(0);
    const failing = dedup.once('k', async () => {
      await handler();
      throw new RangeError('final');
    });
    await started;
    const follower = expectCode(
      dedup.once('k', () => 1),
      'STORED_FAILURE',
    );
    const claims = claimsOf(redis);
    release();
    await expect(failing).rejects.toThrow('final');
    expect((await follower).failure).toEqual({ name: 'RangeError', message: 'final' });
    expect(claims()).toBe(0);
  });

  test('that follows does not get a failure that was not stored', async () => {
    const dedup = makeDedup({ onError: 'store' });
    const { handler, started, release } = heldHandler(0);
    const failing = dedup.once('k', async () => {
      await handler();
      throw new RangeError('final');
    });
    await started;
    const follower = dedup.run('k', ({ attempt }) => attempt);
    await dedup.forget('k', { force: true });
    release();
    await expect(failing).rejects.toThrow('final');
    expect(await follower).toMatchObject({ status: 'executed', value: 1 });
  });

  test("looks again when the holder's lease ends at the latest, and hears its signal and the closing", async () => {
    const [one, two] = twoDedups();
    const { handler, started, release } = heldHandler('value');
    const held = one.once('k', handler);
    await started;
    const pauses = vi.spyOn(Wait.prototype, 'pause');
    onTestFinished(() => {
      vi.restoreAllMocks();
    });
    const { signal } = new AbortController();
    const waiting = two.once('k', () => 'never', { signal });
    await until(() => pauses.mock.calls.length > 0);
    const [leaseLeftMs, , signals] = pauses.mock.calls[0] as Parameters<Wait['pause']>;
    expect(leaseLeftMs).toBeGreaterThan(15_000);
    expect(leaseLeftMs).toBeLessThanOrEqual(30_000);
    expect(signals).toEqual([signal, expect.any(AbortSignal)]);
    expect(signals[1]).not.toBe(signal);
    release();
    expect([await held, await waiting]).toEqual(['value', 'value']);
  });

  test('leads on when the leader gives up waiting', async () => {
    const [one, two] = twoDedups();
    const { handler, started, release } = heldHandler('value');
    const held = one.once('k', handler);
    await started;
    const leader = expectCode(
      two.once('k', () => 1, { waitTimeout: 40 }),
      'IN_PROGRESS',
    );
    const follower = two.run('k', () => 'never');
    await leader;
    release();
    expect(await follower).toMatchObject({ status: 'replayed', value: 'value' });
    await held;
  });

  test('that has gone is not led on to: the next one is', async () => {
    const [one, two] = twoDedups();
    const { handler, started, release } = heldHandler('value');
    const held = one.once('k', handler);
    await started;
    const leader = expectCode(
      two.once('k', () => 1, { waitTimeout: 40 }),
      'IN_PROGRESS',
    );
    const controller = new AbortController();
    const gone = two.once('k', () => 1, { signal: controller.signal });
    const follower = two.run('k', () => 'never');
    controller.abort('gone');
    await expect(gone).rejects.toBe('gone');
    await leader;
    release();
    expect(await follower).toMatchObject({ status: 'replayed', value: 'value' });
    await held;
  });

  test('that follows leaves no timer behind', async () => {
    const dedup = makeDedup({ lease: '10m' });
    const { handler, started, release } = heldHandler('value');
    const held = dedup.once('k', handler);
    await started;
    const timers = vi.spyOn(globalThis, 'setTimeout');
    const cleared = vi.spyOn(globalThis, 'clearTimeout');
    onTestFinished(() => {
      vi.restoreAllMocks();
    });
    const follower = dedup.once('k', () => 'never');
    const { value: timer } = timers.mock.results[timers.mock.calls.findIndex(([, ms]) => (ms ?? 0) > 500_000)] ?? {};
    expect(timer).toBeDefined();
    release();
    expect([await held, await follower]).toEqual(['value', 'value']);
    expect(cleared.mock.calls.map(([cancelled]) => cancelled)).toContain(timer);
  });

  test('of a failure that is stored gets it, here and elsewhere', async () => {
    const [one, two] = twoDedups({ onError: 'store' });
    const { handler, started, release } = heldHandler(0);
    const failing = one.once('k', async () => {
      await handler();
      throw new RangeError('final');
    });
    await started;
    const waiters = [one, two, one, two].map((dedup) =>
      expectCode(
        dedup.once('k', () => 1),
        'STORED_FAILURE',
      ),
    );
    release();
    await expect(failing).rejects.toThrow('final');
    for (const { failure } of await Promise.all(waiters))
      expect(failure).toEqual({ name: 'RangeError', message: 'final' });
  });
});

describe("the caller's signal", () => {
  const reason = new Error('no longer wanted');

  test('that has aborted already ends the call before anything is sent', async () => {
    const redis = connect({ lazyConnect: true });
    const dedup = makeDedup({}, redis);
    await expect(dedup.once('k', () => 1, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(redis.status).toBe('wait');
  });

  test('ends a wait, here and elsewhere', async () => {
    const [one, two] = twoDedups();
    const { handler, started, release } = heldHandler('value');
    const held = one.run('k', handler);
    await started;
    const controller = new AbortController();
    const waits = [one, two].map((dedup) => dedup.once('k', () => 1, { signal: controller.signal }));
    controller.abort(reason);
    for (const wait of waits) await expect(wait).rejects.toBe(reason);
    release();
    expect(await held).toMatchObject({ status: 'executed', attempt: 1 });
  });

  test('that aborts while the claim is under way leaves no claim, and the attempt is not counted', async () => {
    const dedup = makeDedup({ maxAttempts: 1 });
    await dedup.once('warm', () => 1);
    const controller = new AbortController();
    const call = dedup.once('k', () => expect.fail('the handler must not run'), { signal: controller.signal });
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
    expect((await dedup.inspect('k'))?.state ?? 'none').toMatch(/none|released/);
    expect(await dedup.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 1 });
  });

  test("aborts the handler's signal with its reason; what the handler returns is committed", async () => {
    const dedup = makeDedup();
    const controller = new AbortController();
    const value = await dedup.once(
      'k',
      async ({ signal }) => {
        controller.abort(reason);
        expect(signal.reason).toBe(reason);
        return 'finished all the same';
      },
      { signal: controller.signal },
    );
    expect(value).toBe('finished all the same');
    expect(await dedup.once('k', () => '')).toBe('finished all the same');
  });

  test('that makes the handler throw releases the key, uncounted', async () => {
    const dedup = makeDedup({ maxAttempts: 1, onError: 'store' });
    const controller = new AbortController();
    const call = dedup.once(
      'k',
      async ({ signal }) => {
        controller.abort(reason);
        signal.throwIfAborted();
      },
      { signal: controller.signal },
    );
    await expect(call).rejects.toBe(reason);
    expect(await dedup.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  });
});

describe('a running attempt', () => {
  test('keeps its key by its heartbeat far beyond its lease', async () => {
    // Long enough for a slow machine: a heartbeat that comes a lease late is a lease lost.
    const [one, two] = twoDedups({ lease: 1_500 });
    const { handler, started, release } = heldHandler('value');
    const held = one.run('k', ({ signal }) => handler().then((value) => ({ value, aborted: signal.aborted })));
    await started;
    const firstFence = (await one.inspect('k'))?.fence;
    const stop = performance.now() + 3_200;
    await until(() => performance.now() > stop);
    expect(await two.inspect('k')).toMatchObject({ state: 'in_progress', attempt: 1, fence: firstFence });
    release();
    expect(await held).toMatchObject({ status: 'executed', value: { value: 'value', aborted: false } });
  });

  test('that was taken over has its signal aborted and its commit refused', async () => {
    const redis = connect();
    const [one, two] = twoDedups({ lease: 3_000 });
    const lost: string[] = [];
    one.on('leaseLost', ({ reason }) => lost.push(reason));
    const { handler, started, release } = heldHandler('zombie');
    let signal: AbortSignal | undefined;
    const zombie = one.once('k', (context) => {
      signal = context.signal;
      return handler();
    });
    await started;
    const { redisKey } = (await one.inspect('k')) as { redisKey: string };
    let taker: Outcome<{ attempt: number; fence: number }> | undefined;
    await until(async () => {
      // The lease has ended as the server sees it. A heartbeat that comes before the taker makes another try necessary.
      await redis.setrange(redisKey, 30, '\0\0\0\0\0\0');
      const call = two.run('k', ({ attempt, fence }) => ({ attempt, fence }), { onInProgress: 'throw' });
      taker = await call.catch((error: unknown) => {
        if (!isDedupError(error, 'IN_PROGRESS')) throw error;
        return undefined;
      });
      return taker;
    });
    expect(taker).toMatchObject({ status: 'executed', value: { attempt: 2 } });
    await until(() => signal?.aborted);
    expect(signal?.reason).toMatchObject({ code: 'LEASE_LOST' });
    release();
    await expectCode(zombie, 'LEASE_LOST');
    expect(lost).toEqual(['taken_over']);
    expect(await one.once('k', () => '')).toEqual(taker?.value);
  });

  test('whose lease ran out may commit where nobody took over', async () => {
    const redis = connect();
    const dedup = makeDedup({}, redis);
    const { handler, started, release } = heldHandler('late');
    const held = dedup.run('k', handler);
    await started;
    await redis.setrange((await dedup.inspect('k'))?.redisKey as string, 30, '\0\0\0\0\0\0');
    release();
    expect(await held).toMatchObject({ status: 'executed', value: 'late' });
  });

  test('that hangs beyond maxRunTime is told, is renewed no more, and is cut off when its lease has ended', async () => {
    const [one, two] = twoDedups({ lease: 200, maxRunTime: 150 });
    const lost: string[] = [];
    one.on('leaseLost', ({ reason }) => lost.push(reason));
    let signal: AbortSignal | undefined;
    const hung = one.once('k', (context) => {
      signal = context.signal;
      return new Promise(() => {});
    });
    hung.catch(() => {});
    await until(() => signal);
    const taker = two.run('k', ({ attempt }) => attempt);
    const error = await expectCode(hung, 'LEASE_LOST');
    expect(error.message).toMatch(/maxRunTime/);
    expect(signal?.aborted).toBe(true);
    expect(await taker).toMatchObject({ status: 'executed', value: 2 });
    expect(lost).toEqual(['max_run_time']);
  });

  test('sees its signal aborted after it blocked the event loop past its lease', async () => {
    const dedup = makeDedup({ lease: 100 });
    const seen = await dedup.once('k', (context) => {
      const end = performance.now() + 120;
      while (performance.now() < end);
      return context.signal.aborted;
    });
    expect(seen).toBe(true);
  });
});

describe('close', () => {
  test('refuses new calls, and lets running handlers finish and commit', async () => {
    const dedup = makeDedup();
    const { handler, started, release } = heldHandler('value');
    const running = dedup.run('k', handler);
    const follower = dedup.run('k', () => 'never');
    await started;
    const closed = dedup.close();
    await expectCode(
      dedup.once('other', () => 1),
      'CLOSED',
    );
    await expectCode(dedup.inspect('k'), 'CLOSED');
    release();
    expect(await running).toMatchObject({ status: 'executed', value: 'value' });
    expect(await follower).toMatchObject({ status: 'replayed', value: 'value' });
    await closed;
    await dedup.close();
  });

  test('aborts and releases what has not finished in time, uncounted', async () => {
    const [one, two] = twoDedups({ maxAttempts: 1 });
    let signal: AbortSignal | undefined;
    const { handler, started, release } = heldHandler('too late');
    const running = expectCode(
      one.once('k', (context) => {
        signal = context.signal;
        return handler();
      }),
      'CLOSED',
    );
    await started;
    await one.close({ drain: 10 });
    await running;
    expect(signal?.reason).toMatchObject({ code: 'CLOSED' });
    release();
    expect(await two.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  });

  test('while the claim is under way begins no handler, and gives the attempt back', async () => {
    const [one, two] = twoDedups({ maxAttempts: 1 });
    await one.once('warm', () => 1);
    const call = expectCode(
      one.once('k', () => expect.fail('the handler must not run')),
      'CLOSED',
    );
    const closed = one.close();
    expect((await call).key).toBe('k');
    await closed;
    expect(await two.inspect('k')).toMatchObject({ state: 'released', attempt: 0 });
    expect(await two.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 1 });
  });

  test('ends those that wait for others', async () => {
    const [one, two] = twoDedups();
    const { handler, started, release } = heldHandler('value');
    const held = one.once('k', handler);
    await started;
    const waiting = [two.once('k', () => 1), two.once('k', () => 1)].map((call) => expectCode(call, 'CLOSED'));
    await two.close();
    await Promise.all(waiting);
    release();
    expect(await held).toBe('value');
  });

  test('leaves the connection of the caller open, and disposes', async () => {
    const redis = connect();
    {
      await using dedup = new Dedup(redis, { namespace: freshNamespace() });
      await dedup.once('k', () => 1);
    }
    expect(await redis.ping()).toBe('PONG');
  });

  test('takes a drain of a duration only', async () => {
    await expectCode(makeDedup().close({ drain: 'soon' as never }), 'INVALID_OPTION');
  });
});

test('a lease is counted from the claim, not from the time that the connection took to be ready', async () => {
  const redis = connect({ lazyConnect: true, connectTimeout: 5_000 });
  const dedup = makeDedup({ lease: 150 }, redis);
  const connectNow = redis.connect.bind(redis);
  redis.connect = () => new Promise((resolve) => setTimeout(resolve, 300)).then(() => connectNow());
  expect(await dedup.once('k', ({ signal }) => signal.aborted)).toBe(false);
});
