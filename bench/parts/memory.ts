/** What a completed record and a seen id take up in the server. */

import { seenOf } from '../cases/seen.js';
import { inLanes, keyOf } from '../cases/work.js';
import { type ContenderType, HOLD_MS } from '../contenders/contender.js';
import { RECORDING } from '../contenders/index.js';
import { openDedup } from '../contenders/redis-once.js';
import { usedMemory } from '../measure/meter.js';
import type { Stage } from '../measure/stage.js';
import { median } from '../measure/statistics.js';
import type { MemoryResult, SeenMemoryResult } from '../report/results.js';

/** 22 bytes as JSON. */
const RESULT = 'r'.repeat(20);
const AT_ONCE = 64;
const SAMPLES = 200;
const IDS_PER_CALL = 1_000;

export async function weighRecords(stage: Stage, records: number): Promise<MemoryResult[]> {
  const results: MemoryResult[] = [];
  for (const [database, type] of RECORDING.entries()) {
    results.push(await weigh(stage, type, database, records));
  }
  return results;
}

async function weigh(stage: Stage, type: ContenderType, database: number, records: number): Promise<MemoryResult> {
  const admin = await stage.select(database);
  const contender = await type.open({ url: stage.urlOf(database), holdMs: HOLD_MS });
  // What a plain SET stores is what it is given.
  const result = type.kind === 'floor' ? JSON.stringify(RESULT) : RESULT;
  await contender.call('warm-up', () => result);
  await stage.flush(database);
  const before = await usedMemory(admin);
  await inLanes(records, AT_ONCE, (n) => contender.call(keyOf(n), () => result));
  const grownBytes = ((await usedMemory(admin)) - before) / records;
  const keysPerRecord = (await admin.dbsize()) / records;
  const [, sample] = await admin.scan('0', 'COUNT', SAMPLES);
  const usages = await Promise.all(sample.map((key) => admin.memory('USAGE', key)));
  await contender.close();
  await stage.flush(database);
  return {
    name: type.name,
    keyBytes: median(sample.map((key) => Buffer.byteLength(key))),
    keysPerRecord,
    bytes: median(usages.map(Number)) * keysPerRecord,
    grownBytes: Math.round(grownBytes),
  };
}

/** Of a set that is made without options. */
export async function weighSeen(stage: Stage, ids: number): Promise<SeenMemoryResult | null> {
  const { dedup, close } = await openDedup({ url: stage.urlOf(0), holdMs: HOLD_MS });
  try {
    const seen = seenOf(dedup, 'events');
    if (!seen) return null;
    const calls = ids / IDS_PER_CALL;
    const idsOf = (kind: string, call: number) =>
      Array.from({ length: IDS_PER_CALL }, (_, at) => `${kind}-${call * IDS_PER_CALL + at}`);
    const before = await usedMemory(stage.admin);
    await inLanes(calls, 4, (call) => seen.addMany(idsOf('added', call)));
    const bytesPerId = ((await usedMemory(stage.admin)) - before) / ids;
    let falselySeen = 0;
    await inLanes(calls, 4, async (call) => {
      const answers = await Promise.all(idsOf('fresh', call).map((id) => seen.has(id)));
      falselySeen += answers.filter(Boolean).length;
    });
    return { ids, bytesPerId, falselySeen };
  } finally {
    await close();
    await stage.flush(0);
  }
}
