/** The options, as callers give them: names, defaults, meaning. */
import type { Codec, JsonCodec } from './codec.js';
import type { Duration } from './duration.js';
import type { SeenSet } from './seen/set.js';

/** What a throwing handler leaves: `'release'`, the next call runs it again; `'store'`, the failure is kept and replayed. */
export type ErrorPolicy = 'release' | 'store';

/** Retentions that fit most messages. */
export const RETENTION = { async: '24h', financial: '30d' } as const satisfies Record<string, Duration>;

/**
 * What one call, or a view made by `with`, may set.
 *
 * @typeParam C the codec; `undefined` leaves the one of the view around it
 */
export interface OnceOptions<C extends Codec | undefined = undefined> {
  /**
   * The request or payload that the key stands for: any JSON value, hashed in canonical form. The same key with another
   * fingerprint is a `FingerprintMismatchError`.
   */
  fingerprint?: unknown;
  /**
   * A Cluster hash tag: the record lives in the slot of the data that the handler writes. Another slot is another
   * record. From the program, never from a request.
   */
  slot?: string | undefined;
  /** Before the handler has started, its abort ends the call; while it runs, `context.signal` aborts with its reason. */
  signal?: AbortSignal | undefined;
  /** How long a completed or failed record lives, from its completion. 1 s to 1 year. Default `'24h'`. */
  retention?: Duration | undefined;
  /** How long a claim holds without a heartbeat; renewed at a third of it. 100 ms to 1 h. Default `'30s'`. */
  lease?: Duration | undefined;
  /** `'wait'` (default) for the running attempt's result, or `'throw'` `InProgressError` at once. */
  onInProgress?: 'wait' | 'throw' | undefined;
  /** How long to wait for another attempt, then `InProgressError`. Default: the lease and 5 s. */
  waitTimeout?: Duration | undefined;
  /** What a throwing handler leaves. Default `'release'`. */
  onError?: ErrorPolicy | ((error: unknown) => ErrorPolicy) | undefined;
  /** After that many attempts that crashed, lost their lease or were released, the key fails for good. Default: no limit. */
  maxAttempts?: number | undefined;
  /**
   * How often a call whose `tx.require` did not hold runs its handler again, under the same claim. Conflicts never count
   * as attempts. Default 0.
   */
  conflictRetries?: number | undefined;
  /** After that long the lease is renewed no more and `signal` aborts. 100 ms to 7 d. Default `'1h'`. */
  maxRunTime?: Duration | undefined;
  /** How results become bytes. Default: JSON. */
  codec?: C | undefined;
  /**
   * `'full'` (default), or a set on the same connection: a completed call leaves only a mark in it. Its result is not kept
   * and callers get `undefined`; it takes no `fingerprint`, and `retention` holds for failures alone. In Cluster call and
   * set need the same `slot`.
   */
  record?: 'full' | SeenSet | undefined;
}

/** The same for a call whose record is a mark in a set: its result is not kept. */
export type MarkedOptions = Omit<OnceOptions<Codec | undefined>, 'record' | 'fingerprint'> & {
  record: SeenSet;
  fingerprint?: undefined;
};

/** What an `apply` may set. */
export type ApplyOptions = Pick<
  OnceOptions,
  'fingerprint' | 'slot' | 'signal' | 'retention' | 'onInProgress' | 'waitTimeout' | 'maxAttempts' | 'record'
>;

/** What a Dedup is made with. */
export interface DedupOptions<C extends Codec = JsonCodec>
  extends Omit<OnceOptions<C>, 'fingerprint' | 'slot' | 'signal'> {
  /** First part of every Redis key. Default `'once'`. */
  namespace?: string | undefined;
  /** How waiters are woken early: `'pubsub'` (default) or by polls alone. */
  hints?: 'pubsub' | 'poll' | undefined;
  /** `'proceed'` runs the handler without dedup when Redis cannot be reached and nothing was claimed. Default `'throw'`. */
  onStoreFailure?: 'throw' | 'proceed' | undefined;
  /** Deadline of every single Redis exchange. 10 ms to 10 m. Default `'5s'`. */
  redisTimeout?: Duration | undefined;
  /** A longer encoded result is a `ResultTooLargeError`. Default 1 MiB, at most 256 MiB. */
  maxResultBytes?: number | undefined;
  /** A longer key is an `InvalidKeyError`. Default 512. */
  maxKeyBytes?: number | undefined;
  /**
   * A result is given out when it is confirmed to survive, else `NotDurableError`: also that of a replay. Not with `record: set`.
   * Default: none, the primary's answer is enough.
   */
  durability?: DurabilityOption | undefined;
  /** Accept a server that may evict records. Default `false`. */
  allowEviction?: boolean | undefined;
}

/** What must be confirmed of a completed record. At least one of `replicas` and `aof`. */
export interface DurabilityOption {
  /** How many replicas have it (WAIT); with `aof`, on their disks. Only where every replica that may be promoted confirms is a result safe. */
  replicas?: number | undefined;
  /** The primary has it in its append-only file, on its disk (WAITAOF): Redis 7.2 and later. */
  aof?: boolean | undefined;
  /** How long to wait for it, then `NotDurableError`. 1 ms to 10 m. */
  timeout: Duration;
}
