/** The words for what a call came to, and what a handler is given. */
import type { Effects } from './effects/effects.js';
import type { Reply } from './effects/replies.js';

/** Runs once per key. What it returns is stored and given to every caller. */
export type Handler<T> = (context: OnceContext) => T | PromiseLike<T>;

/** What a handler is told of its attempt. */
export interface OnceContext {
  /** The dedup key, as the caller gave it. */
  readonly key: string;
  /** 1, 2, …: more than 1 means that an earlier attempt did not complete. */
  readonly attempt: number;
  /** Strictly rises with every attempt at this key: hand it to stores that can refuse older ones. */
  readonly fence: number;
  /** Aborts when the lease is lost, `maxRunTime` has passed, the caller aborts, or the Dedup closes. */
  readonly signal: AbortSignal;
  /** Writes that commit together with the completed record: all of them and the record, or none. */
  readonly tx: Effects;
  /**
   * A key for a call to another service, the same in every attempt at this key and another for every step. 43 characters
   * of base64url.
   *
   * @throws InvalidOptionError where the step is no non-empty string
   */
  idempotencyKey(step: string): string;
}

/** What a call came to. */
export interface Outcome<T> {
  /**
   * `'executed'`: this call ran the handler; `'replayed'`: another had; `'bypassed'`: run without dedup, since Redis was
   * not reached and `onStoreFailure` is `'proceed'`.
   */
  readonly status: 'executed' | 'replayed' | 'bypassed';
  readonly value: T;
  /** The attempt that completed the key. */
  readonly attempt: number;
  /** How long the call waited for another attempt, in ms. */
  readonly waitedMs: number;
}

/**
 * What an `apply` came to.
 *
 * @typeParam R the replies, by the caller's own claim: they are not checked
 */
export interface Applied<R extends Reply[] = Reply[]> {
  /** `'executed'`: this call made the writes; `'replayed'`: another had. */
  readonly status: 'executed' | 'replayed';
  /** The commands' replies, in their order. Integers beyond 2^53 are inexact. */
  readonly replies: R;
  /** The attempt that completed the key: more than 1 means that an earlier one was rejected. */
  readonly attempt: number;
}

/** One of the calls of an `applyMany`. */
export interface ApplyEntry {
  readonly key: string;
  /** Called once, before anything is sent. */
  readonly write: (tx: Effects) => void;
  readonly fingerprint?: unknown;
  readonly slot?: string | undefined;
}

/** What one entry of an `applyMany` came to. */
export type ApplyOutcome = { readonly key: string } & (
  | Applied
  | { readonly status: 'failed'; readonly error: unknown }
);

/** How the items of an `onceMany` become calls. */
export interface BatchSpec<I, T> {
  readonly key: (item: I) => string;
  readonly handler: (item: I, context: OnceContext) => T | PromiseLike<T>;
  readonly fingerprint?: ((item: I) => unknown) | undefined;
  readonly slot?: ((item: I) => string) | undefined;
  /** How many handlers run at a time. Default: all of them. */
  readonly concurrency?: number | undefined;
}

/** What one item of an `onceMany` came to. `key` is empty where `spec.key` itself failed. */
export type BatchOutcome<I, T> = { readonly item: I; readonly key: string } & (
  | Outcome<T>
  | { readonly status: 'failed'; readonly error: unknown }
);

/** How a key stands. */
export interface RecordInfo {
  readonly key: string;
  readonly redisKey: string;
  readonly state: 'in_progress' | 'completed' | 'failed' | 'released' | 'broken';
  /** The last attempt; 0 where no handler has begun. */
  readonly attempt: number;
  readonly fence: number;
  /** In progress only; 0 when it has run out. */
  readonly leaseRemainingMs: number | null;
  /** Until Redis drops the record; `Infinity` for a broken one, which stays. */
  readonly expiresInMs: number;
  /** Completed only. */
  readonly resultBytes: number | null;
  /** 128 bits of the fingerprint's SHA-256, in hex. */
  readonly fingerprint: string | null;
}
