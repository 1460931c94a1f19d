/** The heartbeat, on a clock of the test's own. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Heartbeat, Lease, type LeaseTerms } from '../../src/call/lease.js';
import { ExchangeError } from '../../src/redis/exchange.js';
import type { ScriptCall, Scripts } from '../../src/redis/scripts.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  vi.advanceTimersByTime(1_000);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

type Answer = 'renewed' | 'lost' | 'broken' | ExchangeError;

/** A heartbeat over renewals that are answered as the test says, after `latencyMs`. */
function stage() {
  const start = performance.now();
  const at = () => performance.now() - start;
  const sent: { at: number; keys: string[]; calls: readonly ScriptCall<'renew'>[]; deadline: number }[] = [];
  const told: [string, ...unknown[]][] = [];
  const server = {
    latencyMs: 0,
    redisTimeoutMs: 5_000,
    answer: (_key: string): Answer => 'renewed',
  };
  const scripts = {
    deadline: () => performance.now() + server.redisTimeoutMs,
    async callMany(_name: 'renew', calls: readonly ScriptCall<'renew'>[], deadline: number) {
      sent.push({ at: at(), keys: calls.map(({ redisKey }) => redisKey), calls, deadline: deadline - start });
      if (server.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, server.latencyMs));
      return calls.map(({ redisKey }) => {
        const answer = server.answer(redisKey);
        return answer instanceof ExchangeError ? answer : { status: answer };
      });
    },
  };
  const heartbeat = new Heartbeat(scripts as unknown as Scripts, ({ key }, { code }) =>
    told.push(['storeError', key, code, at()]),
  );
  const lease = (terms: Partial<LeaseTerms> = {}) => {
    const key = terms.key ?? 'k';
    const all = { key, redisKey: `r:${key}`, token: key, fence: 7, leaseMs: 3_000, ttlMs: 60_000 };
    const made = new Lease(
      { ...all, maxRunTimeMs: 3_600_000, claimedAt: performance.now(), ...terms },
      {
        leaseLost: (reason) => told.push([reason, key, at()]),
        overrun: () => told.push(['overrun', key, at()]),
      },
    );
    heartbeat.add(made);
    return made;
  };
  return { heartbeat, lease, sent, told, server, at };
}
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const unanswered = () => new ExchangeError('unknown', null, 'no answer');

