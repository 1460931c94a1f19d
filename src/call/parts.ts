/** What the calls of one Dedup and its views share. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { monotonicMs } from '../clock.js';
import { Recorder, type RecorderSubject } from '../effects/recorder.js';
import { ClosedError, InProgressError, InvalidOptionError } from '../errors.js';
import { aboutKey, DEDUP_EVENTS, type DedupEvents, type KeyEvent, type LeaseLostReason } from '../events.js';
import { given } from '../given.js';
import { checkKeyPrefix, escapePart } from '../key.js';
import { Listeners } from '../listeners.js';
import type { ObservedCall, Observer } from '../observer.js';
import type { Handler } from '../outcome.js';
import { Connection } from '../redis/connection.js';
import { Durability } from '../redis/durability.js';
import type { ExchangeError } from '../redis/exchange.js';
import { Hints } from '../redis/hints.js';
import type { RedisConnection } from '../redis/ioredis.js';
import { Scripts } from '../redis/scripts.js';
import type { History } from '../redis/server.js';
import { Agreements } from '../seen/agreements.js';
import type { DedupSettings } from '../settings.js';
import type { Attempt, HandlerRun } from './attempt.js';
import type { Subject } from './call.js';
import { Flights } from './flight.js';
import { Heartbeat } from './lease.js';

/** What a key is known to stand at, for all who ask with the same fingerprint. */
export type Answer =
  | { readonly status: 'completed'; readonly attempt: number; readonly result: string | Buffer }
  | { readonly status: 'failed'; readonly attempt: number; readonly failure: Buffer }
  | { readonly status: 'exhausted'; readonly failures: number }
  | { readonly status: 'broken' }
  | { readonly status: 'unavailable'; readonly error: ExchangeError };

/** The keys whose handlers the present code runs in, innermost first. */
interface HandlerFrame {
  readonly connection: Connection;
  readonly redisKey: string;
  readonly attempt: Attempt;
  readonly outer: HandlerFrame | undefined;
}

/** One for all Dedups: a handler may call its key through another Dedup of the same connection. */
const frames = new AsyncLocalStorage<HandlerFrame>();

export class Parts {
  readonly connection: Connection;
  readonly scripts: Scripts;
  readonly hints: Hints;
  readonly heartbeat: Heartbeat;
  readonly agreements: Agreements;
  /** Where results are to be confirmed. */
  readonly durability: Durability | undefined;
  readonly flights = new Flights<Answer>();
  readonly events = new Listeners<DedupEvents>(DEDUP_EVENTS);
  /** Where calls are watched. */
  observer: Observer | undefined;
  /** The epoch of the connection whose server was found fit, or reported. */
  checkedEpoch = -1;
  /** Where its sequence of writes was when it was last looked at. */
  history: History | undefined;
  readonly #namespace: string;
  readonly #closing = new AbortController();
  readonly #running = new Set<Attempt>();
  #calls = 0;
  #idle: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  /**
   * @throws InvalidOptionError for a connection that is none, or whose keyPrefix would steer the slots
   */
  constructor(
    redis: RedisConnection,
    readonly settings: DedupSettings,
  ) {
    if (typeof redis?.callBuffer !== 'function' || typeof redis.on !== 'function') {
      throw new InvalidOptionError(`Expected an ioredis connection (\`Redis\` or \`Cluster\`), got ${given(redis)}`);
    }
    this.connection = Connection.of(redis);
    checkKeyPrefix(this.connection.keyPrefix);
    this.#namespace = escapePart(settings.namespace);
    this.scripts = new Scripts(this.connection, settings.redisTimeoutMs);
    this.hints = new Hints(this.connection, settings.hints === 'pubsub' ? `${this.#namespace}::hints` : '');
    this.agreements = new Agreements(this.scripts, settings.redisTimeoutMs);
    const { durability, redisTimeoutMs } = settings;
    this.durability = durability && new Durability(this.connection, durability, redisTimeoutMs);
    this.heartbeat = new Heartbeat(this.scripts, (lease, error) => this.storeError(lease, 'renew', error));
  }

