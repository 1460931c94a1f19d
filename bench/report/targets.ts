/** What the library is to reach, and what a run measured. */
import { median, ratios, spread } from '../measure/statistics.js';
import type { CellResult, Run } from './results.js';

export interface Target {
  readonly name: string;
  readonly sense: 'at least' | 'at most';
  readonly wanted: number;
  readonly unit: 'x' | 'µs' | 'bytes' | 'ids';
  /** Nothing where the run did not measure it. */
  measured(run: Run): Measured | null;
}

interface Measured {
  readonly median: number;
  /** Of a ratio: the quartiles of its rounds. */
  readonly quartiles?: readonly [number, number];
}

const SMALL = 20;
const US = 'redis-once';
const SET = 'SET NX + SET XX';
const GET = 'GET, auto-pipelined';

export const TARGETS: readonly Target[] = [
  faster('once(), 64 at once, over SET NX + SET XX', 1.8, 'first', 64, US, SET),
  faster('once(), 64 at once, over the same auto-pipelined', 1.1, 'first', 64, US, `${SET}, auto-pipelined`),
  faster('once(), 256 at once, over the same auto-pipelined', 1.3, 'first', 256, US, `${SET}, auto-pipelined`),
  faster('once(), 64 at once, over node-idempotency', 1.3, 'first', 64, US, 'node-idempotency'),
  faster('once(), 64 at once, over Powertools', 2.2, 'first', 64, US, 'Powertools'),
  faster('once(), one at a time, over SET NX + SET XX', 0.85, 'first', 1, US, SET),
  faster('duplicate, 64 at once, over auto-pipelined GET', 1.2, 'duplicate', 64, US, GET),
  faster('duplicate, 256 at once, over auto-pipelined GET', 1.3, 'duplicate', 256, US, GET),
  faster('duplicate, 64 at once, over node-idempotency', 2, 'duplicate', 64, US, 'node-idempotency'),
  faster('apply() of one INCRBY, 64 at once, over once()', 1.6, 'apply', 64, 'apply()', 'once()'),
  faster('applyMany() of 100, 64 at once, over apply()', 1.5, 'apply', 64, 'applyMany() of 100', 'apply()'),
  faster(
    'applyMany() of 100, one at a time, over apply(), 64 at once',
    1.5,
    'apply',
    64,
    'applyMany() of 100, one at a time',
    'apply()',
  ),
  serverTime('once(), claim and commit', 9, 'once()'),
  serverTime('duplicate', 2, 'duplicate'),
  serverTime('apply() of one INCRBY', 6, 'apply()'),
  {
    name: 'client CPU per once(), 64 at once',
    sense: 'at most',
    wanted: 12,
    unit: 'µs',
    measured: (run) => only(rowOf(cellOf(run, 'first', 64), US)?.clientMicrosPerKey),
  },
  {
    name: 'bytes per completed record, over SET NX + SET XX',
    sense: 'at most',
    wanted: 1.2,
    unit: 'x',
    measured: ({ memory }) => {
      const bytesOf = (name: string) => memory.find((one) => one.name === name)?.bytes ?? Number.NaN;
      return only(bytesOf(US) / bytesOf(SET));
    },
  },
  {
    name: 'SeenSet, bytes per id',
    sense: 'at most',
    wanted: 12,
    unit: 'bytes',
    measured: ({ seenMemory }) => only(seenMemory?.bytesPerId),
  },
  {
    name: 'SeenSet, fresh ids called seen',
    sense: 'at most',
    wanted: 0,
    unit: 'ids',
    measured: ({ seenMemory }) => only(seenMemory?.falselySeen),
  },
];

export function isMet({ sense, wanted }: Target, value: number): boolean {
  return sense === 'at least' ? value >= wanted : value <= wanted;
}

export function cellOf(run: Run, family: CellResult['family'], concurrency: number, resultBytes?: number) {
  return run.cells.find(
    (cell) =>
      cell.family === family &&
      cell.concurrency === concurrency &&
      (resultBytes === undefined ? cell.resultBytes <= SMALL : cell.resultBytes === resultBytes),
  );
}

export function rowOf(cell: CellResult | undefined, name: string) {
  return cell?.rows.find((row) => row.name === name);
}

function faster(
  name: string,
  wanted: number,
  family: CellResult['family'],
  concurrency: number,
  ours: string,
  theirs: string,
): Target {
  return {
    name,
    sense: 'at least',
    wanted,
    unit: 'x',
    measured: (run) => {
      const cell = cellOf(run, family, concurrency);
      const [one, other] = [rowOf(cell, ours), rowOf(cell, theirs)];
      if (!one || !other) return null;
      const { median: middle, q1, q3 } = spread(ratios(one.rates, other.rates));
      return { median: middle, quartiles: [q1, q3] };
    },
  };
}

function serverTime(name: string, wanted: number, row: string): Target {
  return {
    name: `server time per key in lists of 64: ${name}`,
    sense: 'at most',
    wanted,
    unit: 'µs',
    measured: (run) => only(rowOf(cellOf(run, 'burst', 64), row)?.commandMicrosPerKey),
  };
}

function only(value: number | null | undefined): Measured | null {
  return value === null || value === undefined || Number.isNaN(value) ? null : { median: value };
}

/** The middle of the runs, and how far they lie apart. */
export function overRuns(values: readonly number[]): { median: number; min: number; max: number } {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}
