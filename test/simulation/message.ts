/** What a caller sends, and what it would mean if it were made. */
import { effectsOf, Recorder } from '../../src/effects/recorder.js';
import type { Effects } from '../../src/index.js';
import type { ExchangeError } from '../../src/redis/exchange.js';
import {
  type EffectList,
  NO_EFFECTS,
  type ScriptArgs,
  type ScriptName,
  type ScriptReply,
} from '../../src/redis/scripts.js';
import { RECORDS } from './transport.js';
import type { Data } from './world.js';

type Args<N extends ScriptName> = ScriptArgs<N>;

export type AnyArgs = { readonly [N in Sent]: { readonly name: N; readonly args: Args<N> } }[Sent];
type Sent = 'claim' | 'renew' | 'commit' | 'settle' | 'apply' | 'forget' | 'inspect';
export type Reply = ScriptReply<Sent>;

export interface Message {
  readonly key: number;
  readonly call: AnyArgs;
  readonly writing: Writing;
  /** Its caller is told; an error is what `Scripts` says where there is no answer. */
  answer(reply: Reply | ExchangeError): void;
}

/** What the writes and conditions of a message come to. */
export interface Writing {
  readonly effects: EffectList;
  /** Of each condition its number among the effects, and whether it holds. */
  readonly conditions: readonly { readonly number: number; readonly holds: (data: Data) => boolean }[];
  /** The number of the effect that can never be made. */
  readonly impossible: number | undefined;
  /** How the data change: what is counted, what is logged, and the version. */
  readonly adds: { readonly count: number; readonly entry: string | undefined; readonly version: number };
}

export const NO_WRITING: Writing = {
  effects: NO_EFFECTS,
  conditions: [],
  impossible: undefined,
  adds: { count: 0, entry: undefined, version: 0 },
};

export const FLAG = 'on';

/** The keys of the data beside a record. */
export function dataKeys(key: number) {
  const named = (name: string) => `data:${key}:${name}`;
  return { count: named('count'), log: named('log'), hash: named('hash'), flag: named('flag'), text: named('text') };
}

/**
 * Writes and conditions of a kind that the dice choose.
 *
 * @param entry what is logged: names the attempt
 * @param data as the caller has read them
 */
export function drawWriting(key: number, entry: string, data: Data, below: (count: number) => number): Writing {
  const keys = dataKeys(key);
  const terms = { namespace: RECORDS.slice(0, -1), keyPrefix: '', isCluster: false, connection: {} };
  const recorder = new Recorder({ key: `${key}`, redisKey: RECORDS + key, ...terms });
  const tx = effectsOf(recorder) as Effects;
  const conditions: Writing['conditions'][number][] = [];
  const adds = { count: 0, entry: undefined as string | undefined, version: 0 };
  let impossible: number | undefined;
  let number = 0;
  const require = (holds: (data: Data) => boolean, state: (require: Effects['require']) => unknown) => {
    number += 1;
    conditions.push({ number, holds });
    state(tx.require);
  };
  const write = (make: () => unknown) => {
    number += 1;
    make();
  };
  const count = () => {
    adds.count += 1;
    write(() => tx.incr(keys.count));
  };
  const log = () => {
    adds.entry = entry;
    write(() => tx.rpush(keys.log, entry));
  };
  const fail = () => {
    impossible = number + 1;
    write(() => (below(2) === 0 ? tx.incr(keys.text) : tx.lpush(keys.text, entry)));
  };
  const { version } = data;
  switch (below(9)) {
    case 0:
      return NO_WRITING;
    case 1:
      log();
      break;
    case 2:
      count();
      log();
      require((now) => now.version === version, (it) => it.version(keys.hash, 'version', version));
      adds.version += 1;
      break;
    case 3:
      require((now) => !now.flag, (it) => it.absent(keys.flag));
      log();
      count();
      break;
    case 4:
      count();
      require((now) => now.flag, (it) => it.exists(keys.flag));
      log();
      break;
    case 5:
      require((now) => now.version === version, (it) => it.hashEquals(keys.hash, 'version', `${version}`));
      require((now) => now.flag === data.flag, (it) => (data.flag ? it.equals(keys.flag, FLAG) : it.absent(keys.flag)));
      count();
      log();
      break;
    case 6:
      count();
      log();
      fail();
      break;
    case 7:
      if (below(2) === 0) count();
      fail();
      if (number > 1) log();
      break;
    default:
      count();
      log();
  }
  return { effects: recorder.effects, conditions, impossible, adds };
}
