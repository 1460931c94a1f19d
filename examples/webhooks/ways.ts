/** The two ways to handle a webhook that may be delivered more than once. The handler is the same. */
import type { Redis } from 'ioredis';
import { Dedup } from 'redis-once';
import type { Writer } from './tally.js';

interface Way {
  /** Did this call run the handler, or had it been run before? */
  handle(id: string, handler: (to: Writer) => Promise<void>): Promise<'handled' | 'replayed'>;
  close(): Promise<void>;
}

/** A key that says "done", looked for before the work and set after it. */
function checkThenWork(redis: Redis, prefix: string): Way {
  return {
    async handle(id, handler) {
      if (await redis.exists(`${prefix}:done:${id}`)) return 'replayed';
      await handler(redis);
      await redis.set(`${prefix}:done:${id}`, '1', 'EX', 86_400);
      return 'handled';
    },
    async close() {},
  };
}

/** A record, with which what is written to `tx` commits. */
function redisOnce(redis: Redis, prefix: string): Way {
  // A short lease: when a worker is killed, the keys that it held are free again when their leases have run out.
  const dedup = new Dedup(redis, { namespace: `${prefix}-records`, lease: '2s' });
  return {
    async handle(id, handler) {
      // `once` would do. `run` is the same and also tells whether it ran the handler, which the table wants to know.
      const { status } = await dedup.run(id, ({ tx }) => handler(tx));
      return status === 'replayed' ? 'replayed' : 'handled';
    },
    close: () => dedup.close(),
  };
}

export const WAYS = { 'check, then work': checkThenWork, 'redis-once': redisOnce };
export type WayName = keyof typeof WAYS;
