/** Writes known up front, one INCRBY a key: with a handler, by `apply`, and by lists. */
import { Redis } from 'ioredis';
import { HOLD_MS, RETENTION_MS } from '../contenders/contender.js';
import { openDedup } from '../contenders/redis-once.js';
import type { Cell, Load } from '../measure/cell.js';
import type { Stage } from '../measure/stage.js';
import { keyOf } from './work.js';

const LIST = 100;
const TOTAL = 'total';
const RESULT = 'r'.repeat(20);
/** More keys than that under way say nothing new. */
const MOST_LISTS = 64;

type Call = (n: number) => Promise<unknown>;

/** The names are those of the targets. */
export function applies(concurrency: number): Cell {
  return {
    family: 'apply',
    name: `apply of one INCRBY, ${concurrency} at once`,
    resultBytes: 20,
    concurrency,
    async open(stage) {
      const loads = [
        ours(stage, 0, 'once()', (dedup) => (n) => dedup.once(keyOf(n), () => RESULT)),
        ours(
          stage,
          1,
          'once() with INCRBY',
          (dedup) => (n) =>
            dedup.once(keyOf(n), ({ tx }) => {
              tx.incrby(TOTAL, 1);
              return RESULT;
            }),
        ),
        ours(stage, 2, 'apply()', (dedup) => (n) => dedup.apply(keyOf(n), (tx) => tx.incrby(TOTAL, 1))),
        floor(stage, 5),
      ];
      if (concurrency <= MOST_LISTS) loads.push(lists(stage, 3, `applyMany() of ${LIST}`));
      if (concurrency === MOST_LISTS) loads.push(lists(stage, 4, `applyMany() of ${LIST}, one at a time`, 1));
      return (await Promise.all(loads)).map((load) => ({ lanes: concurrency, ...load }));
    },
  };
}

type LaneLess = Omit<Load, 'lanes'> & { lanes?: number };
type OurDedup = Awaited<ReturnType<typeof openDedup>>['dedup'];

async function ours(
  stage: Stage,
  database: number,
  name: string,
  callOf: (dedup: OurDedup) => Call,
  keysPerCall = 1,
): Promise<LaneLess> {
  const { dedup, close } = await openDedup({ url: stage.urlOf(database), holdMs: HOLD_MS });
  const counts = name !== 'once()';
  return {
    name,
    kind: 'ours',
    commands: ['evalsha'],
    keysPerCall,
    call: callOf(dedup),
    finish: async (calls) => {
      const total = Number(await (await stage.select(database)).get(TOTAL));
      if (counts && total !== calls * keysPerCall) {
        throw new Error(`${name} counted ${total} keys where it was called for ${calls * keysPerCall}.`);
      }
      await stage.flush(database);
    },
    close,
  };
}

async function lists(stage: Stage, database: number, name: string, lanes?: number): Promise<LaneLess> {
  const callOf = (dedup: OurDedup) => async (n: number) => {
    const outcomes = await dedup.applyMany(
      Array.from({ length: LIST }, (_, at) => ({ key: keyOf(n * LIST + at), write: (tx) => tx.incrby(TOTAL, 1) })),
    );
    for (const outcome of outcomes) if (outcome.status !== 'executed') throw new Error(`Not executed: ${outcome.key}`);
  };
  return { ...(await ours(stage, database, name, callOf, LIST)), ...(lanes ? { lanes } : {}) };
}

/** Not atomic: dies between the two, and the key counts as done. */
async function floor(stage: Stage, database: number): Promise<LaneLess> {
  const redis = new Redis(stage.urlOf(database), { enableAutoPipelining: true });
  await redis.ping();
  return {
    name: 'SET NX, then INCRBY, auto-pipelined',
    kind: 'floor',
    commands: ['set', 'incrby'],
    keysPerCall: 1,
    call: async (n) => {
      if (await redis.set(`once:${keyOf(n)}`, '1', 'PX', RETENTION_MS, 'NX')) await redis.incrby(TOTAL, 1);
    },
    finish: () => stage.flush(database),
    close: async () => redis.disconnect(),
  };
}
