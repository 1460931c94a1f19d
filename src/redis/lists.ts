/** Which calls of a script travel together: of the same settings, bounded in number and bytes, in Cluster of one slot. */
import calculateSlot from 'cluster-key-slot';
import type { ScriptText } from './connection.js';
import type { EffectList } from './scripts.js';

export type Argument = string | number | Buffer;

/** A call, as far as its list goes. */
export interface Listed {
  readonly redisKey: string;
  readonly args: Readonly<Record<string, Argument>>;
  readonly effects: EffectList;
}

/** A list is bounded, so that no call of others waits long behind it; lua/lib/list.lua bounds its reply as well. */
export const LONGEST_LIST = 128;
const LARGEST_LIST_BYTES = 256 * 1024;
/** A text that is longer is measured, not guessed. */
const LONGEST_GUESSED = 1024;

/**
 * The calls of the same settings in their order, cut into lists; behind them those that may be slow, each alone, so that
 * the others wait for none.
 */
export function listsOf<C extends Listed>(script: ScriptText, calls: readonly C[]): C[][] {
  const lists: C[][] = [];
  const slow: C[][] = [];
  for (const group of groupsOf(script.perList, calls)) {
    let list: C[] = [];
    let bytes = 0;
    for (const call of group) {
      if (call.effects.alone) {
        slow.push([call]);
        continue;
      }
      const size = bytesOf(script, call);
      if (list.length === 0 || list.length === LONGEST_LIST || bytes + size > LARGEST_LIST_BYTES) {
        list = [];
        lists.push(list);
        bytes = 0;
      }
      list.push(call);
      bytes += size;
    }
  }
  return [...lists, ...slow];
}

/** The calls by their settings. */
function groupsOf<C extends Listed>(settings: readonly string[], calls: readonly C[]): Iterable<C[]> {
  const groups = new Map<string, C[]>();
  let group: C[] | undefined;
  for (const call of calls) {
    const other = group?.[0]?.args;
    // Nearly always all are alike: then no text is made of each to find its group by.
    if (!(group && settings.every((name) => other?.[name] === call.args[name]))) {
      const told = settings.map((name) => call.args[name]).join('\n');
      group = groups.get(told) ?? [];
      groups.set(told, group);
    }
    group.push(call);
  }
  return groups.values();
}

/** In Cluster a list may hold one slot only. */
export function listsBySlot<C extends Listed>(script: ScriptText, calls: readonly C[], keyPrefix: string): C[][] {
  const slots = new Map<number, C[]>();
  for (const call of calls) {
    const slot = calculateSlot(keyPrefix + call.redisKey);
    const inSlot = slots.get(slot);
    if (inSlot) inSlot.push(call);
    else slots.set(slot, [call]);
  }
  return [...slots.values()].flatMap((inSlot) => listsOf(script, inSlot));
}

/** What a call brings to its list, nearly: short texts are taken for ASCII. */
function bytesOf({ perEntry }: ScriptText, { redisKey, args, effects }: Listed): number {
  let bytes = 8 + redisKey.length;
  for (const name of perEntry) bytes += sizeOf(args[name] as Argument);
  for (const key of effects.keys) bytes += sizeOf(key);
  for (const word of effects.words) bytes += sizeOf(word);
  return bytes;
}

function sizeOf(value: Argument): number {
  if (typeof value === 'number') return 8;
  return 8 + (value.length > LONGEST_GUESSED ? Buffer.byteLength(value) : value.length);
}
