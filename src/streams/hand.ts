/** The entries that a consumer has in hand: never more than so many at a time, and of those that came before, half. */
export class Hand {
  readonly #held = new Map<string, { readonly redelivered: boolean }>();
  readonly #watchers = new Set<() => void>();
  #redelivered = 0;

  constructor(private readonly size: number) {}

  get ids(): string[] {
    return [...this.#held.keys()];
  }

  get room(): number {
    return this.size - this.#held.size;
  }

  /** For entries that were handed out before: what fails again and again leaves room to what is new. */
  get roomForRedelivered(): number {
    return Math.min(this.room, Math.max(1, this.size >> 1) - this.#redelivered);
  }

  has(id: string): boolean {
    return this.#held.has(id);
  }

  /** Holds the entry until the work is done; that never rejects. */
  hold(id: string, redelivered: boolean, work: Promise<void>): void {
    this.#held.set(id, { redelivered });
    if (redelivered) this.#redelivered += 1;
    void work.then(() => {
      this.#held.delete(id);
      if (redelivered) this.#redelivered -= 1;
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
