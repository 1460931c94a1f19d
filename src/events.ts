/** What a Dedup tells those who listen. */
import { createHash } from 'node:crypto';

/** What every event about a key carries. */
export interface KeyEvent {
  readonly namespace: string;
  /** 64 bits of the SHA-256 of the Redis key, in hex: tells keys apart without naming them. */
  readonly keyHash: string;
  /** The dedup key itself; of a set of seen ids the id, or its name. Not enumerable, so that a logged event does not hold it. */
  readonly key: string;
}

/** What each event tells. Of an attempt `ranMs` is the time from its claim to the event, 0 where it had none. */
export interface DedupEvents {
  /** A handler ran, or an `apply` made its writes, and the result is stored. */
  executed: KeyEvent & { readonly attempt: number; readonly waitedMs: number; readonly ranMs: number };
  /** A call got a stored result. */
  replayed: KeyEvent & { readonly attempt: number; readonly waitedMs: number };
  /** A call waited for another attempt; how it ended is told by another event or by its error. */
  waited: KeyEvent & { readonly waitedMs: number };
  /** An attempt ended without completing; the next call runs the handler again, or makes the writes. */
  released: KeyEvent & { readonly attempt: number; readonly ranMs: number };
  /** A failure was stored: by `onError`, or because `maxAttempts` was reached. */
  failed: KeyEvent & { readonly attempt: number; readonly ranMs: number };
  /** This process took a key from a holder whose lease had run out. */
  takenOver: KeyEvent & { readonly attempt: number };
  /** A running attempt's lease was lost: another took the key, its heartbeat had no answer, or it ran too long. */
  leaseLost: KeyEvent & { readonly attempt: number; readonly ranMs: number; readonly reason: LeaseLostReason };
  /** An exchange with Redis failed. `code` is Redis' error code, or null where there was no answer. */
  storeError: KeyEvent & { readonly operation: string; readonly code: string | null };
  /** A retention that was given is shorter than the time, in ms, in which a copy may still come. Told once a processor. */
  shortRetention: KeyEvent & { readonly retentionMs: number; readonly neededMs: number };
  /**
   * After a reconnect: the server lacks writes that were seen before (`'behind'`), or it was started or promoted meanwhile, and
   * that it lacks none cannot be told (`'unproven'`). What was acknowledged may be gone, record and effects together. Not told in
   * Cluster, nor with `allowEviction`, where the server is not looked at.
   */
  historyLost: { readonly namespace: string; readonly loss: 'behind' | 'unproven' };
  /** The server may evict records, or it cannot be told (`policy` null). */
  unsafeServer: { readonly namespace: string; readonly policy: string | null };
}

export type LeaseLostReason = 'taken_over' | 'no_heartbeat' | 'max_run_time';

export const DEDUP_EVENTS: { [E in keyof DedupEvents]: true } = {
  executed: true,
  replayed: true,
  waited: true,
  released: true,
  failed: true,
  takenOver: true,
  leaseLost: true,
  storeError: true,
  shortRetention: true,
  unsafeServer: true,
  historyLost: true,
};

/** A key as events tell it. */
export interface EventSubject {
  readonly namespace: string;
  readonly key: string;
  readonly redisKey: string;
}

/** An event about a key. */
export function aboutKey<D extends object>({ namespace, key, redisKey }: EventSubject, details: D): KeyEvent & D {
  const event = { namespace, keyHash: keyHashOf(redisKey), ...details };
  return Object.defineProperty(event, 'key', { value: key }) as KeyEvent & D;
}

export function keyHashOf(redisKey: string): string {
  return createHash('sha256').update(redisKey).digest('hex').slice(0, 16);
}
