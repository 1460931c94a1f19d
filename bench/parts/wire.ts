/** What one call sends, counted by a proxy before the server while nothing else is under way. */
import { Wire } from '../../test/support/wire.js';
import { keyOf } from '../cases/work.js';
import { type ContenderType, HOLD_MS } from '../contenders/contender.js';
import { DUPLICATES, FIRST_CALLS } from '../contenders/index.js';
import type { Stage } from '../measure/stage.js';
import type { WireResult } from '../report/results.js';

/** Scripts are loaded and connections made by then. */
const WARM_UPS = 3;

export async function countWire(stage: Stage): Promise<WireResult[]> {
  const results: WireResult[] = [];
  for (const [what, types] of [
    ['first', FIRST_CALLS],
    ['duplicate', DUPLICATES],
  ] as const) {
    for (const [database, type] of types.entries()) {
      results.push({ name: type.name, what, ...(await countOne(stage, type, database, what === 'duplicate')) });
      await stage.flush(database);
    }
  }
  return results;
}

async function countOne(stage: Stage, { open }: ContenderType, database: number, again: boolean) {
  const wire = await Wire.before(stage.urlOf(database));
  const contender = await open({ url: `${wire.url}/${database}`, holdMs: HOLD_MS });
  try {
    const work = () => 'r'.repeat(20);
    for (let n = 0; n < WARM_UPS; n += 1) await contender.call(keyOf(n), work);
    wire.reset();
    await contender.call(keyOf(again ? 0 : WARM_UPS), work);
    return { commands: wire.commands, writes: wire.writes, roundTrips: wire.turns };
  } finally {
    await contender.close();
    await wire.stop();
  }
}
