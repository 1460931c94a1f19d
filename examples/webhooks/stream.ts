/**
 * Hands a feed to worker processes by a Redis stream, an entry a delivery: what a killed worker had in hand, others of the
 * consumer group take over.
 */
import { Redis } from 'ioredis';
import type { Deliver } from './delivery.js';
import { Workers } from './workers.js';

export const GROUP = 'webhooks';

export function streamsOf(prefix: string): { stream: string; deadLetter: string } {
  return { stream: `${prefix}-stream`, deadLetter: `${prefix}-dead-letters` };
}

export const deliverByStream: Deliver = async (task) => {
  const { stream, deadLetter } = streamsOf(task.worker.prefix);
  const redis = new Redis(task.worker.url);
  const workers = new Workers('./stream-worker.ts', task);
  try {
    await redis.xgroup('CREATE', stream, GROUP, '0', 'MKSTREAM');
    await workers.start();
    const adding = task.feed.map(({ id, payload }) =>
      redis.xadd(stream, '*', 'id', id, 'payload', JSON.stringify(payload)),
    );
    const ids = (await Promise.all(adding)) as string[];
    const delivered = await workers.finish(async () => {
      const { last, pending } = await lookAt(redis, stream);
      return ids.indexOf(last) + 1 - pending;
    });
    const { pending } = await lookAt(redis, stream);
    return {
      ...delivered,
      left: { 'entries pending in the end': pending, 'dead letters': await redis.xlen(deadLetter) },
    };
  } finally {
    await workers.end();
    redis.disconnect();
  }
};

/** The entry that was handed out last, and how many of those handed out are not acknowledged. */
async function lookAt(redis: Redis, stream: string): Promise<{ last: string; pending: number }> {
  const [group] = (await redis.xinfo('GROUPS', stream)) as [(string | number)[]];
  const about = (name: string) => group[group.indexOf(name) + 1];
  return { last: String(about('last-delivered-id')), pending: Number(about('pending')) };
}
