/** Calls with new keys, and calls with keys that were completed before: every contender, at every size. */
import { type ContenderType, HOLD_MS } from '../contenders/contender.js';
import { DUPLICATES, FIRST_CALLS } from '../contenders/index.js';
import type { Cell, Load } from '../measure/cell.js';
import type { Stage } from '../measure/stage.js';
import { countedWork, inLanes, keyOf, sizeName } from './work.js';

const PREPARED_AT_ONCE = 64;

/** So many that no answer comes from a cache of the processor, and with large results no more than memory has room for. */
const poolOf = (resultBytes: number) => (resultBytes > 10_000 ? 256 : 2_048);

export function firstCalls(resultBytes: number, concurrency: number): Cell {
  return cell('first', FIRST_CALLS, resultBytes, concurrency, async (type, stage, database) => {
    const contender = await type.open({ url: stage.urlOf(database), holdMs: HOLD_MS });
    const work = countedWork(resultBytes);
    return {
      call: async (n) => expectResult(type, await contender.call(keyOf(n), work.run), work.result),
      finish: async (calls) => {
        expectRuns(type, work.takeRuns(), calls);
        await stage.flush(database);
      },
      close: contender.close,
    };
  });
}

export function duplicates(resultBytes: number, concurrency: number): Cell {
  return cell('duplicate', DUPLICATES, resultBytes, concurrency, async (type, stage, database) => {
    const contender = await type.open({ url: stage.urlOf(database), holdMs: HOLD_MS });
    const work = countedWork(resultBytes);
    const pool = poolOf(resultBytes);
    return {
      prepare: async () => {
        await inLanes(pool, PREPARED_AT_ONCE, (n) => contender.call(keyOf(n), work.run));
        work.takeRuns();
      },
      call: async (n) => expectResult(type, await contender.call(keyOf(n % pool), work.run), work.result),
      finish: async () => expectRuns(type, work.takeRuns(), 0),
      close: async () => {
        await contender.close();
        await stage.flush(database);
      },
    };
  });
}

function cell(
  family: 'first' | 'duplicate',
  types: readonly ContenderType[],
  resultBytes: number,
  concurrency: number,
  make: (
    type: ContenderType,
    stage: Stage,
    database: number,
  ) => Promise<Pick<Load, 'prepare' | 'call' | 'finish' | 'close'>>,
): Cell {
  const name = `${family === 'first' ? 'first call' : 'duplicate'}, ${sizeName(resultBytes)}, ${concurrency} at once`;
  return {
    family,
    name,
    resultBytes,
    concurrency,
    open: (stage) =>
      Promise.all(
        types.map(async (type, database) => ({
          name: type.name,
          kind: type.kind,
          commands: type.commands,
          keysPerCall: 1,
          lanes: concurrency,
          ...(await make(type, stage, database)),
        })),
      ),
  };
}

function expectResult({ name }: ContenderType, got: string, wanted: string): void {
  if (got !== wanted) throw new Error(`${name} gave another result than the work's.`);
}

function expectRuns({ name, dedupes }: ContenderType, runs: number, wanted: number): void {
  if (dedupes === 'nothing' || runs === wanted) return;
  throw new Error(`${name} ran the work ${runs} times where ${wanted} were due.`);
}
