/** Dedup: options in, parts wired. What a call does is told in call/once.ts. */
import { runApply } from './call/apply.js';
import { Limit } from './call/limit.js';
import { checkBatch, checkEntries, outcomeOf } from './call/many.js';
import { runOnce } from './call/once.js';
import { Parts } from './call/parts.js';
import { checkStore, forgetRecord, inspectRecord } from './call/records.js';
import { type Codec, type JsonCodec, type NoResult, noResult, type Stored } from './codec.js';
import type { Duration } from './duration.js';
import type { Effects } from './effects/effects.js';
import type { Reply } from './effects/replies.js';
import { InvalidOptionError } from './errors.js';
import type { DedupEvents } from './events.js';
import { fingerprintOf } from './fingerprint.js';
import { INSIDE } from './inside.js';
import { checkKey, escapePart, recordKey } from './key.js';
import type { ApplyOptions, DedupOptions, MarkedOptions, OnceOptions } from './options.js';
import type {
  Applied,
  ApplyEntry,
  ApplyOutcome,
  BatchOutcome,
  BatchSpec,
  Handler,
  Outcome,
  RecordInfo,
} from './outcome.js';
import type { ServerReport } from './redis/check.js';
import type { RedisConnection } from './redis/ioredis.js';
import { duration, flag, hashTag } from './rules.js';
import { type SeenOptions, type SeenSet, workOf } from './seen/set.js';
import { openSet, recordMarkOf } from './seen/work.js';
import {
  type CallSettings,
  checkFunction,
  type DedupSettings,
  readApplyOptions,
  readDedupOptions,
  readMethodOptions,
  readOnceOptions,
} from './settings.js';

/** The codec of a call or view: its own, or else the one around it. */
type CodecOf<K extends Codec | undefined, C extends Codec> = K extends Codec ? K : C;

/** What a view adds to the Dedup that it belongs to. */
class View {
  constructor(
    readonly parts: Parts,
    readonly prefix: string,
    readonly settings: CallSettings,
    readonly isRoot: boolean,
  ) {}
}

const DEFAULT_DRAIN_MS = 30_000;
const CLOSE_RULES = { drain: duration(0, 24 * 3_600_000) };
const INSPECT_RULES = { slot: hashTag };
const FORGET_RULES = { slot: hashTag, force: flag };

/**
 * Runs handlers once per key, on a connection of the caller's.
 *
 * @typeParam C the codec of results; it decides what callers get of a handler's type
 * @example
 * ```ts
 * const dedup = new Dedup(new Redis(), { namespace: 'orders', retention: '7d' });
 * const receipt = await dedup.once(message.id, () => charge(message));
 * ```
 */
export class Dedup<out C extends Codec = JsonCodec> {
  readonly #view: View;

  /**
   * @param redis an ioredis 5 or 6 `Redis` or `Cluster`; the caller owns it and closes it
   * @throws InvalidOptionError naming the option that is wrong
   */
  constructor(redis: RedisConnection, options?: DedupOptions<C>) {
    if ((redis as unknown) instanceof View) {
      this.#view = redis as unknown as View;
      return;
    }
    const { dedup, call } = readDedupOptions(options);
    this.#view = new View(new Parts(redis, dedup), escapePart(dedup.namespace), call, true);
  }

