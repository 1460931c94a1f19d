/** A consumer of a Redis stream: reads entries, takes over those of the dead, and gives each to a handler, once per key. */
import { storeUnavailable } from '../call/verdicts.js';
import { monotonicMs } from '../clock.js';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import type { Duration } from '../duration.js';
import { ClosedError, isDedupError } from '../errors.js';
import { INSIDE } from '../inside.js';
import { Listeners } from '../listeners.js';
import { ExchangeError } from '../redis/exchange.js';
import { duration } from '../rules.js';
import { readMethodOptions } from '../settings.js';
import { onAbort } from '../signals.js';
import { type EntryEvent, STREAM_EVENTS, type StreamConsumerEvents } from './events.js';
import { Group } from './group.js';
import { Hand, type Held, type Standing } from './hand.js';
import { type Ending, handle } from './handling.js';
import type { StreamMessage } from './message.js';
import { type ConsumerSettings, inSlotOf, readConsumerOptions, type StreamConsumerOptions } from './options.js';

const STOP_RULES = { drain: duration(0, 24 * 3_600_000) };
const DEFAULT_DRAIN_MS = 30_000;
/** How often new entries are asked for, in ms, while old ones wait for room: a read that blocks would hold these up. */
const POLL_MS = 50;
/** Between reads that fail, in ms: the first pause, and the longest. */
const PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** Deliveries of an entry beside others of its kind; after that it is a suspect. */
const TRIED_TOGETHER = 2;
/** A dead letter says what it failed with in no more characters. */
const LONGEST_REASON = 1_000;

/**
 * Consumes a stream as one of a group, at least once, with effects that happen once: what the handler writes to
 * `context.tx`, the completed record and the acknowledgement (XACK) are one step.
 *
 * @example
 * ```ts
 * import { StreamConsumer } from 'redis-once/streams';
 *
 * const consumer = new StreamConsumer(dedup, {
 *   stream: 'payments',
 *   group: 'ledger',
 *   consumer: 'ledger-1',
 *   deadLetter: 'payments-dead',
 *   handler: ({ fields: { account, cents } }, { tx }) => {
 *     if (!account || !cents) throw new Error('The entry is no payment');
 *     tx.hincrby('balances', account, cents);
 *   },
 * });
 * await consumer.start();
 * ```
 */
export class StreamConsumer {
  readonly #settings: ConsumerSettings;
  readonly #dedup: Dedup<Codec>;
  readonly #group: Group;
  readonly #hand: Hand;
  readonly #listeners = new Listeners<StreamConsumerEvents>(STREAM_EVENTS);
  readonly #cut = new AbortController();
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  /** How long handlers may finish once it stops, on the monotonic clock. */
  #drainUntil = Number.POSITIVE_INFINITY;
  #reading: Promise<void> | undefined;
  #keeping: NodeJS.Timeout | undefined;
  /** When idle entries are next looked for, and when the next read may be, on the monotonic clock. */
  #takeOverAt = 0;
  #resumeAt = 0;
  #pauseMs = PAUSE_MS;

  /**
   * @param dedup whose options hold for the calls; its records are in Cluster in the slot of the stream
   * @throws InvalidOptionError naming the option that is wrong
   */
  constructor(dedup: Dedup<Codec>, options: StreamConsumerOptions) {
    const settings = readConsumerOptions(dedup, options);
    const { stream, group, key, claimIdle, concurrency } = settings;
    this.#settings = settings;
    const view = inSlotOf(dedup, 'stream', stream).with({ onInProgress: 'throw' })[INSIDE].onStoreFailure('throw');
    this.#dedup = key ? view : view.scope(stream, group);
    this.#group = new Group(dedup[INSIDE].parts, settings, claimIdle);
    this.#hand = new Hand(concurrency);
  }

  /**
   * Makes the group where it is missing, and begins to read. Until `stop`, what fails between it and Redis is tried again.
   *
   * @throws StoreUnavailableError where Redis is not reached, or refuses; it may be called again
   * @throws ClosedError after `stop`, or where the Dedup is closed
   */
  async start(): Promise<void> {
    this.#throwIfStopped();
    this.#started ??= this.#start();
    await this.#started;
  }

