/** Lists of 64: as many calls of one tick, so that the server's time for a key in a list can be told. */
import { HOLD_MS } from '../contenders/contender.js';
import { openDedup } from '../contenders/redis-once.js';
import type { Cell } from '../measure/cell.js';
import { inLanes, keyOf } from './work.js';

const LIST = 64;
const POOL = 2_048;
const RESULT = 'r'.repeat(20);

export function bursts(): Cell {
  return {
    family: 'burst',
    name: `${LIST} calls of one tick`,
    resultBytes: 20,
    concurrency: LIST,
    open: (stage) =>
      Promise.all(
        (['once()', 'duplicate', 'apply()'] as const).map(async (name, database) => {
          const { dedup, close } = await openDedup({ url: stage.urlOf(database), holdMs: HOLD_MS });
          const work = () => RESULT;
          const one = {
            'once()': (n: number) => dedup.once(keyOf(n), work),
            duplicate: (n: number) => dedup.once(keyOf(n % POOL), work),
            'apply()': (n: number) => dedup.apply(keyOf(n), (tx) => tx.incrby('total', 1)),
          }[name] as (n: number) => Promise<unknown>;
          return {
            name,
            kind: 'ours',
            commands: ['evalsha'],
            keysPerCall: LIST,
            lanes: 1,
            prepare: async () => {
              if (name === 'duplicate') await inLanes(POOL, LIST, one);
            },
            call: (n: number) => Promise.all(Array.from({ length: LIST }, (_, at) => one(n * LIST + at))),
            finish: async () => {
              if (name !== 'duplicate') await stage.flush(database);
            },
            close: async () => {
              await close();
              await stage.flush(database);
            },
          };
        }),
      ),
  };
}