describe('a lease', () => {
  test('is renewed at every third of it, by its own token, fence and times, and is never lost', async () => {
    const { lease, sent, told } = stage();
    const own = lease();
    await pass(10_000);
    expect(sent.map(({ at }) => at)).toEqual([1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000, 9_000, 10_000]);
    const args = { token: own.terms.token, fence: 7, lease_ms: 3_000, ttl_ms: 60_000 };
    expect(sent[0]?.calls).toEqual([{ redisKey: 'r:k', args }]);
    expect(told).toEqual([]);
  });

  test('counts from when its claim or renewal was sent, not from the answer', async () => {
    const { lease, sent, server } = stage();
    server.latencyMs = 400;
    const own = lease({ claimedAt: performance.now() - 500 });
    expect(own.remainingMs).toBe(2_500);
    await pass(500 + 400);
    expect(sent[0]?.at).toBe(500);
    expect(own.remainingMs).toBe(3_000 - 400);
    await pass(600);
    expect(sent[1]?.at).toBe(1_500);
  });

  test('has nothing left once it has ended, never less', async () => {
    const { lease, server } = stage();
    server.answer = unanswered;
    const own = lease();
    await pass(5_000);
    expect(own.remainingMs).toBe(0);
  });

  test('that is not renewed is lost a tenth before its end, once, and is asked for on', async () => {
    const { lease, sent, told, server } = stage();
    server.answer = unanswered;
    lease({ leaseMs: 900 });
    await pass(800);
    expect(sent.map(({ at }) => at)).toEqual([300, 390, 480, 570, 660, 750]);
    expect(told.at(-1)).toEqual(['storeError', 'k', null, 750]);
    await pass(400);
    expect(told.filter(([what]) => what !== 'storeError')).toEqual([['no_heartbeat', 'k', 810]]);
    expect(sent.at(-1)?.at).toBe(1_200);
  });

  test('that is long is lost 1 s before its end, and asked for every 250 ms', async () => {
    const { lease, sent, told, server } = stage();
    server.answer = unanswered;
    lease({ leaseMs: 60_000 });
    await pass(58_999);
    expect(sent.slice(0, 3).map(({ at }) => at)).toEqual([20_000, 20_250, 20_500]);
    expect(told.filter(([what]) => what !== 'storeError')).toEqual([]);
    await pass(1);
    expect(told.filter(([what]) => what !== 'storeError')).toEqual([['no_heartbeat', 'k', 59_000]]);
  });

  test('that was lost for want of an answer may be renewed after all: it is told no second time', async () => {
    const { lease, told, server } = stage();
    server.answer = unanswered;
    const own = lease({ leaseMs: 900 });
    await pass(850);
    server.answer = () => 'renewed';
    await pass(200);
    expect(own.remainingMs).toBeGreaterThan(0);
    server.answer = unanswered;
    await pass(3_000);
    expect(told.filter(([what]) => what !== 'storeError')).toEqual([['no_heartbeat', 'k', 810]]);
  });

  test.each(['lost', 'broken'] as const)(
    'that is answered %s is told so, once, and renewed no more',
    async (status) => {
      const { lease, sent, told, server } = stage();
      server.answer = () => status;
      const looks = vi.spyOn(lease(), 'check');
      await pass(20_000);
      expect(looks.mock.calls.length).toBeLessThan(5);
      expect(told).toEqual([['taken_over', 'k', 1_000]]);
      expect(sent).toHaveLength(1);
    },
  );

  test('is asked for once at a time', async () => {
    const { lease, sent, server } = stage();
    server.latencyMs = 1_500;
    lease();
    await pass(2_400);
    expect(sent.map(({ at }) => at)).toEqual([1_000]);
    // The answer came when the next was due already: a timer takes 1 ms.
    await pass(200);
    expect(sent.map(({ at }) => at)).toEqual([1_000, 2_501]);
  });

  test('of no claim is never renewed', async () => {
    const { lease, sent, told } = stage();
    lease({ fence: 0, maxRunTimeMs: 1_000, leaseMs: 2_000 });
    await pass(10_000);
    expect(sent).toEqual([]);
    expect(told).toEqual([
      ['max_run_time', 'k', 1_000],
      ['overrun', 'k', 1_800],
    ]);
  });

  test('of an attempt that runs too long is told, is renewed no more, and is overrun when it is lost, once', async () => {
    const { lease, sent, told } = stage();
    lease({ maxRunTimeMs: 2_000 });
    await pass(30_000);
    expect(sent.map(({ at }) => at)).toEqual([1_000]);
    expect(told).toEqual([
      ['max_run_time', 'k', 2_000],
      ['overrun', 'k', 1_000 + 2_700],
    ]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('tells what has passed when it is looked at, before any timer', () => {
    const { lease, told } = stage();
    const own = lease();
    own.check(performance.now() + 2_699);
    expect(told).toEqual([]);
    own.check(performance.now() + 2_700);
    own.check(performance.now() + 2_700);
    expect(told).toEqual([['no_heartbeat', 'k', 0]]);
  });

  test('of an attempt that may run for a year is not looked at all the time', async () => {
    const { lease } = stage();
    const own = lease({ fence: 0, leaseMs: 40 * 86_400_000, maxRunTimeMs: 365 * 86_400_000 });
    const looks = vi.spyOn(own, 'check');
    await pass(10_000);
    expect(looks).not.toHaveBeenCalled();
  });
});

describe('a heartbeat', () => {
  test('renews in one list what is due together, and each lease in its own time', async () => {
    const { lease, sent } = stage();
    lease({ key: 'a' });
    lease({ key: 'b' });
    lease({ key: 'quick', leaseMs: 1_500 });
    lease({ key: 'slow', leaseMs: 6_000 });
    await pass(1_000);
    expect(sent.map(({ at, keys }) => [at, keys])).toEqual([
      [500, ['r:quick']],
      [1_000, ['r:a', 'r:b', 'r:quick']],
    ]);
  });

  test('is patient to the next beat of the shortest lease, and no longer than redisTimeout', async () => {
    const { lease, sent, server } = stage();
    lease({ key: 'a', leaseMs: 3_000 });
    lease({ key: 'b', leaseMs: 6_000, claimedAt: performance.now() - 1_000 });
    await pass(1_000);
    expect(sent[0]).toMatchObject({ at: 1_000, keys: ['r:a', 'r:b'], deadline: 2_000 });
    server.redisTimeoutMs = 300;
    await pass(1_000);
    expect(sent[1]).toMatchObject({ at: 2_000, deadline: 2_300 });
  });

  test("tells each lease its own answer, and the store's error for those without", async () => {
    const { lease, told, server } = stage();
    server.answer = (key) =>
      key === 'r:a' ? 'lost' : key === 'r:b' ? new ExchangeError('refused', 'NOPERM', 'no') : 'renewed';
    for (const key of ['a', 'b', 'c']) lease({ key });
    await pass(1_000);
    expect(told).toEqual([
      ['taken_over', 'a', 1_000],
      ['storeError', 'b', 'NOPERM', 1_000],
    ]);
  });

  test('knows no more of an attempt that has ended, though its renewal is under way', async () => {
    const { heartbeat, lease, sent, told, server } = stage();
    Object.assign(server, { latencyMs: 100, answer: unanswered });
    const own = lease();
    await pass(1_050);
    heartbeat.remove(own);
    await pass(10_000);
    expect(sent).toHaveLength(1);
    expect(told).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('keeps no process alive without attempts, and beats again for the next', async () => {
    const { heartbeat, lease, sent } = stage();
    const set = vi.spyOn(globalThis, 'setTimeout');
    const [one, two] = [lease({ key: 'one' }), lease({ key: 'two' })];
    const timer = set.mock.results[0]?.value as NodeJS.Timeout;
    heartbeat.remove(one);
    expect(timer.hasRef()).toBe(true);
    heartbeat.remove(two);
    expect(timer.hasRef()).toBe(false);
    const three = lease({ key: 'three', leaseMs: 6_000 });
    expect(set.mock.results.map(({ value }) => value)).toEqual([timer]);
    expect(timer.hasRef()).toBe(true);
    await pass(2_000);
    expect(sent.map(({ at, keys }) => [at, keys])).toEqual([[2_000, ['r:three']]]);
    heartbeat.remove(three);
    await pass(10_000);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('keeps one timer, for the soonest', async () => {
    const { lease, sent } = stage();
    lease({ key: 'slow', leaseMs: 9_000 });
    lease({ key: 'quick', leaseMs: 900 });
    lease({ key: 'slower', leaseMs: 18_000 });
    expect(vi.getTimerCount()).toBe(1);
    await pass(300);
    expect(sent.map(({ keys }) => keys)).toEqual([['r:quick']]);
  });
});
