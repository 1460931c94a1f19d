/** Does each contender do what it is here for? Copies in sequence and at the same time, and how often the work ran. */
import { setTimeout as wait } from 'node:timers/promises';
import { type ContenderType, callUntilAnswered, HOLD_MS } from '../contenders/contender.js';
import { DEDUPING } from '../contenders/index.js';
import type { Stage } from '../measure/stage.js';
import type { DedupeResult } from '../report/results.js';

const KEYS = 10;
const COPIES = 8;
const PROCESSES = 4;
const WORK_MS = 5;

/** @throws Error where one claims to dedupe, and does not */
export async function checkDedupes(stage: Stage): Promise<DedupeResult[]> {
  const results: DedupeResult[] = [];
  for (const [database, type] of DEDUPING.entries()) {
    results.push(await checkOne(stage, type, database));
    await stage.flush(database);
  }
  return results;
}

async function checkOne(stage: Stage, type: ContenderType, database: number): Promise<DedupeResult> {
  const opening = { url: stage.urlOf(database), holdMs: HOLD_MS };
  const contenders = await Promise.all(Array.from({ length: PROCESSES }, () => type.open(opening)));
  const refused = new Set<string>();
  const runsWhile = async (
    prefix: string,
    copiesOf: (call: (copy: number) => Promise<string>) => Promise<string[]>,
  ) => {
    let runs = 0;
    for (let number = 0; number < KEYS; number += 1) {
      const key = `${prefix}-${number}`;
      const work = async () => {
        runs += 1;
        await wait(WORK_MS);
        return `result of run ${runs}`;
      };
      const results = await copiesOf((copy) => {
        const contender = contenders[copy % PROCESSES] as (typeof contenders)[number];
        return callUntilAnswered(contender, key, work, () => refused.add(`${key} ${copy}`));
      });
      const wanted = type.dedupes === 'at the same time' || prefix === 'sequence' ? 1 : results.length;
      if (new Set(results).size > wanted) throw new Error(`${type.name} gave copies of one key different results.`);
    }
    return runs / KEYS;
  };
  try {
    const inSequence = await runsWhile('sequence', async (call) => {
      const results: string[] = [];
      for (let copy = 0; copy < COPIES; copy += 1) results.push(await call(copy));
      return results;
    });
    const atTheSameTime = await runsWhile('same-time', (call) =>
      Promise.all(Array.from({ length: COPIES }, (_, copy) => call(copy))),
    );
    if (inSequence !== 1)
      throw new Error(`${type.name} ran the work of a key ${inSequence} times for copies in sequence.`);
    if (type.dedupes === 'at the same time' && atTheSameTime !== 1) {
      throw new Error(`${type.name} ran the work of a key ${atTheSameTime} times for copies at the same time.`);
    }
    const refusedShare = refused.size / (KEYS * COPIES);
    return { name: type.name, claims: type.dedupes, inSequence, atTheSameTime, refusedShare };
  } finally {
    await Promise.all(contenders.map((contender) => contender.close()));
  }
}
