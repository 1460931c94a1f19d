/** `list`: the records that may want looking at, or those of the states that are asked for. */
import { escapePart } from '../key.js';
import { prefixOf } from './address.js';
import type { Context, ExitCode } from './command.js';
import { serverNowMs } from './connect.js';
import { columnsOf } from './describe.js';
import { progressOn } from './progress.js';
import { type Entry, entryOf, type Found, recordsOf, STATES, type State, stateOf } from './records.js';
import { table } from './table.js';
import { count, many } from './text.js';

export interface ListOptions {
  readonly scope: readonly string[];
  readonly states: readonly State[];
  /** The most records that are shown. */
  readonly limit: number;
}

/** What there is to be looked at: those that are done are left out, and those that wait for their next call. */
export const LISTED: readonly State[] = ['in_progress', 'failed', 'broken', 'unreadable'];

export async function list(context: Context, { scope, states, limit }: ListOptions): Promise<ExitCode> {
  const { io, session, namespace, colors, width, heading } = context;
  const prefix = prefixOf(namespace, scope);
  const progress = progressOn(io);
  const signal = io.interruptible();
  const worst = new Worst(limit);
  let looked = 0;
  let found = 0;
  try {
    const walk = { session, prefix, signal, onProgress: progress.update };
    for await (const page of recordsOf(walk, escapePart(namespace))) {
      looked += page.length;
      const wanted = page.filter((record) => states.includes(stateOf(record)));
      found += wanted.length;
      worst.add(wanted);
    }
  } finally {
    progress.stop();
  }
  const now = await serverNowMs(session);
  const records = worst.sorted().map((record) => entryOf(record, now));
  const complete = !signal.aborted;
  const document = { namespace, scope, states, looked, found, complete, records };
  context.print(document, () => {
    const told = [summary(records, looked, found, complete, states)];
    if (looked === 0 && complete) told.push(context.nothingIn(scope));
    if (records.length > 0) told.unshift(table(records, columnsOf(colors), width, heading), '');
    return told.join('\n');
  });
  return complete ? 0 : 130;
}

/** Keeps the worst, and of the same state the oldest: as many as are asked for, and little more than twice that in memory. */
class Worst {
  #kept: Found[] = [];

  constructor(private readonly limit: number) {}

  add(records: readonly Found[]): void {
    this.#kept.push(...records);
    if (this.#kept.length >= 2 * this.limit) this.#kept = this.sorted();
  }

  /** A key may come twice from SCAN, and is kept once. */
  sorted(): Found[] {
    const byKey = new Map(this.#kept.map((record) => [record.address.redisKey, record]));
    return [...byKey.values()].sort(byRank).slice(0, this.limit);
  }
}

function byRank(a: Found, b: Found): number {
  const rank = (record: Found) => STATES.indexOf(stateOf(record));
  const age = (a.info?.fence ?? 0) - (b.info?.fence ?? 0);
  return rank(a) - rank(b) || age || (a.address.redisKey < b.address.redisKey ? -1 : 1);
}

function summary(
  records: readonly Entry[],
  looked: number,
  found: number,
  complete: boolean,
  states: readonly State[],
): string {
  const told: string[] = [];
  const words = states.map((state) => state.replace('_', ' '));
  const last = words.pop() as string;
  const either = words.length > 0 ? `${words.join(', ')} or ${last}` : last;
  told.push(`${many(found, 'record')} ${either}, of ${count(looked)}.`);
  if (records.length < found) told.push(`The worst and oldest ${count(records.length)} are shown (--limit).`);
  if (!complete) told.push('Interrupted: not all keys were looked at.');
  return told.join('\n');
}
