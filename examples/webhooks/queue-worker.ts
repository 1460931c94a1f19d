/**
 * A worker process of the queue: a BullMQ worker whose processor is one of the ways. It tells of each run that it begins
 * and each job that it ends.
 */
import { type Job, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { Dedup } from 'redis-once';
import { onceProcessor } from 'redis-once/bullmq';
import type { WorkerOptions } from './delivery.js';
import type { Webhook } from './feed.js';
import { QUEUE } from './queue.js';
import { handle, type Writer } from './tally.js';
import { WAYS } from './ways.js';
import type { RunNews } from './workers.js';

const { url, way, prefix } = JSON.parse(process.argv[2] as string) as WorkerOptions;
const redis = new Redis(url);
const dedup = new Dedup(redis, { namespace: `${prefix}-records`, lease: '1s' });
const checking = WAYS['check, then work'](redis, prefix);

const tell = (news: RunNews) => process.send?.(news);

async function run({ id, data }: Job<Webhook>, to: Writer): Promise<void> {
  tell({ delivery: id as string, begunFor: data.id });
  await handle(data, to, prefix);
}

const processors = {
  'check, then work': (job: Job<Webhook>) => checking.handle(job.data.id, (to) => run(job, to)),
  'redis-once': onceProcessor(dedup, (job: Job<Webhook>, { tx }) => run(job, tx), { key: ({ data }) => data.id }),
};

const worker = new Worker<Webhook>(QUEUE, processors[way], {
  connection: new Redis(url, { maxRetriesPerRequest: null }),
  prefix: `${prefix}-queue`,
  concurrency: 8,
  // Short, so that what a killed worker had in hand soon comes again; and each kill counts as a stall.
  lockDuration: 1_000,
  stalledInterval: 500,
  maxStalledCount: 1_000,
});
worker.on('completed', ({ id }) => tell({ delivery: id as string }));
// That another took a job over.
worker.on('error', () => {});

// Of an interrupt at the terminal every process is told; this one ends when the feed does.
process.on('SIGINT', () => {});
process.once('disconnect', () => process.exit());
await worker.waitUntilReady();
process.send?.('ready');
