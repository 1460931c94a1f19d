/** A BullMQ processor whose jobs run once per key. */
import { DelayedError, type Job, RATE_LIMIT_ERROR, UnrecoverableError } from 'bullmq';
import { Delivery, type Meaning } from '../call/delivery.js';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { InvalidOptionError, isDedupError } from '../errors.js';
import { given } from '../given.js';
import { checkDedup, INSIDE } from '../inside.js';
import type { OnceOptions } from '../options.js';
import type { OnceContext } from '../outcome.js';
import type { SeenSet } from '../seen/set.js';
import { CALL_RULES } from '../settings.js';
import { onAbort } from '../signals.js';
import { redeliveryMs } from './redelivery.js';

/** What a `Worker` takes. All three parameters are declared: BullMQ gives its signal only to such. */
export type JobProcessor<Data, Result, Name extends string> = (
  job: Job<Data, Result, Name>,
  token?: string,
  signal?: AbortSignal,
) => Promise<Result>;

/** How jobs become calls; the rest as for a call of `once`. */
export interface ProcessorOptions<Data = unknown, Result = unknown, Name extends string = string>
  extends Omit<OnceOptions<Codec>, 'fingerprint' | 'slot' | 'signal' | 'onInProgress' | 'waitTimeout' | 'record'> {
  /**
   * A business key, the same for all jobs of one piece of work. It stands as it is: give each kind of work a scope of
   * its own. Default: queue, id and timestamp of the job.
   */
  key?: ((job: Job<Data, Result, Name>) => string) | undefined;
  /** What the key stands for: two jobs of one key and different fingerprints are an error. */
  fingerprint?: ((job: Job<Data, Result, Name>) => unknown) | undefined;
  /** The Cluster hash tag of the data that the job writes. */
  slot?: ((job: Job<Data, Result, Name>) => string) | undefined;
  /** `'full'`, or a set: see `MarkedProcessorOptions`. */
  record?: 'full' | undefined;
}

/** The same for jobs whose record is a mark in a set: all of them return nothing. */
export type MarkedProcessorOptions<Data = unknown, Name extends string = string> = Omit<
  ProcessorOptions<Data, undefined, Name>,
  'record' | 'fingerprint'
> & { record: SeenSet; fingerprint?: undefined };

/** The least delay of a job, in ms: clocks of workers differ, and a job must not come round and round meanwhile. */
const SHORTEST_DELAY_MS = 100;
/** When a job whose attempt came to nothing here is looked at again, in ms. */
const LOOK_AGAIN_MS = 1_000;

/** Thrown by a processor whose job was moved, or is to be: not done, and not failed. */
const MOVES = ['DelayedError', 'WaitingError', 'WaitingChildrenError'];
/** Options of `once` that a processor sets itself. */
const OWN_OPTIONS = ['signal', 'onInProgress', 'waitTimeout'];

/**
 * Makes a processor for a BullMQ 5 or 6 `Worker`: the handler runs once per key, its writes on `tx` are committed with
 * the record, and every other job of the key returns the stored result.
 *
 * A job whose key is in progress elsewhere is delayed until the holder's lease ends; its `attemptsMade` stays. What the
 * handler throws is released, and BullMQ's attempts and backoff decide. BullMQ's signal aborts `context.signal`.
 *
 * @param handler is given the job and what a handler of `once` is given
 * @throws InvalidOptionError naming the option that is wrong
 * @example
 * ```ts
 * import { Worker } from 'bullmq';
 * import { onceProcessor } from 'redis-once/bullmq';
 *
 * const worker = new Worker<{ cents: number }, { charged: number }>(
 *   'payments',
 *   onceProcessor(dedup, async (job, { tx }) => {
 *     tx.incrby('total', job.data.cents);
 *     return { charged: job.data.cents };
 *   }),
 *   { connection: { host: 'localhost' } },
 * );
 * ```
 */
