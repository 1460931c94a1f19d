/** A BullMQ worker: handles each job in four writes on `tx` and nothing else; now and then its handler throws. */
import * as bullmq6 from 'bullmq';
import * as bullmq5 from 'bullmq5';
import { Redis } from 'ioredis';
import { onceProcessor } from '../../../src/bullmq/index.js';
import { Dedup } from '../../../src/index.js';
import type { Message } from '../consumers.js';

export interface JobsArgs {
  readonly url: string;
  readonly namespace: string;
  readonly queue: string;
  readonly version: 5 | 6;
  readonly connection: bullmq6.RedisOptions;
  readonly lockMs: number;
  readonly leaseMs: number;
  /** Handlers say when they begin, and go on when they are told to. */
  readonly held?: boolean;
  /** How many handler runs of a hundred throw. */
  readonly throwing?: number;
}

const { url, namespace, queue, version, connection, lockMs, leaseMs, held, throwing } = JSON.parse(
  process.argv[2] as string,
) as JobsArgs;
const bullmq = version === 6 ? bullmq6 : (bullmq5 as unknown as typeof bullmq6);
const redis = new Redis(url, { retryStrategy: () => 10 });
redis.on('error', () => {});
const dedup = new Dedup(redis, { namespace, lease: leaseMs, redisTimeout: '2s' });
const data = `${namespace}-data`;
const told = new Promise<void>((resolve) => process.once('message', () => resolve()));
dedup.on('leaseLost', ({ attempt }) => process.send?.({ leaseLost: attempt }));

const worker = new bullmq.Worker<Message, unknown>(
  queue,
  onceProcessor(
    dedup,
    async (job, { tx, attempt }) => {
      const { id, amount } = job.data;
      tx.hincrby(`${data}-hash`, id, amount).rpush(`${data}-list`, id);
      if (held) {
        process.send?.({ begun: attempt });
        await told;
      }
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      if (Math.random() * 100 < (throwing ?? 0)) {
        await redis.hincrby(`${namespace}-thrown`, job.id as string, 1);
        throw new Error('now and then');
      }
      tx.xadd(`${data}-stream`, '*', 'id', id).incrby(`${data}-total`, amount);
      return { id, by: `${process.pid}`, attempt };
    },
    { key: (job) => job.data.id },
  ),
  {
    connection,
    concurrency: 8,
    lockDuration: lockMs,
    stalledInterval: lockMs / 2,
    // Each kill stalls what was in hand: BullMQ fails a job that stalls more often than this.
    maxStalledCount: 1_000,
    drainDelay: 1,
  },
);
// That a lock was lost is told here, once a renewal.
worker.on('error', () => {});
worker.on('completed', (job) => process.send?.({ completed: job.id }));
await worker.waitUntilReady();
process.send?.('ready');
// The parent is gone: nothing is to be finished.
process.once('disconnect', () => process.exit());