  /**
   * Reads no more, lets the handlers of what is in hand finish and commit, then aborts the signals of the rest, whose entries
   * are left to others. May be called again: the shortest drain holds. It takes as long as the read that is under way,
   * `blockMs` at most, and the drain; where Redis does not answer, `redisTimeout` each beside. It stops by itself when its
   * Dedup closes, whose drain holds then, and when the connection of that is ended.
   *
   * @param options `drain`: how long handlers may finish, default `'30s'`
   * @throws InvalidOptionError
   */
  async stop(options: { drain?: Duration | undefined } = {}): Promise<void> {
    const { drain = DEFAULT_DRAIN_MS } = readMethodOptions(options, STOP_RULES);
    await this.#stopBy(monotonicMs() + drain);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /**
   * Listens to what happens. A listener that throws never affects an entry.
   *
   * @returns what ends the listening
   * @throws InvalidOptionError for an unknown event, or a listener that is no function
   */
  on<E extends keyof StreamConsumerEvents>(event: E, listener: (event: StreamConsumerEvents[E]) => void): () => void {
    return this.#listeners.on(event, listener);
  }

  async #start(): Promise<void> {
    try {
      await this.#group.create(this.#settings.startId);
    } catch (error) {
      this.#started = undefined;
      if (!(error instanceof ExchangeError)) throw error;
      throw storeUnavailable(undefined, error, 'the consumer has not started');
    }
    this.#throwIfStopped();
    this.#keeping = setInterval(() => this.#keep(), this.#settings.claimIdle / 3);
    this.#reading = this.#read();
  }

  #throwIfStopped(): void {
    if (this.#stopped) throw new ClosedError('The consumer has stopped');
    if (this.#dedup[INSIDE].parts.closing.aborted) throw new ClosedError('The Dedup is closed');
  }

  #stopBy(drainUntil: number): Promise<void> {
    this.#drainUntil = Math.min(this.#drainUntil, drainUntil);
    this.#stopped ??= this.#stop();
    this.#hand.wake();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const { closing, settings } = this.#dedup[INSIDE].parts;
    await this.#started?.catch(() => {});
    await this.#reading;
    await this.#emptied(() => this.#drainUntil);
    // What is still running learns of it, and is waited for as long as it takes to give up its claim.
    this.#cut.abort(closing.aborted ? closing.reason : new ClosedError('The consumer has stopped'));
    const until = monotonicMs() + settings.redisTimeoutMs;
    await this.#emptied(() => until);
    clearInterval(this.#keeping);
    this.#group.close();
  }

  async #emptied(until: () => number): Promise<void> {
    while (this.#hand.all.length > 0 && monotonicMs() < until()) {
      const ms = until() - monotonicMs();
      await this.#hand.change(Number.isFinite(ms) ? ms : undefined);
    }
  }

  /** Fills the hand, as long as nobody stops it. */
  async #read(): Promise<void> {
    const { closing, connection } = this.#dedup[INSIDE].parts;
    // A Dedup that closes takes no more calls, and cuts off those that it has; an ended connection makes none.
    const unlisten = [
      onAbort(closing, () => void this.#stopBy(Number.POSITIVE_INFINITY)),
      connection.onStatus(() => {
        if (connection.redis.status === 'end') void this.stop();
      }),
    ];
    const { blockMs } = this.#settings;
    let tookOver = false;
    while (!this.#stopped) {
      const pauseMs = this.#resumeAt - monotonicMs();
      if (pauseMs > 0 || this.#hand.room === 0) {
        await this.#hand.change(pauseMs > 0 ? pauseMs : undefined);
        continue;
      }
      try {
        const isDue = this.#takeOverAt <= monotonicMs();
        // In turns, so that neither what is new nor what failed before is all that is read.
        tookOver = !tookOver && isDue && this.#hand.roomForRedelivered > 0;
        if (tookOver) await this.#takeOver();
        else if (!isDue) await this.#readNew(Math.min(blockMs, Math.ceil(this.#takeOverAt - monotonicMs())));
        else if (!(await this.#readNew(0)) && this.#hand.roomForRedelivered <= 0) await this.#hand.change(POLL_MS);
        this.#pauseMs = PAUSE_MS;
      } catch (error) {
        await this.#recover(error as ExchangeError);
      }
    }
    for (const end of unlisten) end();
  }

  /** Was there any? */
  async #readNew(waitMs: number): Promise<boolean> {
    const messages = await this.#group.read(Math.min(this.#settings.batchSize, this.#hand.room), waitMs);
    for (const message of messages) this.#take(message, 'new');
    return messages.length > 0;
  }

  async #takeOver(): Promise<void> {
    const { batchSize, claimIdle, stream, group } = this.#settings;
    const room = this.#hand.roomForRedelivered;
    const { messages, trimmed, more } = await this.#group.takeOver(Math.min(batchSize, room));
    if (!more) this.#takeOverAt = monotonicMs() + claimIdle / 4;
    for (const id of trimmed) this.#listeners.tell.trimmed?.({ stream, group, id });
    const taken: StreamMessage[] = [];
    for (const message of messages) {
      const held = this.#hand.held(message.id);
      // One that is in hand here was idle for want of word to Redis alone.
      if (held) held.handedOut = message.deliveries;
      else taken.push(message);
    }
    const suspects = taken.filter((message) => this.#standingOf(message) === 'suspect');
    const others = suspects.slice(this.#hand.hasSuspect ? 0 : 1);
    // Before any handler runs, lest it be the one that kills this process and counts for them all.
    await Promise.all(others.map((message) => this.#group.giveBack({ message, handedOut: message.deliveries }, 0)));
    for (const message of taken) {
      if (others.includes(message)) continue;
      this.#listeners.tell.takenOver?.(this.#about(message));
      this.#take(message, this.#standingOf(message));
    }
  }

  #standingOf({ deliveries }: StreamMessage): Standing {
    if (deliveries === 1) return 'new';
    // One that was handed out too often is not run any more.
    return deliveries <= TRIED_TOGETHER || deliveries > this.#settings.maxDeliveries ? 'again' : 'suspect';
  }

  #take(message: StreamMessage, standing: Standing): void {
    this.#hand.hold(message, standing, async (held) => {
      await this.#handle(held);
      // The next one's turn.
      if (standing === 'suspect') this.#takeOverAt = 0;
    });
  }

