/** Many callers of one key at the same time, on several connections as if in several processes. */
import { callUntilAnswered, HOLD_MS } from '../contenders/contender.js';
import { CONTENDED } from '../contenders/index.js';
import type { Cell } from '../measure/cell.js';
import { keyOf } from './work.js';

const PROCESSES = 4;
const WORK_MS = 5;

/** One call is one key: over when every caller has the result. Who is refused comes again. */
export function contended(callers: number): Cell {
  return {
    family: 'contended',
    name: `one key, ${callers} callers`,
    resultBytes: 20,
    concurrency: callers,
    open: (stage) =>
      Promise.all(
        CONTENDED.map(async ({ name, kind, open }, database) => {
          const opening = { url: stage.urlOf(database), holdMs: HOLD_MS };
          const contenders = await Promise.all(Array.from({ length: PROCESSES }, () => open(opening)));
          let runs = 0;
          const work = async () => {
            runs += 1;
            await new Promise((resolve) => setTimeout(resolve, WORK_MS));
            return 'r'.repeat(20);
          };
          return {
            name,
            kind,
            keysPerCall: callers,
            lanes: 1,
            call: (n: number) =>
              Promise.all(
                Array.from({ length: callers }, (_, caller) =>
                  callUntilAnswered(contenders[caller % PROCESSES] as (typeof contenders)[number], keyOf(n), work),
                ),
              ),
            finish: async (calls: number) => {
              if (runs !== calls) throw new Error(`${name} ran the work ${runs} times for ${calls} contended keys.`);
              runs = 0;
              await stage.flush(database);
            },
            close: () => Promise.all(contenders.map((contender) => contender.close())),
          };
        }),
      ),
  };
}
