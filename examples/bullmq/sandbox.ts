/**
 * A sandboxed processor: BullMQ runs this file in processes of its own, so that a job that computes for long holds up no
 * other. Each process has its own connection and its own Dedup; they close with it.
 *
 * `new Worker('invoices', new URL('./sandbox.js', import.meta.url), { connection })`
 */
import { Redis } from 'ioredis';
import { Dedup } from 'redis-once';
import { onceProcessor } from 'redis-once/bullmq';

export interface Invoice {
  readonly number: string;
  readonly cents: number;
}

const redis = new Redis(process.env.REDIS_URL ?? 'redis://localhost:6379', { keyPrefix: process.env.KEY_PREFIX ?? '' });
const invoices = new Dedup(redis, { namespace: 'invoices' });

export default onceProcessor<Invoice, { booked: number }>(
  invoices,
  (job, { tx }) => {
    tx.incrby('booked', job.data.cents);
    return { booked: job.data.cents };
  },
  { key: (job) => job.data.number },
);
