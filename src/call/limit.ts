/** How many things happen at a time. */
import { onAbort } from '../signals.js';

export class Limit {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(most: number) {
    this.#free = most;
  }

  /**
   * Runs it when it is its turn.
   *
   * @throws the signal's reason, where that aborts before
   */
  async run<T>(signal: AbortSignal, work: () => T | PromiseLike<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next) next();
      else this.#free += 1;
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const take = () => {
        this.#waiting.delete(take);
        unlisten();
        resolve();
      };
      this.#waiting.add(take);
      const unlisten = onAbort(signal, (reason) => {
        this.#waiting.delete(take);
        reject(reason);
      });
    });
  }
}