  /** Never rejects. */
  async #handle(held: Held): Promise<void> {
    const { message } = held;
    const startedAt = monotonicMs();
    const ending = await handle(this.#dedup, this.#settings, message, this.#cut.signal);
    const about = this.#about(message);
    const tookMs = monotonicMs() - startedAt;
    try {
      if (ending.as === 'processed') {
        const { status, attempt } = ending;
        // The commit of an entry that ran acknowledged it.
        if (status === 'replayed') await this.#group.acknowledge(message.id);
        this.#listeners.tell.processed?.({ ...about, status, attempt, tookMs });
      } else if (ending.as === 'postponed') {
        const { error, inMs, unavailable } = ending;
        if (unavailable) this.#resumeAt = monotonicMs() + inMs;
        this.#listeners.tell.postponed?.({ ...about, error, inMs });
        await this.#group.giveBack(held, inMs);
      } else {
        this.#listeners.tell.failed?.({ ...about, error: ending.error, tookMs });
        await this.#bury(held, ending);
      }
    } catch (error) {
      this.#tellError(ending.as === 'failed' ? 'bury' : ending.as === 'processed' ? 'acknowledge' : 'give back', error);
    }
  }

  /** Where that was the entry's last chance. */
  async #bury(held: Held, { error, final }: Extract<Ending, { as: 'failed' }>): Promise<void> {
    const { message } = held;
    const { deadLetter, maxDeliveries, stream, group } = this.#settings;
    if (deadLetter === undefined || !(final || message.deliveries >= maxDeliveries)) return;
    const reason = reasonOf(error);
    const about = { stream, group, id: message.id, deliveries: String(message.deliveries), reason };
    const words = Object.entries(about).flatMap(([name, value]) => [`redis-once:${name}`, value]);
    const { status, fields } = await this.#group.bury(held, deadLetter, words);
    if (status === 'trimmed') this.#listeners.tell.trimmed?.({ stream, group, id: message.id });
    if (status === 'buried') {
      this.#listeners.tell.deadLettered?.({ ...this.#about(message), deadLetterId: String(fields[0]), reason });
    }
  }

  #keep(): void {
    const { all } = this.#hand;
    if (all.length > 0) this.#group.keep(all).catch((error) => this.#tellError('keep', error));
  }

  /** After a read that failed: a pause, and the group is made where it is gone. */
  async #recover(error: ExchangeError): Promise<void> {
    this.#tellError('read', error);
    this.#resumeAt = monotonicMs() + this.#pauseMs;
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
    if (error.code !== 'NOGROUP') return;
    await this.#group.create(this.#settings.startId).catch((failure) => this.#tellError('create group', failure));
  }

  #tellError(operation: string, cause: unknown): void {
    const { stream, group } = this.#settings;
    const error = cause instanceof ExchangeError ? storeUnavailable(undefined, cause, 'it is tried again') : cause;
    this.#listeners.tell.error?.({ stream, group, operation, error: error as Error });
  }

  #about({ id, deliveries }: StreamMessage): EntryEvent {
    const { stream, group } = this.#settings;
    return { stream, group, id, deliveries };
  }
}

function reasonOf(thrown: unknown): string {
  // What the key failed with, where that was stored.
  const error = isDedupError(thrown, 'STORED_FAILURE') ? Object.assign(new Error(), thrown.failure) : thrown;
  const reason = error instanceof Error ? `${error.name}: ${error.message}` : `${typeof error} was thrown`;
  return reason.slice(0, LONGEST_REASON).toWellFormed();
}
