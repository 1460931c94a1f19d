/** How cost grows: with keys that are stored, callers that wait for one key, the size of results, and effects of a commit. */
import { inLanes, keyOf } from '../cases/work.js';
import { HOLD_MS } from '../contenders/contender.js';
import { openDedup } from '../contenders/redis-once.js';
import type { Load } from '../measure/cell.js';
import { measure, type Pace, type Row } from '../measure/rounds.js';
import type { Stage } from '../measure/stage.js';
import { median } from '../measure/statistics.js';
import type { GrowthResult } from '../report/results.js';

const AT_ONCE = 64;
const FILLING_AT_ONCE = 512;
const SMALL = 'r'.repeat(20);
const PROCESSES = 4;
const KB = 1_024;

export interface GrowthScale {
  readonly keys: readonly number[];
  readonly waiters: readonly number[];
  readonly resultKB: readonly number[];
  readonly effects: readonly number[];
}

export const FULL_SCALE: GrowthScale = {
  keys: [1e4, 3e4, 1e5, 3e5, 1e6],
  waiters: [1, 4, 16, 64, 128, 256],
  resultKB: [20 / KB, 1, 10, 50, 100, 250],
  effects: [0, 1, 2, 5, 10, 20, 50, 100],
};

export const QUICK_SCALE: GrowthScale = {
  keys: [1e3, 1e4],
  waiters: [1, 16],
  resultKB: [20 / KB, 10],
  effects: [0, 10],
};

type Growth = (stage: Stage, pace: Pace, scale: GrowthScale) => Promise<GrowthResult>;

export const GROWTHS: Readonly<Record<GrowthResult['name'], Growth>> = {
  /** The levels come one after another here, since keys cannot be taken away between turns. */
  keys: async (stage, pace, { keys: levels }) => {
    const points: GrowthResult['points'][number][] = [];
    const { dedup, close } = await openDedup({ url: stage.urlOf(0), holdMs: HOLD_MS });
    let filled = 0;
    let fresh = 0;
    for (const level of levels) {
      const from = filled;
      await inLanes(level - from, FILLING_AT_ONCE, (n) => dedup.once(keyOf(from + n), () => SMALL));
      filled = level;
      const first = loadOf('first call', AT_ONCE, () => dedup.once(`fresh-${fresh++}`, () => SMALL));
      const duplicate = loadOf('duplicate', AT_ONCE, (n) => dedup.once(keyOf(scattered(n, level)), () => SMALL));
      points.push({ x: level, y: costs(await measure(stage.admin, [first, duplicate], pace)) });
    }
    await close();
    await stage.flush(0);
    return { name: 'keys', points };
  },

  /** Each caller of one key on one of four connections; the work takes 5 ms. */
  waiters: async (stage, pace, { waiters: levels }) => {
    const opened = await openSome(stage, PROCESSES, () => 0);
    let key = 0;
    const loads = levels.map((callers) =>
      loadOf('a key', 1, () => {
        key += 1;
        const name = `waited-${key}`;
        const work = () => new Promise<string>((resolve) => setTimeout(resolve, 5, SMALL));
        return Promise.all(Array.from({ length: callers }, (_, at) => opened[at % PROCESSES]?.dedup.once(name, work)));
      }),
    );
    return grown('waiters', levels, stage, pace, loads, opened);
  },

  result: async (stage, pace, { resultKB: levels }) => {
    const opened = await openSome(stage, levels.length, (index) => index);
    const loads = levels.map((size, index) => {
      const result = 'r'.repeat(Math.round(size * KB));
      const { dedup } = opened[index] as (typeof opened)[number];
      // Few at once: else it is the sending of many that is measured.
      const load = loadOf('first call', 4, (n) => dedup.once(keyOf(n), () => result));
      return { ...load, finish: () => stage.flush(index) };
    });
    return grown('result', levels, stage, pace, loads, opened);
  },

  /** INCRBY, each on a key of its own. */
  effects: async (stage, pace, { effects: levels }) => {
    const opened = await openSome(stage, levels.length, (index) => index);
    const loads = levels.map((effects, index) => {
      const { dedup } = opened[index] as (typeof opened)[number];
      const load = loadOf('a call', AT_ONCE, (n) =>
        dedup.once(keyOf(n), ({ tx }) => {
          for (let effect = 0; effect < effects; effect += 1) tx.incrby(`count-${effect}`, 1);
          return SMALL;
        }),
      );
      return { ...load, finish: () => stage.flush(index) };
    });
    return grown('effects', levels, stage, pace, loads, opened);
  },
};

type Opened = Awaited<ReturnType<typeof openDedup>>;

function openSome(stage: Stage, count: number, databaseOf: (index: number) => number): Promise<Opened[]> {
  const urls = Array.from({ length: count }, (_, index) => stage.urlOf(databaseOf(index)));
  return Promise.all(urls.map((url) => openDedup({ url, holdMs: HOLD_MS })));
}

function loadOf(name: string, lanes: number, call: Load['call']): Load {
  return { name, kind: 'ours', keysPerCall: 1, lanes, call, finish: async () => {}, close: async () => {} };
}

async function grown(
  name: GrowthResult['name'],
  levels: readonly number[],
  stage: Stage,
  pace: Pace,
  loads: readonly Load[],
  opened: readonly Opened[],
): Promise<GrowthResult> {
  const rows = await measure(stage.admin, loads, pace);
  for (const [index, { close }] of opened.entries()) {
    await close();
    await stage.flush(index);
  }
  return { name, points: levels.map((x, index) => ({ x, y: costs([rows[index] as Row]) })) };
}

/** Microseconds. */
function costs(rows: readonly Row[]): Record<string, number> {
  const entries = rows.flatMap(({ name, rates, clientMicrosPerKey, serverMicrosPerKey }) => [
    [`${name}, elapsed`, Number((1e6 / median(rates)).toPrecision(4))] as const,
    [`${name}, client CPU`, clientMicrosPerKey] as const,
    [`${name}, server CPU`, serverMicrosPerKey] as const,
  ]);
  return Object.fromEntries(entries);
}

/** All over the keys, in an order that no cache likes. */
function scattered(n: number, keys: number): number {
  return (n * 7_919) % keys;
}
