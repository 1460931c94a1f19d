/** Marks in sets of seen ids, as effects: of ids by `tx.seen`, and of a call's own record by the option `record`. */
import type { EffectList } from '../redis/scripts.js';
import type { Mark } from '../seen/layout.js';

/** How the set that holds a call's record marks it. */
export interface RecordMark {
  readonly mark: Mark;
  /** How long the completed record is kept for resends. */
  readonly keptMs: number;
  /** The mark alone, for a claim to look for. */
  readonly effects: EffectList;
  /** As `SeenWork` has it. */
  agree(): Promise<void>;
}

/** Read by lua/lib/seen.lua. */
export function markArguments({ keys, bucketMs, digest }: Mark): string[] {
  return [String(keys.length), String(bucketMs), digest];
}

/** @param number of the first bucket among the entry's keys, from 1 */
export function recordMarkWords(number: number, mark: Mark, keptMs: number): string[] {
  return ['MARK', 'seen', String(number), '4', ...markArguments(mark), String(keptMs)];
}

/** One letter a bucket: its contents are not followed. */
export function bucketPlan({ keys }: Mark): string {
  return '1'.repeat(keys.length);
}
