/** Sets of seen ids, as callers see them. What a set does is told in work.ts. */
import type { Duration } from '../duration.js';
import type { Mark } from './layout.js';

/** What a set is made with. All who use a set must give the same. */
export interface SeenOptions {
  /** How long an id is known after it was added. 1 s to 1 year. Default `'24h'`. */
  window?: Duration | undefined;
  /** How many ids a window has at most; with more, the set takes more memory. Default 1,000,000, at most 10^10. */
  capacity?: number | undefined;
  /** Ids are forgotten at most `window / buckets` late. 1 to 60, each of 100 ms at least. Default 2. */
  buckets?: number | undefined;
  /** A Cluster hash tag that holds the whole set: needed for `tx.seen` and `record`. Another slot is another set. */
  slot?: string | undefined;
}

/** What a set does for its callers, and for the calls that mark ids in it. */
export interface SeenWork {
  /** The connection that it is on, for comparison. */
  readonly connection: object;
  readonly windowMs: number;
  add(id: string): Promise<boolean>;
  addMany(ids: readonly string[]): Promise<boolean[]>;
  has(id: string): Promise<boolean>;
  /** @throws InvalidKeyError */
  markOf(id: string): Mark;
  /** The mark of a call's record. */
  markOfRecord(call: { readonly key: string; readonly redisKey: string }): Mark;
  /** @throws InvalidOptionError where others use the set with other options; ExchangeError, `unsent`; UnsafeServerError */
  agree(): Promise<void>;
}

let reveal: (set: SeenSet) => SeenWork;
let make: (name: string, work: SeenWork) => SeenSet;

/**
 * A set of ids that were seen within a window of time, in some 10 bytes each. Made by `dedup.seen`.
 *
 * It tells the first time from later ones and keeps nothing else: no result, and nothing in progress. So what is done after
 * `add` is done **at most once**: a process that dies in between has lost it. For "at least once, effect once", use `once`
 * or `apply`, and `tx.seen` or the option `record`.
 *
 * @example
 * ```ts
 * const events = dedup.seen('events', { window: '24h', capacity: 10_000_000 });
 * if (await events.add(message.id)) await handle();
 * ```
 */
export class SeenSet {
  readonly name: string;
  readonly #work: SeenWork;

  static {
    reveal = (set) => set.#work;
    make = (name, work) => new SeenSet(name, work);
  }

  private constructor(name: string, work: SeenWork) {
    this.name = name;
    this.#work = work;
  }

  /**
   * Marks an id. Calls of one tick share their round trips.
   *
   * @returns true the first time within the window, false after
   * @throws OutcomeUnknownError where the answer was lost: the id is, or may be, marked, and whether by this call is not known
   * @throws StoreUnavailableError, UnsafeServerError: surely nothing was marked
   * @throws InvalidKeyError for an id that is no string, empty, or longer than `maxKeyBytes`; ClosedError
   * @throws InvalidOptionError where others use the set with other options
   */
  add(id: string): Promise<boolean> {
    return this.#work.add(id);
  }

  /**
   * Marks many ids, in few round trips. An id that is there twice is new once.
   *
   * @returns for each id, in their order, what `add` would
   * @throws OutcomeUnknownError where an answer was lost: some or all of the ids are, or may be, marked
   * @throws else as `add`, and then nothing was marked
   */
  addMany(ids: readonly string[]): Promise<boolean[]> {
    return this.#work.addMany(ids);
  }

  /**
   * Is the id marked? Changes nothing.
   *
   * @throws as `add`, but never OutcomeUnknownError
   */
  has(id: string): Promise<boolean> {
    return this.#work.has(id);
  }
}

export function seenSetOf(name: string, work: SeenWork): SeenSet {
  return make(name, work);
}

/** What is behind a set; nothing where the value is none. */
export function workOf(value: unknown): SeenWork | undefined {
  return value instanceof SeenSet ? reveal(value) : undefined;
}