  /**
   * Runs the handler, once per key; every other caller gets its stored result.
   *
   * @returns the decoded form of what was stored, the same for the first caller and for every replay
   * @throws the handler's own error, untouched, to the call that ran it
   * @throws InProgressError after `waitTimeout`, or at once with `onInProgress: 'throw'`
   * @throws FingerprintMismatchError, StoredFailureError, AttemptsExhaustedError, BrokenRecordError for what the key stands at
   * @throws ConditionFailedError, EffectRejectedError for what was written to `tx`; LeaseLostError, ResultTooLargeError, CodecError: nothing was applied; CodecError also for a stored result that cannot be decoded
   * @throws InvalidKeyError, InvalidOptionError, ClosedError, UnsafeServerError: nothing was sent
   * @throws StoreUnavailableError: surely nothing was applied; OutcomeUnknownError: a later call settles it
   * @throws the reason of `signal`, where it aborts before the handler has started
   */
  once(key: string, handler: Handler<unknown>, options: MarkedOptions): Promise<undefined>;
  once<T, K extends Codec | undefined = undefined>(
    key: string,
    handler: Handler<T>,
    options?: OnceOptions<K>,
  ): Promise<Stored<T, CodecOf<K, C>>>;
  async once(key: string, handler: Handler<unknown>, options?: OnceOptions<Codec | undefined>): Promise<unknown> {
    return (await this.#run(key, handler, readOnceOptions(options, this.#view.settings))).value;
  }

  /** As `once`, and tells how the call came to its value. */
  run(key: string, handler: Handler<unknown>, options: MarkedOptions): Promise<Outcome<undefined>>;
  run<T, K extends Codec | undefined = undefined>(
    key: string,
    handler: Handler<T>,
    options?: OnceOptions<K>,
  ): Promise<Outcome<Stored<T, CodecOf<K, C>>>>;
  async run(
    key: string,
    handler: Handler<unknown>,
    options?: OnceOptions<Codec | undefined>,
  ): Promise<Outcome<unknown>> {
    return this.#run(key, handler, readOnceOptions(options, this.#view.settings));
  }

  /**
   * Runs many calls at once, each as `once` would: as few round trips as the number of keys allows, since the calls of one
   * tick share them. One item's failure is no other's, and items of the same key run once.
   *
   * @param spec `concurrency` bounds the handlers that run at a time; all items are claimed at once
   * @returns one outcome an item, in their order; a call that failed is `status: 'failed'` with its error
   * @throws InvalidOptionError for options or a spec that are wrong
   * @example
   * ```ts
   * const outcomes = await dedup.onceMany(messages, { key: (message) => message.id, handler: handle });
   * const failed = outcomes.filter(({ status }) => status === 'failed');
   * ```
   */
  onceMany<I>(
    items: readonly I[],
    spec: BatchSpec<I, unknown>,
    options: MarkedOptions,
  ): Promise<BatchOutcome<I, undefined>[]>;
  onceMany<I, T, K extends Codec | undefined = undefined>(
    items: readonly I[],
    spec: BatchSpec<I, T>,
    options?: OnceOptions<K>,
  ): Promise<BatchOutcome<I, Stored<T, CodecOf<K, C>>>[]>;
  async onceMany<I>(
    items: readonly I[],
    spec: BatchSpec<I, unknown>,
    options?: OnceOptions<Codec | undefined>,
  ): Promise<BatchOutcome<I, unknown>[]> {
    const settings = readOnceOptions(options, this.#view.settings);
    const limit = new Limit(checkBatch(items, spec));
    const run = (key: string, handler: Handler<unknown>, own: OnceOptions) =>
      this.#run(key, handler, readOnceOptions(own, settings));
    return Promise.all(items.map((item) => outcomeOf(item, spec, limit, run)));
  }

  /**
   * Makes writes that are known up front, once per key: seen-check, checks, writes and record in one round trip.
   *
   * @param write adds the writes to `tx`, at once
   * @typeParam R the commands' replies, by the caller's own claim
   * @returns the replies, those of the call that made the writes; stored, and the same for every replay
   * @throws ConditionFailedError, EffectRejectedError: nothing was applied, and the next call tries again
   * @throws InProgressError, FingerprintMismatchError, AttemptsExhaustedError, BrokenRecordError for what the key stands at
   * @throws InvalidOptionError, also for a key that `once` has used; InvalidKeyError, CrossSlotError, ClosedError, UnsafeServerError: nothing was sent
   * @throws StoreUnavailableError: surely nothing was applied; OutcomeUnknownError: a later call settles it
   * @throws the reason of `signal`, where it aborts before anything is sent; what `write` throws
   * @example
   * ```ts
   * const { replies } = await dedup.apply(payment.id, (tx) => tx.incrby('total', payment.cents));
   * ```
   */
  async apply<R extends Reply[] = Reply[]>(
    key: string,
    write: (tx: Effects) => void,
    options?: ApplyOptions,
  ): Promise<Applied<R>> {
    return (await this.#apply(key, write, readApplyOptions(options, this.#view.settings))) as Applied<R>;
  }

  /**
   * Many `apply` calls at once, in as few round trips as their number allows. One entry's failure is no other's, and
   * entries of the same key are applied once.
   *
   * @returns one outcome an entry, in their order; a call that failed is `status: 'failed'` with its error
   * @throws InvalidOptionError for options or entries that are wrong
   */
  async applyMany(entries: readonly ApplyEntry[], options?: ApplyOptions): Promise<ApplyOutcome[]> {
    const settings = readApplyOptions(options, this.#view.settings);
    checkEntries(entries);
    return Promise.all(
      entries.map(async ({ key, write, fingerprint, slot }) => {
        try {
          return { key, ...(await this.#apply(key, write, readApplyOptions({ fingerprint, slot }, settings))) };
        } catch (error) {
          return { key, status: 'failed' as const, error };
        }
      }),
    );
  }

  /**
   * A set of ids that were seen within a window of time, in some 10 bytes each. It belongs to this view's namespace and
   * scopes, and to its slot where the options name none. All who use it must give the same options; that is compared when
   * it is first used.
   *
   * @throws InvalidOptionError naming the option that is wrong
   * @example
   * ```ts
   * const events = dedup.seen('events', { window: '24h', capacity: 10_000_000 });
   * const isNew = await events.add(message.id);
   * ```
   */
  seen(name: string, options?: SeenOptions): SeenSet {
    const { parts, prefix, settings } = this.#view;
    return openSet(parts, prefix, name, settings.slot, options);
  }

  /**
   * A view whose keys are nested under the segments: the same connection, other keys.
   *
   * @throws InvalidKeyError for a segment that is no non-empty string
   */
  scope(...segments: string[]): Dedup<C> {
    const { parts, prefix, settings } = this.#view;
    for (const segment of segments) checkKey(segment, parts.settings.maxKeyBytes, 'each segment of the scope');
    return this.#makeView(new View(parts, [prefix, ...segments.map(escapePart)].join(':'), settings, false));
  }

  /**
   * A view with other defaults for its calls.
   *
   * @throws InvalidOptionError naming the option that is wrong
   */
  with(options: MarkedOptions): Dedup<NoResult>;
  with<K extends Codec | undefined = undefined>(options: OnceOptions<K>): Dedup<CodecOf<K, C>>;
  with(options: OnceOptions<Codec | undefined>): Dedup<Codec> {
    const { parts, prefix, settings } = this.#view;
    return this.#makeView(new View(parts, prefix, readOnceOptions(options, settings), false));
  }

  /**
   * How a key stands; null where there is no record.
   *
   * @throws InvalidKeyError, InvalidOptionError, ClosedError; StoreUnavailableError; CodecError for a record that cannot be read
   */
  async inspect(key: string, options?: { slot?: string | undefined }): Promise<RecordInfo | null> {
    const { parts } = this.#view;
    const { slot } = readMethodOptions(options, INSPECT_RULES);
    return inspectRecord(parts, this.#subject(key, slot));
  }

  /**
   * Removes a key's record: the next call runs the handler again.
   *
   * @param options `force` also removes a record in progress, whose handler then cannot commit, or one that cannot be read
   * @returns whether there was a record
   * @throws InProgressError for a record in progress without `force`; OutcomeUnknownError where Redis did not answer; else as `inspect`
   */
  async forget(key: string, options?: { slot?: string | undefined; force?: boolean | undefined }): Promise<boolean> {
    const { parts } = this.#view;
    const { slot, force = false } = readMethodOptions(options, FORGET_RULES);
    return forgetRecord(parts, this.#subject(key, slot), force);
  }

  /**
   * Looks at the server, in a Cluster at every primary: version, eviction, memory, persistence, replication, permissions,
   * scripts, latency and clock. Plays the life of a record of its own, and removes it.
   *
   * @throws ClosedError, StoreUnavailableError
   */
  async check(): Promise<ServerReport> {
    const { parts, prefix } = this.#view;
    return checkStore(parts, prefix);
  }

  /**
   * Listens to what happens. A listener that throws never affects a call.
   *
   * @returns what ends the listening
   * @throws InvalidOptionError for an unknown event, or a listener that is no function
   */
  on<E extends keyof DedupEvents>(event: E, listener: (event: DedupEvents[E]) => void): () => void {
    return this.#view.parts.events.on(event, listener);
  }

  /**
   * Refuses new calls, lets running handlers finish and commit, then aborts and releases the rest. May be called again.
   * The caller's connection stays open. On a view it does nothing: closing belongs to the Dedup that the view came from.
   *
   * @param options `drain`: how long handlers may finish, default `'30s'`
   * @throws InvalidOptionError
   */
  async close(options: { drain?: Duration | undefined } = {}): Promise<void> {
    const { drain = DEFAULT_DRAIN_MS } = readMethodOptions(options, CLOSE_RULES);
    if (this.#view.isRoot) await this.#view.parts.close(drain);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  get [INSIDE]() {
    const { parts, prefix, settings } = this.#view;
    return {
      retentionMs: settings.retentionMs,
      /** How long a completed call is known where its record is a mark in a set. */
      windowMs: workOf(settings.record)?.windowMs,
      parts,
      slot: settings.slot,
      codec: settings.codec,
      /** The same view as another process has it: on a connection of its own, with parts of its own. */
      onConnection: (redis: RedisConnection): Dedup<C> =>
        this.#makeView(new View(new Parts(redis, parts.settings), prefix, settings, true)),
      /** A view whose calls do so where Redis is not reached. */
      onStoreFailure: (onStoreFailure: DedupSettings['onStoreFailure']): Dedup<C> =>
        this.#makeView(new View(parts, prefix, { ...settings, onStoreFailure }, false)),
      tellShortRetention: (
        { key, slot }: { key: string; slot: string | undefined },
        details: { retentionMs: number; neededMs: number },
      ): void => parts.events.tell.shortRetention?.(parts.about(this.#subject(key, slot), details)),
    };
  }

  /** Throws at once what is wrong with the call: no promise is made on the way that tells nothing new. */
  #run(key: string, handler: Handler<unknown>, settings: CallSettings): Promise<Outcome<unknown>> {
    checkFunction('the handler', handler, key);
    return runOnce(this.#view.parts, { ...this.#callOf(key, settings), handler });
  }

  #apply(key: string, write: (tx: Effects) => void, settings: CallSettings): Promise<Applied> {
    checkFunction('`write`', write, key);
    return runApply(this.#view.parts, { ...this.#callOf(key, settings), write });
  }

  #callOf(key: string, settings: CallSettings) {
    const { redisKey } = this.#subject(key, settings.slot);
    const mark = recordMarkOf(this.#view.parts, { key, redisKey }, settings.record);
    if (mark && this.#view.parts.durability) {
      throw new InvalidOptionError('Expected no `durability` where `record` is a set: a mark cannot be waited for', {
        key,
      });
    }
    const fingerprint = fingerprintOf(settings.fingerprint, key);
    return { key, redisKey, fingerprint, mark, settings: mark ? { ...settings, codec: noResult } : settings };
  }

  #makeView<K extends Codec>(view: View): Dedup<K> {
    return new Dedup<K>(view as unknown as RedisConnection);
  }

  #subject(key: string, slot: string | undefined): { key: string; redisKey: string } {
    const { parts, settings } = this.#view;
    checkKey(key, parts.settings.maxKeyBytes);
    return { key, redisKey: this.#redisKey(key, slot ?? settings.slot) };
  }

  #redisKey(key: string, slot: string | undefined): string {
    return recordKey(this.#view.prefix, key, slot);
  }
}
