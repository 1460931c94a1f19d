/** `stats`: how many records of each state, and what they take, by a sample. */
import { escapePart } from '../key.js';
import { ExchangeError } from '../redis/exchange.js';
import { prefixOf } from './address.js';
import type { Context, ExitCode } from './command.js';
import type { Session } from './connect.js';
import { stateWords } from './describe.js';
import { progressOn } from './progress.js';
import { recordsOf, STATES, type State, stateOf } from './records.js';
import { type Column, table } from './table.js';
import { bytes, count, many } from './text.js';

export interface StatsOptions {
  readonly scope: readonly string[];
}

interface Row {
  readonly state: State;
  readonly records: number;
  readonly sampled: number;
  /** Of all, reckoned from the sample; null where none of it could be measured. */
  readonly bytes: number | null;
}

const SAMPLE = 100;
const MEMORY_USAGE = "return redis.call('MEMORY', 'USAGE', KEYS[1])";

export async function stats(context: Context, { scope }: StatsOptions): Promise<ExitCode> {
  const { io, session, namespace, colors, width, heading } = context;
  const progress = progressOn(io);
  const signal = io.interruptible();
  const samples = new Map(STATES.map((state) => [state, new Sample(SAMPLE)]));
  try {
    const walk = { session, prefix: prefixOf(namespace, scope), signal, onProgress: progress.update };
    for await (const page of recordsOf(walk, escapePart(namespace))) {
      for (const found of page) samples.get(stateOf(found))?.add(found.address.redisKey);
    }
  } finally {
    progress.stop();
  }
  const rows = await Promise.all([...samples].map(([state, sample]) => measured(session, state, sample)));
  const complete = !signal.aborted;
  const records = rows.reduce((sum, row) => sum + row.records, 0);
  const taken = rows.reduce<number | null>(
    (sum, row) => (row.records === 0 ? sum : sum === null || row.bytes === null ? null : sum + row.bytes),
    0,
  );
  const document = { namespace, scope, complete, records, bytes: taken, states: rows };
  context.print(document, () => {
    const columns: Column<Row>[] = [
      { title: 'RECORDS', align: 'right', cell: (row) => count(row.records), words: (cell) => `records: ${cell}` },
      { title: 'SAMPLED', align: 'right', cell: (row) => count(row.sampled), words: (cell) => `sampled: ${cell}` },
      { title: 'MEMORY', align: 'right', cell: (row) => (row.bytes === null ? '' : bytes(row.bytes)) },
      { title: 'STATE', cell: ({ state }) => stateWords(state, colors) },
    ];
    const told = [table(rows, columns, width, heading), ''];
    const memory = taken === null ? 'their memory could not be measured' : `some ${bytes(taken)} of memory`;
    told.push(`${many(records, 'record')}, ${memory}.`);
    if (records === 0 && complete) told.push(context.nothingIn(scope));
    if (!complete) told.push('Interrupted: not all keys were looked at.');
    return told.join('\n');
  });
  return complete ? 0 : 130;
}

/** So many of all that were added, each as likely as any other. */
class Sample {
  added = 0;
  readonly kept: string[] = [];

  constructor(private readonly size: number) {}

  add(item: string): void {
    this.added += 1;
    if (this.kept.length < this.size) this.kept.push(item);
    else {
      const place = Math.floor(Math.random() * this.added);
      if (place < this.size) this.kept[place] = item;
    }
  }
}

async function measured(session: Session, state: State, { added, kept }: Sample): Promise<Row> {
  const sizes = (await Promise.all(kept.map((redisKey) => memoryOf(session, redisKey)))).filter(
    (size) => size !== null,
  );
  const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
  const all = added === 0 ? 0 : sizes.length === 0 ? null : Math.round(mean * added);
  return { state, records: added, sampled: sizes.length, bytes: all };
}

/** Null for a key that is gone, and where the user may not ask. */
async function memoryOf({ parts: { connection, scripts } }: Session, redisKey: string): Promise<number | null> {
  try {
    // By a script: whether the client prefixes the key of MEMORY USAGE differs by its version.
    const asked = connection.redis.call('EVAL', [MEMORY_USAGE, '1', redisKey]);
    const size = await connection.within(asked, scripts.deadline());
    return size === null ? null : Number(size);
  } catch (error) {
    if (error instanceof ExchangeError && error.code !== null) return null;
    throw error;
  }
}
