/** Ids seen before or not, by SeenSet and by a key for each id. Without a SeenSet in the library there is no such case. */
import { Redis } from 'ioredis';
import { HOLD_MS, RETENTION_MS } from '../contenders/contender.js';
import { openDedup } from '../contenders/redis-once.js';
import type { Cell, Load } from '../measure/cell.js';
import type { Stage } from '../measure/stage.js';
import { keyOf } from './work.js';

const LIST = 100;

/** What this needs of the library's SeenSet. */
export interface Seen {
  add(id: string): Promise<boolean>;
  addMany(ids: readonly string[]): Promise<boolean[]>;
  has(id: string): Promise<boolean>;
}

type OurDedup = Awaited<ReturnType<typeof openDedup>>['dedup'];

/** The set of that name, where the library has sets. */
export function seenOf(dedup: OurDedup, name: string): Seen | undefined {
  return 'seen' in dedup ? (dedup as OurDedup & { seen(name: string): Seen }).seen(name) : undefined;
}

/** New ids only: a set answers for known ones as it does for new. */
export function seenIds(concurrency: number): Cell {
  return {
    family: 'seen',
    name: `new ids, ${concurrency} at once`,
    resultBytes: 0,
    concurrency,
    async open(stage) {
      const loads = await Promise.all([
        ofSet(stage, 0, 'SeenSet add()', 1, async (seen, n) => expectNew([await seen.add(keyOf(n))])),
        ofSet(stage, 1, `SeenSet addMany() of ${LIST}`, LIST, async (seen, n) =>
          expectNew(await seen.addMany(Array.from({ length: LIST }, (_, at) => keyOf(n * LIST + at)))),
        ),
        ofKeys(stage, 2, 'SET NX', false),
        ofKeys(stage, 3, 'SET NX, auto-pipelined', true),
      ]);
      return loads.map((load) => ({ ...load, lanes: concurrency }));
    },
  };
}

type LaneLess = Omit<Load, 'lanes'>;

async function ofSet(
  stage: Stage,
  database: number,
  name: string,
  keysPerCall: number,
  add: (seen: Seen, n: number) => Promise<void>,
): Promise<LaneLess> {
  const { dedup, close } = await openDedup({ url: stage.urlOf(database), holdMs: HOLD_MS });
  const seen = seenOf(dedup, 'events') as Seen;
  return {
    name,
    kind: 'ours',
    commands: ['evalsha'],
    keysPerCall,
    call: (n) => add(seen, n),
    finish: () => stage.flush(database),
    close,
  };
}

async function ofKeys(stage: Stage, database: number, name: string, pipelined: boolean): Promise<LaneLess> {
  const redis = new Redis(stage.urlOf(database), { enableAutoPipelining: pipelined });
  await redis.ping();
  return {
    name,
    kind: 'floor',
    commands: ['set'],
    keysPerCall: 1,
    call: async (n) => expectNew([(await redis.set(`once:${keyOf(n)}`, '1', 'PX', RETENTION_MS, 'NX')) !== null]),
    finish: () => stage.flush(database),
    close: async () => redis.disconnect(),
  };
}

function expectNew(answers: readonly boolean[]): void {
  if (!answers.every(Boolean)) throw new Error('An id that is new was called seen.');
}