export function onceProcessor<Data = unknown, Name extends string = string>(
  dedup: Dedup<Codec>,
  handler: (job: Job<Data, undefined, Name>, context: OnceContext) => unknown,
  options: MarkedProcessorOptions<Data, Name>,
): JobProcessor<Data, undefined, Name>;
export function onceProcessor<Data = unknown, Result = unknown, Name extends string = string>(
  dedup: Dedup<Codec>,
  // A Job holds its result type both ways: it is the worker's, and not to be told from what the handler returns.
  handler: (job: Job<Data, Result, Name>, context: OnceContext) => NoInfer<Result> | PromiseLike<NoInfer<Result>>,
  options?: ProcessorOptions<Data, Result, Name>,
): JobProcessor<Data, Result, Name>;
export function onceProcessor<Data, Result, Name extends string>(
  dedup: Dedup<Codec>,
  handler: (job: Job<Data, Result, Name>, context: OnceContext) => Result | PromiseLike<Result>,
  options: ProcessorOptions<Data, Result, Name> | MarkedProcessorOptions<Data, Name> = {},
): JobProcessor<Data, Result, Name> {
  checkDedup(dedup);
  if (typeof options !== 'object' || options === null) {
    throw new InvalidOptionError(`Expected the options to be an object, got ${given(options)}`);
  }
  const { key, fingerprint, slot, ...rest } = options as ProcessorOptions<Data, Result, Name>;
  if (typeof handler !== 'function') {
    throw new InvalidOptionError(`Expected the handler to be a function, got ${given(handler)}`);
  }
  checkFunctions({ key, fingerprint, slot });
  checkNames(rest);
  const view = dedup.with({ ...rest, onInProgress: 'throw' });
  if (fingerprint && view[INSIDE].windowMs !== undefined) {
    throw new InvalidOptionError('Expected no `fingerprint` where `record` is a set: a mark has no room for one');
  }
  const retained = retention(view, rest.retention !== undefined);

  return async (job, token, signal) => {
    const scoped = key ? view : view.scope(job.queueQualifiedName);
    const place = { key: key ? key(job) : `${job.id}:${job.timestamp}`, slot: slot?.(job) };
    const stop = new AbortController();
    const unlisten = onAbort(signal, (reason) => stop.abort(asError(reason)));
    const delivery = new Delivery();
    try {
      return (await scoped.once(
        place.key,
        delivery.watch(async (context) => {
          try {
            return await handler(job, context);
          } catch (error) {
            // The job is not done and has not failed: no attempt of the key's is counted.
            if (isMove(error)) stop.abort(error);
            throw error;
          }
        }),
        {
          signal: stop.signal,
          fingerprint: fingerprint?.(job),
          slot: place.slot,
          retention: retained(scoped, place, job as Job),
        },
      )) as Result;
    } catch (error) {
      throw await verdict(delivery.meaningOf(error), error, job as Job, token);
    } finally {
      unlisten();
    }
  };
}

/** What BullMQ is told of a call that did not come to a result; the job is moved first where it waits. */
async function verdict(meaning: Meaning, error: unknown, job: Job, token: string | undefined): Promise<unknown> {
  if (meaning === 'failed' || meaning === 'unavailable') return error;
  if (meaning === 'waits') {
    const waitMs = isDedupError(error, 'IN_PROGRESS') ? error.retryAfterMs : LOOK_AGAIN_MS;
    await job.moveToDelayed(Date.now() + Math.max(waitMs, SHORTEST_DELAY_MS), token);
    return new DelayedError();
  }
  // What another job of the key failed with, this one fails with.
  const message = isDedupError(error, 'STORED_FAILURE') ? error.failure.message : (error as Error).message;
  const final = new UnrecoverableError(message);
  Object.defineProperty(final, 'cause', { value: error, configurable: true, writable: true });
  return final;
}

/**
 * The retention of a job's record, in ms: the Dedup's or what the job's options need; as given where it is given. A mark in
 * a set lives for the set's window, whatever its job needs.
 */
function retention(view: Dedup<Codec>, isGiven: boolean) {
  let warned = false;
  return (scoped: Dedup<Codec>, place: { key: string; slot: string | undefined }, job: Job): number => {
    const { retentionMs, windowMs } = view[INSIDE];
    const neededMs = redeliveryMs(job);
    const fixedMs = windowMs ?? (isGiven ? retentionMs : Number.POSITIVE_INFINITY);
    if (fixedMs < neededMs && !warned) {
      scoped[INSIDE].tellShortRetention(place, { retentionMs: fixedMs, neededMs });
      warned = true;
    }
    return isGiven ? retentionMs : Math.max(retentionMs, neededMs);
  };
}

/** Told as BullMQ tells them, by name and message: there may be two copies of it. */
function isMove(error: unknown): boolean {
  return error instanceof Error && (MOVES.includes(error.name) || error.message === RATE_LIMIT_ERROR);
}

/** BullMQ takes a job's reason to be an Error; `cancelJob` gives a string. */
function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(`The job was cancelled${reason ? `: ${reason}` : ''}`);
}

/** @throws InvalidOptionError */
function checkFunctions(options: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && typeof value !== 'function') {
      throw new InvalidOptionError(`Expected \`${name}\` to be a function of the job, got ${given(value)}`);
    }
  }
}

/** @throws InvalidOptionError */
function checkNames(options: object): void {
  const names = ['key', ...Object.keys(CALL_RULES).filter((name) => !OWN_OPTIONS.includes(name))];
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || names.includes(name)) continue;
    const why = OWN_OPTIONS.includes(name) ? ': it sets that itself' : `. It takes: ${names.join(', ')}`;
    throw new InvalidOptionError(`\`${name}\` is not an option of \`onceProcessor\`${why}`);
  }
}
