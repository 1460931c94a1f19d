/**
 * Waiting for another attempt: until a hint, a poll that is due, or the end of its lease, whichever comes first. Pub/Sub
 * loses messages, so polls go on, with jitter, and seldom where hints arrive.
 */
import { monotonicMs } from '../clock.js';
import type { Hints } from '../redis/hints.js';
import { onAbort } from '../signals.js';

const FIRST_POLL_MS = 20;
const LONGEST_POLL_MS = 250;
const LONGEST_POLL_WITH_HINTS_MS = 1_000;
/** Past the lease's end, so that the server's clock agrees that it has ended. */
const AFTER_LEASE_MS = 5;

export class Wait {
  #subscribed = false;
  #hinted = false;
  #wake: (() => void) | undefined;
  #pollMs = FIRST_POLL_MS;
  readonly #unwatch: () => void;

  constructor(
    private readonly hints: Hints,
    redisKey: string,
  ) {
    this.#unwatch = hints.watch(redisKey, () => {
      this.#hinted = true;
      this.#wake?.();
    });
  }

  /**
   * Waits after the key was found busy.
   *
   * @param leaseLeftMs what is left of the holder's lease
   * @param deadline when to look again at the latest, on the monotonic clock
   * @param signals whose abort ends the wait
   * @throws the reason of the signal that aborted
   */
  async pause(leaseLeftMs: number, deadline: number, signals: readonly (AbortSignal | undefined)[]): Promise<void> {
    const ms = Math.min(this.#nextPollMs(), leaseLeftMs + AFTER_LEASE_MS, deadline - monotonicMs());
    // Subscribe first, then look: a hint before the subscription is told to nobody.
    const subscribed = this.#subscribed ? undefined : this.hints.listen();
    this.#subscribed = true;
    if (!this.#hinted) await this.#sleep(Math.max(0, ms), signals, subscribed);
    this.#hinted = false;
  }

  end(): void {
    this.#unwatch();
  }

  #nextPollMs(): number {
    const longest = this.hints.live ? LONGEST_POLL_WITH_HINTS_MS : LONGEST_POLL_MS;
    const poll = Math.min(this.#pollMs, longest);
    this.#pollMs = poll * 2;
    return poll * (0.5 + Math.random() / 2);
  }

  async #sleep(
    ms: number,
    signals: readonly (AbortSignal | undefined)[],
    subscribed: Promise<void> | undefined,
  ): Promise<void> {
    const undo: (() => void)[] = [];
    try {
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        const timer = setTimeout(resolve, ms);
        undo.push(() => clearTimeout(timer), ...signals.map((signal) => onAbort(signal, reject)));
        subscribed?.then(resolve);
      });
    } finally {
      this.#wake = undefined;
      for (const step of undo) step();
    }
  }
}
