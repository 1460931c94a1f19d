/** One wait for another attempt, on a clock of the test's own. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Wait } from '../../src/call/wait.js';
import type { Hints } from '../../src/redis/hints.js';
import { gate } from '../support/index.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  vi.advanceTimersByTime(1_000);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** A wait whose hints the test gives. Polls come at their latest. */
function stage({ live = false, jitter = 1 } = {}) {
  vi.spyOn(Math, 'random').mockImplementation(() => jitter);
  const subscribed = gate();
  let hint = () => {};
  const hints = {
    live,
    listen: vi.fn(() => subscribed.opened),
    watch: vi.fn((_redisKey: string, wake: () => void) => {
      hint = wake;
      return unwatch;
    }),
  };
  const unwatch = vi.fn();
  const wait = new Wait(hints as unknown as Hints, 'r:k');
  const far = () => performance.now() + 3_600_000;
  /** How long the next pause takes, in ms. */
  const pause = async ({ leaseLeftMs = 3_600_000, deadline = far(), signals = [] as AbortSignal[] } = {}) => {
    const from = performance.now();
    const paused = wait.pause(leaseLeftMs, deadline, signals).then(() => performance.now() - from);
    await vi.advanceTimersByTimeAsync(5_000);
    return paused;
  };
  return { wait, hints, unwatch, subscribed, far, hint: () => hint(), pause };
}

describe('a wait', () => {
  test('polls ever more seldom, at most every 250 ms', async () => {
    const { pause } = stage();
    const took = [];
    for (let i = 0; i < 7; i += 1) took.push(await pause());
    expect(took).toEqual([20, 40, 80, 160, 250, 250, 250]);
  });

  test('polls every second at most where hints arrive', async () => {
    const { pause } = stage({ live: true });
    const took = [];
    for (let i = 0; i < 8; i += 1) took.push(await pause());
    expect(took).toEqual([20, 40, 80, 160, 320, 640, 1_000, 1_000]);
  });

  test('polls earlier by chance, down to half the time', async () => {
    const { pause } = stage({ jitter: 0 });
    expect([await pause(), await pause()]).toEqual([10, 20]);
  });

  test("looks when the holder's lease has surely ended, and at its own deadline", async () => {
    const { pause } = stage();
    expect(await pause({ leaseLeftMs: 6 })).toBe(11);
    expect(await pause({ deadline: performance.now() + 7 })).toBe(7);
    expect(await pause({ deadline: performance.now() - 7 })).toBeLessThanOrEqual(1);
  });

  test('subscribes first, and looks as soon as the subscription stands; once', async () => {
    const { wait, hints, subscribed, far, pause } = stage();
    const from = performance.now();
    const paused = wait.pause(3_600_000, far(), []);
    subscribed.open();
    await paused;
    expect(performance.now()).toBe(from);
    expect(await pause()).toBe(40);
    expect(hints.listen).toHaveBeenCalledTimes(1);
  });

  test('ends by a hint for its record', async () => {
    const { wait, hints, hint, far } = stage();
    expect(hints.watch).toHaveBeenCalledWith('r:k', expect.any(Function));
    const from = performance.now();
    const paused = wait.pause(3_600_000, far(), []);
    hint();
    await paused;
    expect(performance.now()).toBe(from);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('does not begin after a hint that came while it looked; the next does', async () => {
    const { hint, pause } = stage();
    hint();
    expect([await pause(), await pause()]).toEqual([0, 40]);
  });

  test('takes a hint that ended it for one look only', async () => {
    const { wait, hint, far, pause } = stage();
    const paused = wait.pause(3_600_000, far(), []);
    hint();
    await paused;
    expect(await pause()).toBe(40);
  });

  test("ends by a signal, with the signal's reason, and leaves nothing behind", async () => {
    const { wait, far } = stage();
    const [one, two] = [new AbortController(), new AbortController()];
    const removed = vi.spyOn(one.signal, 'removeEventListener');
    const paused = wait.pause(3_600_000, far(), [one.signal, undefined, two.signal]);
    two.abort('why');
    await expect(paused).rejects.toBe('why');
    expect(removed).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('watches its record until it is over', () => {
    const { wait, unwatch } = stage();
    expect(unwatch).not.toHaveBeenCalled();
    wait.end();
    expect(unwatch).toHaveBeenCalledTimes(1);
  });
});
