/** What the handler does, a tally of events by type and by repository, and a count of its runs; all in Redis. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Delivery } from './feed.js';

export interface Runs {
  readonly begun: number;
  readonly finished: number;
  /** Runs finished for a delivery that had been handled already, though nothing was killed on the way. */
  readonly handledTwice: number;
  /** Runs whose work was done again since their worker was killed before it could say so. */
  readonly repeated: number;
}

export class Tally {
  constructor(
    private readonly redis: Redis,
    private readonly prefix: string,
  ) {}

  /** The handler: a few milliseconds of work, then the tally. */
  async handle({ id, event, payload }: Delivery, receipt: number): Promise<void> {
    const { redis, prefix } = this;
    await redis.hincrby(`${prefix}:begun`, id, 1);
    await sleep(3 + Math.random() * 5);
    // One transaction, so that the count of finished runs is the count of what was tallied, even when we are killed.
    await redis
      .multi()
      .hincrby(`${prefix}:types`, event, 1)
      .hincrby(`${prefix}:repositories`, payload.repository?.full_name ?? '(none)', 1)
      .hincrby(`${prefix}:finished`, `${id} ${receipt}`, 1)
      .exec();
  }

  /** @param cutOff receipts that no worker acknowledged */
  async runs(cutOff: ReadonlySet<number>): Promise<Runs> {
    const begun = Object.values(await this.redis.hgetall(`${this.prefix}:begun`)).map(Number);
    const all = new Map<string, number>();
    const acknowledged = new Map<string, number>();
    for (const [field, count] of Object.entries(await this.redis.hgetall(`${this.prefix}:finished`))) {
      const [id, receipt] = field.split(' ') as [string, string];
      all.set(id, (all.get(id) ?? 0) + Number(count));
      if (!cutOff.has(Number(receipt))) acknowledged.set(id, (acknowledged.get(id) ?? 0) + Number(count));
    }
    const handledTwice = beyondTheFirst(acknowledged);
    const repeated = beyondTheFirst(all) - handledTwice;
    return { begun: sum(begun), finished: sum([...all.values()]), handledTwice, repeated };
  }

  /** Events as the tally by type has them. */
  async events(): Promise<number> {
    return sum(Object.values(await this.redis.hgetall(`${this.prefix}:types`)).map(Number));
  }
}

function beyondTheFirst(runs: ReadonlyMap<string, number>): number {
  return sum([...runs.values()].map((count) => count - 1));
}

function sum(counts: number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
