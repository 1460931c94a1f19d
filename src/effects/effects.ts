/** `tx` as callers see it: Redis' write commands, named and argued as in ioredis, and conditions. */
import type { SeenSet } from '../seen/set.js';

/** A key, without the connection's `keyPrefix`: ioredis adds that, as it does everywhere. */
export type EffectKey = string | Buffer;
/** What is written. Numbers are written as JavaScript prints them; NaN and the infinities are refused. */
export type EffectValue = string | Buffer | number;
/** A 64-bit integer: a safe integer, a bigint, or decimal digits. */
export type EffectInteger = number | bigint | string;
/** A decimal number within ±1e308. */
export type EffectFloat = number | string;
/** Any finite decimal number, and `'inf'`, `'+inf'`, `'-inf'` or an infinite number. */
export type EffectScore = number | string;
/** A score; with `(` before it the bound itself is left out. */
export type ScoreBound = number | string;

type Many<T> = [T | readonly T[], ...(T | readonly T[])[]];
type Members = Many<EffectValue>;
type ZaddFlag = 'NX' | 'XX' | 'GT' | 'LT' | 'CH';
type GeoaddFlag = 'NX' | 'XX' | 'CH';

/**
 * Writes that commit together with the completed record: all of them and the record, or none. Nothing is sent until
 * the handler returns. Then every condition and every write is checked against the data, each write on what the earlier
 * ones leave; only if all can be made, they are.
 *
 * Every method returns `tx`. What a command cannot mean is refused by the call itself:
 * - `InvalidOptionError`: a wrong argument, too many of them, or a sequence that cannot be checked (docs/effects.md)
 * - `InvalidKeyError`: no key, or the key of a record of the library
 * - `CrossSlotError`: in Cluster, a key, or a set, of another slot than the record's
 * - `TxClosedError`: the handler has settled
 * - `StoreUnavailableError`: the handler runs without dedup (`onStoreFailure: 'proceed'`)
 *
 * @example
 * ```ts
 * await dedup.once(order.id, ({ tx }) => {
 *   tx.hincrby('stock', order.sku, -order.count).xadd('shipments', '*', 'order', order.id);
 * });
 * ```
 */
export interface Effects {
  /** Conditions that must hold when the writes are made. */
  readonly require: Conditions;

  set(key: EffectKey, value: EffectValue): this;
  set(key: EffectKey, value: EffectValue, keep: 'KEEPTTL'): this;
  /** EX and EXAT in seconds, PX and PXAT in ms; EXAT and PXAT since 1970. */
  set(key: EffectKey, value: EffectValue, unit: 'EX' | 'PX' | 'EXAT' | 'PXAT', time: number | string): this;
  setrange(key: EffectKey, offset: number | string, value: EffectValue): this;
  append(key: EffectKey, value: EffectValue): this;
  setbit(key: EffectKey, offset: number | string, bit: 0 | 1 | '0' | '1'): this;
  /** As `unlink`: the memory is freed in the background. */
  del(...keys: Many<EffectKey>): this;
  unlink(...keys: Many<EffectKey>): this;
  incr(key: EffectKey): this;
  incrby(key: EffectKey, increment: EffectInteger): this;
  decr(key: EffectKey): this;
  decrby(key: EffectKey, decrement: EffectInteger): this;
  incrbyfloat(key: EffectKey, increment: EffectFloat): this;

  hset(key: EffectKey, ...fieldsAndValues: [EffectValue, EffectValue, ...EffectValue[]]): this;
  hset(key: EffectKey, fields: Readonly<Record<string, EffectValue>> | ReadonlyMap<EffectValue, EffectValue>): this;
  hsetnx(key: EffectKey, field: EffectValue, value: EffectValue): this;
  hdel(key: EffectKey, ...fields: Members): this;
  hincrby(key: EffectKey, field: EffectValue, increment: EffectInteger): this;
  hincrbyfloat(key: EffectKey, field: EffectValue, increment: EffectFloat): this;

