/** Hands a feed to worker processes by a BullMQ queue, a job a delivery: BullMQ runs what a killed worker had in hand again. */
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import type { Deliver } from './delivery.js';
import type { Webhook } from './feed.js';
import { Workers } from './workers.js';

export const QUEUE = 'webhooks';

export const deliverByQueue: Deliver = async (task) => {
  const { url, prefix } = task.worker;
  const connection = new Redis(url, { maxRetriesPerRequest: null });
  const queue = new Queue<Webhook>(QUEUE, { connection, prefix: `${prefix}-queue` });
  const workers = new Workers('./queue-worker.ts', task);
  try {
    await queue.addBulk(task.feed.map((data) => ({ name: 'webhook', data })));
    await workers.start();
    return await workers.finish(async () => {
      if ((await queue.getFailedCount()) > 0) throw new Error('A job failed, and none should.');
      return queue.getCompletedCount();
    });
  } finally {
    await workers.end();
    await queue.close();
    connection.disconnect();
  }
};
