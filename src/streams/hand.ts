/** The entries that a consumer is at work on, and for how many more it has room. */
import type { StreamMessage } from './message.js';

/**
 * `new`: not handed out before; `again`: handed out before; `suspect`: so often that it may be what its consumers died of.
 */
export type Standing = 'new' | 'again' | 'suspect';

export interface Held {
  readonly message: StreamMessage;
  readonly standing: Standing;
  /** How often it was handed out, as Redis has it: more than its handler was told where this consumer took it over from itself. */
  handedOut: number;
}

/**
 * The entries that a consumer has in hand: never more than so many at a time. Of those that came before, half, so that what
 * fails again and again leaves room to what is new; and one suspect, so that none is counted out for another's crash.
 */
export class Hand {
  readonly #held = new Map<string, Held>();
  readonly #watchers = new Set<() => void>();

  constructor(private readonly size: number) {}

  get all(): Held[] {
    return [...this.#held.values()];
  }

  get room(): number {
    return this.size - this.#held.size;
  }

  get roomForRedelivered(): number {
    const redelivered = this.#standings.filter((standing) => standing !== 'new').length;
    return Math.min(this.room, Math.max(1, this.size >> 1) - redelivered);
  }

  get hasSuspect(): boolean {
    return this.#standings.includes('suspect');
  }

  get #standings(): Standing[] {
    return this.all.map(({ standing }) => standing);
  }

  held(id: string): Held | undefined {
    return this.#held.get(id);
  }

  /** Holds the entry until the work is done; that never rejects. */
  hold(message: StreamMessage, standing: Standing, work: (held: Held) => Promise<void>): void {
    const held = { message, standing, handedOut: message.deliveries };
    this.#held.set(message.id, held);
    void work(held).then(() => {
      this.#held.delete(message.id);
      this.wake();
    });
  }

  /** Resolves when an entry has left the hand, when it is woken, or after so many ms. */
  change(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(() => done(), ms);
      const done = () => {
        clearTimeout(timer);
        this.#watchers.delete(done);
        resolve();
      };
      this.#watchers.add(done);
    });
  }

  wake(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
