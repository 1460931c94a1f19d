/** BullMQ, in both versions that are supported: queues and workers that end with their test. */
import * as bullmq6 from 'bullmq';
import * as bullmq5 from 'bullmq5';
import { inject, onTestFinished } from 'vitest';
import { freshNamespace } from './index.js';

/** As far as the tests use it, the API is the same. */
export type BullMQ = typeof bullmq6;
export type Job<Data = unknown, Result = unknown> = bullmq6.Job<Data, Result>;

const BULLMQ_5 = ['BullMQ 5', bullmq5 as unknown as BullMQ] as const;

/** Where version 5 is taken for the newest (see packages.ts), there is no other. */
export const EACH_BULLMQ: readonly (readonly [name: string, bullmq: BullMQ])[] =
  process.env.TEST_BULLMQ === '5' ? [BULLMQ_5] : [['BullMQ 6', bullmq6], BULLMQ_5];

/** Its own ioredis connects: the two versions have different ones. */
export function connectionOf(url: string): bullmq6.RedisOptions {
  const { hostname, port, username, password } = new URL(url);
  return {
    host: hostname,
    port: Number(port || 6379),
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
  };
}

/** A queue that no other test has, with all that it leaves in Redis removed in the end. */
export function makeQueue(bullmq: BullMQ, name: string = freshNamespace(), prefix = 'bull') {
  const connection = connectionOf(inject('redisUrl'));
  const queue = new bullmq.Queue<unknown, unknown, string>(name, { connection, prefix });
  const events = new bullmq.QueueEvents(name, { connection, prefix });
  onTestFinished(async () => {
    await events.close();
    await queue.obliterate({ force: true }).catch(() => {});
    await queue.close();
  });

  return {
    queue,
    /** A worker that is gone, its jobs with it, at the end of the test. */
    work(processor: URL | bullmq6.Processor<never, unknown, string>, options: Partial<bullmq6.WorkerOptions> = {}) {
      const worker = new bullmq.Worker<never, unknown, string>(name, processor, {
        connection,
        prefix,
        drainDelay: 1,
        ...options,
      });
      worker.on('error', () => {});
      onTestFinished(() => worker.close(true));
      return worker;
    },
    /** What the job comes to: its return value, or an Error of its `failedReason`. */
    finished: async (job: Job): Promise<unknown> => {
      await events.waitUntilReady();
      return job.waitUntilFinished(events);
    },
    /** The job as Redis has it now. */
    look: async (job: Job): Promise<Job & { state: string }> => {
      // What belongs to a state is there when the state is.
      const state = await job.getState();
      return Object.assign((await queue.getJob(job.id as string)) as Job, { state });
    },
  };
}
