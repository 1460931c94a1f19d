/** What the end of a call means for the message that it was made for, wherever that was delivered from. */
import { type DedupErrorCode, isDedupError } from '../errors.js';
import type { Handler, OnceContext } from '../outcome.js';
import { isEndedBy } from '../signals.js';

/**
 * `waits`: it says nothing against the message, which may be looked at again later; `unavailable`: nor against any other,
 * the server is away or unfit; `final`: whatever is tried, the key answers the same; `failed`: this time it failed.
 */
export type Meaning = 'waits' | 'unavailable' | 'final' | 'failed';

const WAITING_CODES = ['IN_PROGRESS', 'LEASE_LOST', 'OUTCOME_UNKNOWN', 'CLOSED'] as const;
const UNAVAILABLE_CODES = ['STORE_UNAVAILABLE', 'UNSAFE_SERVER'] as const;
const FINAL_CODES = ['STORED_FAILURE', 'ATTEMPTS_EXHAUSTED', 'FINGERPRINT_MISMATCH', 'BROKEN'] as const;

/** One message's call. */
export class Delivery {
  #thrown: { readonly error: unknown } | undefined;
  #isRunning = false;

  /** The handler, watched: what it throws is its own, unless its signal ended it. */
  watch<T>(handler: Handler<T>): (context: OnceContext) => Promise<T> {
    return async (context) => {
      this.#isRunning = true;
      try {
        return await handler(context);
      } catch (error) {
        if (isEndedBy(context.signal, error)) throw context.signal.reason;
        this.#thrown = { error };
        throw error;
      } finally {
        this.#isRunning = false;
      }
    };
  }

  /** @param error what the call rejected with */
  meaningOf(error: unknown): Meaning {
    // One that ran beyond `maxRunTime` is waited for no more: it failed, or it would hang again and again.
    const isOverrun = this.#isRunning && isDedupError(error, 'LEASE_LOST');
    if (isOverrun || this.#thrown?.error === error) return 'failed';
    const isOneOf = (codes: readonly DedupErrorCode[]) => codes.some((code) => isDedupError(error, code));
    if (isOneOf(WAITING_CODES)) return 'waits';
    if (isOneOf(UNAVAILABLE_CODES)) return 'unavailable';
    return isOneOf(FINAL_CODES) ? 'final' : 'failed';
  }
}