  /** A `tx` for the call of a key. */
  readonly recorder = ({ key, redisKey, mark }: RecorderSubject): Recorder => {
    const { connection } = this;
    const { keyPrefix, isCluster } = connection;
    const terms = { key, redisKey, namespace: this.#namespace, keyPrefix, isCluster, mark };
    return new Recorder({ ...terms, connection: connection.origin });
  };

  /** Tells of an attempt whose lease is lost. */
  readonly leaseLost = (attempt: Attempt, reason: LeaseLostReason): void => {
    const { terms } = attempt;
    this.events.tell.leaseLost?.(this.about(terms, { attempt: terms.attempt, ranMs: attempt.ranMs, reason }));
  };

  /** Tells of an exchange that failed. */
  storeError(subject: Subject, operation: string, { code }: ExchangeError): void {
    this.events.tell.storeError?.(this.about(subject, { operation, code }));
  }

  /** An event about a key: made only where somebody listens. */
  about<D extends object>({ key, redisKey }: Subject, details: D): KeyEvent & D {
    return aboutKey({ namespace: this.settings.namespace, key, redisKey }, details);
  }

  /** A call as its observer is told of it. */
  observed(operation: ObservedCall['operation'], redisKey: string): ObservedCall {
    return { operation, namespace: this.settings.namespace, redisKey };
  }

  /** Those that have begun and not ended, in this process. */
  get running(): ReadonlySet<Attempt> {
    return this.#running;
  }

  /** Aborts when the Dedup closes: calls that wait give up. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * Counts a call in, so that `close` waits for it until it has left.
   *
   * @throws ClosedError
   */
  enter(key: string): void {
    if (this.closing.aborted) throw new ClosedError('The Dedup is closed', { key });
    this.#calls += 1;
  }

  leave(): void {
    this.#calls -= 1;
    if (this.#calls === 0) this.#idle?.();
  }

  /**
   * A call for a key from inside its own handler would wait for itself.
   *
   * @throws InProgressError
   */
  refuseReentry(key: string, redisKey: string): void {
    for (let frame = frames.getStore(); frame; frame = frame.outer) {
      if (frame.redisKey === redisKey && frame.connection === this.connection.origin && frame.attempt.running) {
        throw new InProgressError('The key is in progress: this call comes from inside its own handler', {
          key,
          retryAfterMs: Math.ceil(frame.attempt.lease.remainingMs),
        });
      }
    }
  }

  /** The attempt begins: its lease is renewed until its end. */
  begin(attempt: Attempt): void {
    this.#running.add(attempt);
    attempt.running = true;
    this.heartbeat.add(attempt.lease);
  }

  end(attempt: Attempt): void {
    attempt.running = false;
    this.#running.delete(attempt);
    this.heartbeat.remove(attempt.lease);
  }

  /** Calls a handler, so that calls from inside it are known. */
  callHandler<T>(run: HandlerRun, handler: Handler<T>): T | Promise<T> {
    const { attempt } = run;
    const connection = this.connection.origin;
    const frame = { connection, redisKey: attempt.terms.redisKey, attempt, outer: frames.getStore() };
    return frames.run(frame, () => run.call(handler));
  }

  /** Refuses new calls, lets running handlers finish for `drainMs`, then ends the rest. The second call gets the first's promise. */
  close(drainMs: number): Promise<void> {
    this.#closed ??= this.#close(monotonicMs() + drainMs);
    return this.#closed;
  }

  async #close(deadline: number): Promise<void> {
    this.#closing.abort(new ClosedError('The Dedup is closing'));
    if (this.#calls > 0) {
      const idle = new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, deadline - monotonicMs());
      });
      await Promise.race([idle, late]);
      clearTimeout(timer);
      for (const attempt of this.#running) {
        attempt.cutOff(new ClosedError('The Dedup closed before the handler had finished', { key: attempt.terms.key }));
      }
      await idle;
    }
    this.hints.close();
    this.durability?.close();
  }
}
