/**
 * Hints that an attempt has ended: from this process at once, from others by Pub/Sub. They wake waiters early and
 * promise nothing; whoever waits polls as well.
 *
 * The subscriber is a connection of its own, opened at the first wait and closed when none has waited for a while. It
 * never reconnects by itself: the next wait opens a new one.
 */
import { createHash } from 'node:crypto';
import { monotonicMs } from '../clock.js';
import type { Connection } from './connection.js';
import { ownConnection } from './own-connection.js';

interface Subscriber {
  connect(): Promise<void>;
  subscribe(channel: string): Promise<unknown>;
  disconnect(): void;
  on(event: 'message', listener: (channel: string, message: string) => void): unknown;
  on(event: 'error' | 'end', listener: () => void): unknown;
}

const IDLE_MS = 30_000;
const RETRY_MS = 1_000;

export class Hints {
  readonly #wakers = new Map<string, Set<() => void>>();
  #subscription: { subscriber: Subscriber; live: boolean; settled: Promise<void> } | undefined;
  #retryAt = 0;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;
  readonly #unlisten: () => void;

  /** @param channel empty for hints of this process alone */
  constructor(
    private readonly connection: Connection,
    readonly channel: string,
  ) {
    // Ended, or come back, perhaps to another server: hints of that one are what is wanted.
    this.#unlisten = connection.onStatus(() => this.#drop());
  }

  /** Do hints of other processes arrive? */
  get live(): boolean {
    return this.#subscription?.live ?? false;
  }

  /** Calls back at every hint for a record. Returns what ends the watch. */
  watch(redisKey: string, wake: () => void): () => void {
    const digest = this.#digest(redisKey);
    const wakers = this.#wakers.get(digest) ?? new Set();
    this.#wakers.set(digest, wakers.add(wake));
    clearTimeout(this.#idle);
    return () => {
      wakers.delete(wake);
      if (wakers.size > 0) return;
      this.#wakers.delete(digest);
      if (this.#wakers.size === 0) this.#idle = setTimeout(() => this.#drop(), IDLE_MS).unref();
    };
  }

  /** Settles when hints of other processes arrive, or surely do not for now. */
  async listen(): Promise<void> {
    if (this.channel === '' || this.#closed) return;
    if (!this.#subscription && monotonicMs() >= this.#retryAt) this.#open();
    await this.#subscription?.settled;
  }

  /** An attempt of this process at the record has ended. */
  wake(redisKey: string): void {
    if (this.#wakers.size > 0) this.#tell(this.#digest(redisKey));
  }

  close(): void {
    this.#closed = true;
    this.#unlisten();
    this.#drop();
  }

  #open(): void {
    this.#retryAt = monotonicMs() + RETRY_MS;
    const subscriber = ownConnection<Subscriber>(this.connection);
    const subscription = { subscriber, live: false, settled: Promise.resolve() };
    this.#subscription = subscription;
    subscriber.on('error', () => {});
    subscriber.on('end', () => {
      if (this.#subscription === subscription) this.#subscription = undefined;
    });
    subscriber.on('message', (_channel, message) => this.#tell(message.slice(0, message.indexOf(' '))));
    const subscribed = async () => {
      try {
        await subscriber.connect();
        await subscriber.subscribe(this.channel);
        subscription.live = true;
      } catch {
        subscriber.disconnect();
      }
    };
    subscription.settled = subscribed();
  }

  #drop(): void {
    clearTimeout(this.#idle);
    this.#subscription?.subscriber.disconnect();
    this.#subscription = undefined;
  }

  #tell(digest: string): void {
    for (const wake of [...(this.#wakers.get(digest) ?? [])]) wake();
  }

  /** As the scripts hash it: over the key as the server has it. */
  #digest(redisKey: string): string {
    return createHash('sha1')
      .update(this.connection.keyPrefix + redisKey)
      .digest('hex');
  }
}
