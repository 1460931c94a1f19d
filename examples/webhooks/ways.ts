/** The two ways to handle a delivery that may arrive more than once. */
import type { Redis } from 'ioredis';
import { Dedup } from '../../src/index.js';

export interface WayOptions {
  /** Begins every Redis key. */
  readonly prefix: string;
  readonly lease: '30s' | '2s';
}

interface Way {
  /** Did this call run the handler, or had it been run before? */
  handle(id: string, handler: () => Promise<void>): Promise<'handled' | 'replayed'>;
  close(): Promise<void>;
}

/** A key that says "done", looked for before the work and set after it. */
function checkThenWork(redis: Redis, { prefix }: WayOptions): Way {
  return {
    async handle(id, handler) {
      if (await redis.exists(`${prefix}:done:${id}`)) return 'replayed';
      await handler();
      await redis.set(`${prefix}:done:${id}`, '1', 'EX', 86_400);
      return 'handled';
    },
    async close() {},
  };
}

function redisOnce(redis: Redis, { prefix, lease }: WayOptions): Way {
  const dedup = new Dedup(redis, { namespace: prefix, lease });
  return {
    async handle(id, handler) {
      // `once` would do. `run` is the same and also tells whether it ran the handler, which the table wants to know.
      const { status } = await dedup.run(id, handler);
      return status === 'replayed' ? 'replayed' : 'handled';
    },
    close: () => dedup.close(),
  };
}

export const WAYS = { 'check, then work': checkThenWork, 'redis-once': redisOnce };
export type WayName = keyof typeof WAYS;
