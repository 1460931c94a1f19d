/**
 * A consumer's process, as far as Redis can tell: a Dedup with the settings of another, on a connection of its own, that can
 * die. Of a dead one nothing more is sent, and nobody in it hears of anything any more.
 */
import type { AttemptTerms } from '../call/attempt.js';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { isDedupError } from '../errors.js';
import { checkDedup, INSIDE } from '../inside.js';
import type { ScriptAnswer } from '../redis/connection.js';
import type { RedisConnection } from '../redis/ioredis.js';

/** What a consumer does with one message, by the Dedup that it is given. */
export type Deliver<T, C extends Codec> = (dedup: Dedup<C>) => T | PromiseLike<T>;

/** What a delivery came to. */
export interface DeliveryReport<T> {
  /**
   * `'returned'`, with `value`; `'crashed'`, with its process; `'inProgress'`: refused while the other copy was at work, as
   * `onInProgress: 'throw'` has it, for the queue to deliver again.
   */
  readonly end: 'returned' | 'crashed' | 'inProgress';
  /** What `deliver`, or the call with the handler, returned. */
  readonly value?: T;
  /** How often it ran a handler. */
  readonly runs: number;
}

/**
 * What becomes of a message to Redis that completes keys: a commit, or an `apply`.
 *
 * @param send hands it over; may be called again, as every script
 */
export type Fate = (send: () => Promise<ScriptAnswer>, process: ConsumerProcess<Codec>) => Promise<ScriptAnswer>;

const COMPLETING = ['commit', 'apply'];
const ASKING = ['claim', 'apply'];
const NEVER = new Promise<never>(() => {});

interface OwnConnection extends RedisConnection {
  disconnect(reconnect?: boolean): void;
  on(event: 'ready' | 'close' | 'end' | 'error', listener: () => void): unknown;
}

export class ConsumerProcess<C extends Codec> {
  readonly #dedup: Dedup<C>;
  readonly #redis: OwnConnection;
  readonly #answered = latch();
  readonly #died = latch();
  #runs = 0;
  #dead = false;
  /** The record that it asked for first. */
  firstKey: string | undefined;
  /** What it held when it died. */
  held: readonly AttemptTerms[] = [];

  /** @param model whose settings, namespace and scopes it has */
  constructor(model: Dedup<C>, fate: Fate = (send) => send()) {
    checkDedup(model);
    const { connection } = model[INSIDE].parts;
    this.#redis = anotherConnection(connection.redis);
    this.#redis.on('error', () => {});
    this.#dedup = model[INSIDE].onConnection(this.#redis);
    this.#parts.connection.origin = connection.origin;
    this.#countRuns();
    this.#watchScripts(fate);
  }

  /** Settles when it has asked for a key and was answered, or has nothing more to ask. */
  get answered(): Promise<void> {
    return this.#answered.opened;
  }

  get #parts() {
    return this.#dedup[INSIDE].parts;
  }

  /**
   * Delivers a message to it, and ends it.
   *
   * @param early may it be refused, since another copy is at work?
   * @throws what the delivery throws
   */
  async deliver<T>(deliver: Deliver<T, C>, early = false): Promise<DeliveryReport<T>> {
    try {
      const delivery = (async () => deliver(this.#dedup))();
      const crash = this.#died.opened.then(() => ({ end: 'crashed', runs: this.#runs }) as const);
      return await Promise.race([
        delivery.then((value) => ({ end: 'returned', value, runs: this.#runs }) as const),
        crash,
      ]);
    } catch (error) {
      const isRefused = early && this.#runs === 0 && isDedupError(error, 'IN_PROGRESS');
      if (!isRefused) throw error;
      return { end: 'inProgress', runs: 0 };
    } finally {
      this.#answered.open();
      await this.#end();
    }
  }

  /** It is killed, here and now. */
  die(): Promise<never> {
    const { running } = this.#parts;
    this.held = [...running].map(({ terms }) => terms);
    this.#dead = true;
    // Their leases are renewed no more.
    for (const attempt of running) this.#parts.end(attempt);
    this.#parts.hints.close();
    this.#parts.durability?.close();
    this.#redis.disconnect();
    this.#died.open();
    return NEVER;
  }

  /** Its connection drops before an answer is read, and is made anew. */
  loseAnswer(): Promise<never> {
    const { connection, scripts } = this.#parts;
    this.#redis.disconnect(true);
    return connection.within(Promise.reject(new Error('Connection is closed.')), scripts.deadline());
  }

  /** Returns when nothing of it can reach Redis any more. */
  async #end(): Promise<void> {
    if (!this.#dead) await this.#dedup.close({ drain: 0 });
    const ended = new Promise<void>((resolve) => this.#redis.on('end', resolve));
    const isOpen = this.#redis.status === 'ready';
    this.#redis.disconnect();
    // Else it was closed before, or never open.
    if (isOpen) await ended;
  }

  #countRuns(): void {
    const parts = this.#parts;
    const call = parts.callHandler.bind(parts);
    parts.callHandler = (run, handler) => {
      this.#runs += 1;
      return call(run, handler);
    };
  }

  #watchScripts(fate: Fate): void {
    const { connection } = this.#parts;
    const run = connection.run.bind(connection);
    connection.run = async (...message) => {
      const [{ name }, [key]] = message;
      const asks = ASKING.includes(name);
      if (asks) this.firstKey ??= String(key);
      const send = () => run(...message);
      const answer = await this.#whileAlive(() => (COMPLETING.includes(name) ? fate(send, this) : send()));
      if (asks) this.#answered.open();
      return answer;
    };
    const command = connection.command.bind(connection);
    connection.command = (...args) => this.#whileAlive(() => command(...args));
  }

  /** What the work comes to; in a dead process nothing is begun, and nothing comes to anything. */
  async #whileAlive<T>(work: () => Promise<T>): Promise<T> {
    if (this.#dead) return NEVER;
    const [outcome] = await Promise.allSettled([work()]);
    if (this.#dead) return NEVER;
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  }
}

/** As another process would make it; it comes back at once where it drops. */
function anotherConnection(redis: RedisConnection): OwnConnection {
  const { duplicate } = redis as unknown as { duplicate(...args: unknown[]): OwnConnection };
  const soon = () => 1;
  return redis.isCluster
    ? duplicate.call(redis, [], { clusterRetryStrategy: soon })
    : duplicate.call(redis, { retryStrategy: soon });
}

function latch(): { readonly opened: Promise<void>; open(): void } {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}
