/** The work of every call: it gives a result of a set size, and counts how often it ran. */
import type { Work } from '../contenders/contender.js';

export interface CountedWork {
  readonly run: Work;
  readonly result: string;
  /** How often it ran since this was asked last. */
  takeRuns(): number;
}

export function countedWork(resultBytes: number): CountedWork {
  const result = 'r'.repeat(resultBytes);
  let runs = 0;
  return {
    result,
    run: () => {
      runs += 1;
      return result;
    },
    takeRuns: () => {
      const taken = runs;
      runs = 0;
      return taken;
    },
  };
}

/** With the prefix `once:`, 19 bytes. */
export function keyOf(n: number): string {
  return `order-${String(n).padStart(8, '0')}`;
}

export function sizeName(bytes: number): string {
  return bytes < 1_024 ? `${bytes} B` : `${Math.round(bytes / 1_024)} KB`;
}

/** Calls `act` with 0 to below `count`, so many at once. */
export async function inLanes(count: number, lanes: number, act: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async () => {
    for (let n = next++; n < count; n = next++) await act(n);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
