import type { Job, JobsOptions, WorkerOptions } from 'bullmq';
import { expect, test } from 'vitest';
import { redeliveryMs } from '../../../src/bullmq/redelivery.js';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** One stall of BullMQ's default lock and its default interval. */
const STALL = MINUTE;

function job(opts: JobsOptions, worker?: Partial<WorkerOptions>): Job {
  return { opts, ...(worker && { queue: { opts: worker } }) } as unknown as Job;
}

test.each<[what: string, opts: JobsOptions, worker: Partial<WorkerOptions> | undefined, ms: number]>([
  ['nothing given: one stall', {}, undefined, STALL],
  ['attempts without a backoff', { attempts: 100 }, undefined, STALL],
  ['a single attempt has no backoff', { attempts: 1, backoff: MINUTE }, undefined, STALL],
  ['a backoff in ms', { attempts: 4, backoff: MINUTE }, undefined, 3 * MINUTE + STALL],
  ['a fixed backoff', { attempts: 4, backoff: { type: 'fixed', delay: MINUTE } }, undefined, 3 * MINUTE + STALL],
  ['1 + 2 + 4', { attempts: 4, backoff: { type: 'exponential', delay: MINUTE } }, undefined, 7 * MINUTE + STALL],
  [
    'jitter',
    { attempts: 3, backoff: { type: 'exponential', delay: MINUTE, jitter: 1 } },
    undefined,
    3 * MINUTE + STALL,
  ],
  ['an exponential backoff without a delay', { attempts: 4, backoff: { type: 'exponential' } }, undefined, STALL],
  ['no delay, doubled for ever', { attempts: 2_000, backoff: { type: 'exponential', delay: 0 } }, undefined, STALL],
  ['a ms, doubled for ever', { attempts: 2_000, backoff: { type: 'exponential', delay: 1 } }, undefined, 365 * DAY],
  ['a strategy of one’s own', { attempts: 4, backoff: { type: 'mine', delay: MINUTE } }, undefined, STALL],
  ['parts of a ms', { delay: DAY + 0.5 }, { maxStalledCount: 0 }, DAY + 1],
  ['a delay', { delay: DAY }, undefined, DAY + STALL],
  ['all together', { delay: DAY, attempts: 2, backoff: DAY }, { maxStalledCount: 0 }, 2 * DAY],
  ['the worker’s stalls', {}, { maxStalledCount: 3, lockDuration: 1_000, stalledInterval: 500 }, 4_500],
  ['kept for an age, in s', { removeOnComplete: { age: 2 * 86_400 } }, undefined, 2 * DAY],
  ['kept for less', { delay: DAY, removeOnComplete: { age: 60 } }, undefined, DAY + STALL],
  ['kept by the worker', {}, { removeOnComplete: { age: 86_400 }, maxStalledCount: 0 }, DAY],
  ['the job’s own goes first', { removeOnComplete: true }, { removeOnComplete: { age: 86_400 } }, STALL],
  ['kept by count', { removeOnComplete: { count: 5 } }, undefined, STALL],
  ['at most a year', { attempts: 60, backoff: { type: 'exponential', delay: DAY } }, undefined, 365 * DAY],
])('%s', (_what, opts, worker, ms) => {
  expect(redeliveryMs(job(opts, worker))).toBe(ms);
});