  sadd(key: EffectKey, ...members: Members): this;
  srem(key: EffectKey, ...members: Members): this;

  /** Flags (`NX`, `XX`, `GT`, `LT`, `CH`), then scores and members in turn. */
  zadd(key: EffectKey, ...flagsScoresMembers: [ZaddFlag | EffectScore, EffectValue, ...EffectValue[]]): this;
  zincrby(key: EffectKey, increment: EffectScore, member: EffectValue): this;
  zrem(key: EffectKey, ...members: Members): this;
  zremrangebyscore(key: EffectKey, min: ScoreBound, max: ScoreBound): this;
  zremrangebyrank(key: EffectKey, start: EffectInteger, stop: EffectInteger): this;
  /** Flags (`NX`, `XX`, `CH`), then longitudes, latitudes and members in turn. */
  geoadd(
    key: EffectKey,
    ...flagsPlaces: [GeoaddFlag | EffectFloat, GeoaddFlag | EffectFloat, EffectValue, ...EffectValue[]]
  ): this;

  lpush(key: EffectKey, ...elements: Members): this;
  rpush(key: EffectKey, ...elements: Members): this;
  lpushx(key: EffectKey, ...elements: Members): this;
  rpushx(key: EffectKey, ...elements: Members): this;
  ltrim(key: EffectKey, start: EffectInteger, stop: EffectInteger): this;
  lrem(key: EffectKey, count: EffectInteger, element: EffectValue): this;
  lset(key: EffectKey, index: EffectInteger, element: EffectValue): this;

  /** In seconds from now; 0 and less removes the key. */
  expire(key: EffectKey, seconds: number | string): this;
  /** In ms from now; 0 and less removes the key. */
  pexpire(key: EffectKey, ms: number | string): this;
  /** In seconds since 1970; a time that is past removes the key. */
  expireat(key: EffectKey, seconds: number | string): this;
  /** In ms since 1970; a time that is past removes the key. */
  pexpireat(key: EffectKey, ms: number | string): this;
  persist(key: EffectKey): this;

  /** `[NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] * | id`, then fields and values in turn. */
  xadd(key: EffectKey, ...optionsIdFieldsValues: [EffectValue, EffectValue, EffectValue, ...EffectValue[]]): this;
  xdel(key: EffectKey, ...ids: Many<string>): this;
  xtrim(key: EffectKey, strategy: 'MAXLEN' | 'MINID', ...threshold: [number | string, ...(number | string)[]]): this;
  /** A group that is not there is no error: nothing is acknowledged. */
  xack(key: EffectKey, group: EffectValue, ...ids: Many<string>): this;

  pfadd(key: EffectKey, ...elements: (EffectValue | readonly EffectValue[])[]): this;
  /** Marks an id in a set of this connection, where it is not marked yet. In Cluster both need the same `slot`. */
  seen(set: SeenSet, id: string): this;

  /** Reaches its subscribers only if all is committed. A crash in that instant cannot take it back, nor send it again. */
  publish(channel: EffectValue, message: EffectValue): this;
}

/**
 * Conditions on the data as they are when the writes are made, before any of them. One that does not hold is a
 * `ConditionFailedError`, and nothing is applied. With `conflictRetries` the handler runs again. A key of another type is
 * a condition that does not hold.
 */
export interface Conditions {
  /** The string under the key is this, byte for byte. */
  equals(key: EffectKey, value: EffectValue): Effects;
  /** The field of the hash is this, byte for byte. */
  hashEquals(key: EffectKey, field: EffectValue, value: EffectValue): Effects;
  exists(key: EffectKey): Effects;
  absent(key: EffectKey): Effects;
  /** The field of the hash is this integer; 0 where there is none. The commit raises it by one. */
  version(key: EffectKey, field: EffectValue, expected: number | bigint | string): Effects;
}
