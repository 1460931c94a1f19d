/** One whole run: every part in its order, on a server of its own. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { totalmem } from 'node:os';
import { applies } from './cases/apply.js';
import { bursts } from './cases/burst.js';
import { contended } from './cases/contended.js';
import { duplicates, firstCalls } from './cases/once.js';
import { seenIds, seenOf } from './cases/seen.js';
import { HOLD_MS } from './contenders/contender.js';
import { openDedup } from './contenders/redis-once.js';
import type { Cell } from './measure/cell.js';
import { progress } from './measure/progress.js';
import { measure, type Pace } from './measure/rounds.js';
import { openStage, type Stage } from './measure/stage.js';
import { type CrashPace, crash } from './parts/crash/index.js';
import { checkDedupes } from './parts/dedupes.js';
import { FULL_SCALE, GROWTHS, type GrowthScale, QUICK_SCALE } from './parts/growth.js';
import { weighRecords, weighSeen } from './parts/memory.js';
import { countWire } from './parts/wire.js';
import type { CellResult, GrowthResult, Run } from './report/results.js';
import { circumstances } from './server/server-time.js';

interface Extent {
  readonly warmUp: Pace;
  readonly pace: Pace;
  readonly growthPace: Pace;
  readonly concurrencies: readonly number[];
  readonly sizes: readonly number[];
  readonly callers: readonly number[];
  readonly records: number;
  readonly seenIds: number;
  readonly crash: CrashPace;
  readonly growth: GrowthScale;
}

const FULL: Extent = {
  warmUp: { rounds: 3, turnMs: 300 },
  pace: { rounds: 5, turnMs: 120 },
  growthPace: { rounds: 3, turnMs: 150 },
  concurrencies: [1, 16, 64, 256],
  sizes: [20, 1_024, 50 * 1_024],
  callers: [16, 64, 256],
  records: 10_000,
  seenIds: 1_000_000,
  crash: { holdMs: HOLD_MS, watchedMs: 45_000 },
  growth: FULL_SCALE,
};

const QUICK: Extent = {
  warmUp: { rounds: 1, turnMs: 100 },
  pace: { rounds: 3, turnMs: 30 },
  growthPace: { rounds: 1, turnMs: 30 },
  concurrencies: [1, 64],
  sizes: [20, 1_024],
  callers: [16],
  records: 1_000,
  seenIds: 10_000,
  crash: { holdMs: 1_000, watchedMs: 4_000 },
  growth: QUICK_SCALE,
};

/** Until the compiler of Node has seen every path often: what is new to it costs several times as much. */
const WARM_UP = [firstCalls(20, 64), duplicates(20, 64), applies(64)];

const PEERS = [
  '@node-idempotency/core',
  '@node-idempotency/storage-adapter-redis',
  '@aws-lambda-powertools/idempotency',
  '@redis/client',
  '@sesamecare-oss/redlock',
  'ioredis',
];

export async function runAll(command: string, quick: boolean): Promise<Run> {
  const extent = quick ? QUICK : FULL;
  const startedAt = new Date();
  const stage = await openStage();
  const cells = await cellsOf(stage, extent);
  const growths = Object.keys(GROWTHS) as GrowthResult['name'][];
  const { step, stop } = progress(cells.length + growths.length + 5);
  try {
    const { machine, server } = await circumstances(stage.admin);
    step('who dedupes');
    const dedupes = await checkDedupes(stage);
    step('round trips');
    const wire = await countWire(stage);
    step('memory');
    const memory = await weighRecords(stage, extent.records);
    const seenMemory = await weighSeen(stage, extent.seenIds);
    step('warm-up');
    for (const cell of WARM_UP) await measureCell(stage, cell, extent.warmUp);
    const results: CellResult[] = [];
    for (const cell of cells) {
      step(cell.name);
      results.push(await measureCell(stage, cell, extent.pace));
    }
    const growth: GrowthResult[] = [];
    for (const name of growths) {
      step(`growth: ${name}`);
      growth.push(await GROWTHS[name](stage, extent.growthPace, extent.growth));
    }
    step('crash');
    const crashed = { ...extent.crash, rows: await crash(stage, extent.crash) };
    return {
      command,
      startedAt: startedAt.toISOString(),
      tookS: Math.round((Date.now() - startedAt.getTime()) / 1_000),
      quick,
      machine: { ...machine, memoryGB: Math.round(totalmem() / 2 ** 30) },
      server,
      versions: versions(),
      pace: extent.pace,
      cells: results,
      dedupes,
      wire,
      memory,
      seenMemory,
      crash: crashed,
      growth,
    };
  } finally {
    stop();
    await stage.close();
  }
}

async function cellsOf(stage: Stage, { concurrencies, sizes, callers }: Extent): Promise<Cell[]> {
  const { dedup, close } = await openDedup({ url: stage.urlOf(0), holdMs: HOLD_MS });
  const hasSeenSet = seenOf(dedup, 'events') !== undefined;
  await close();
  const cells = sizes.flatMap((size) => [
    ...concurrencies.map((concurrency) => firstCalls(size, concurrency)),
    ...concurrencies.map((concurrency) => duplicates(size, concurrency)),
  ]);
  cells.push(...concurrencies.map(applies), bursts(), ...callers.map(contended));
  if (hasSeenSet) cells.push(...concurrencies.map(seenIds));
  return cells;
}

async function measureCell(stage: Stage, cell: Cell, pace: Pace): Promise<CellResult> {
  const { family, name, resultBytes, concurrency } = cell;
  const loads = await cell.open(stage);
  try {
    return { family, name, resultBytes, concurrency, rows: await measure(stage.admin, loads, pace) };
  } finally {
    for (const load of loads) await load.close();
  }
}

function versions(): Record<string, string> {
  const ours = readVersion(new URL('../package.json', import.meta.url));
  const require = createRequire(import.meta.url);
  const peers = PEERS.map((name) => [name, readVersion(packageOf(require.resolve(name), name))] as const);
  return { 'redis-once': ours, ...Object.fromEntries(peers) };
}

/** Not every package lets its package.json be resolved. */
function packageOf(entry: string, name: string): string {
  const folder = `node_modules/${name}/`;
  return `${entry.slice(0, entry.lastIndexOf(folder))}${folder}package.json`;
}

function readVersion(path: string | URL): string {
  return JSON.parse(readFileSync(path, 'utf8')).version;
}
