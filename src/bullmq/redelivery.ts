/** How long after its completion a copy of a BullMQ job may still be processed, as far as its options tell. */
import type { BackoffOptions, Job, KeepJobs, WorkerOptions } from 'bullmq';

/** BullMQ's own defaults: https://docs.bullmq.io/guide/jobs/stalled, and `WorkerOptions`. */
const LOCK_MS = 30_000;
const STALLED_INTERVAL_MS = 30_000;
const STALLED_COUNT = 1;
/** The longest retention that there is. */
const YEAR_MS = 365 * 24 * 3_600_000;
/** They make more than a year of 1 ms. Beyond 1,023 they are `Infinity`, and 0 ms times that is no number. */
const MOST_DOUBLINGS = 40;

/**
 * In ms: a job of the same options that comes as late as it can, by its delay, the backoffs of all its attempts and its
 * stalls; or as long as a completed job of its id is kept, and may be retried, where that is longer. At most a year, and
 * whole, which BullMQ's own times need not be.
 *
 * A custom backoff strategy is not known beforehand and counts as nothing, nor does a job that is kept without an age.
 */
export function redeliveryMs(job: Job): number {
  const { attempts = 1, backoff, delay = 0, removeOnComplete } = job.opts;
  const worker = workerOptions(job);
  const stalls = worker.maxStalledCount ?? STALLED_COUNT;
  const stalled = stalls * ((worker.lockDuration ?? LOCK_MS) + (worker.stalledInterval ?? STALLED_INTERVAL_MS));
  const late = delay + backoffsMs(attempts, backoff) + stalled;
  return Math.ceil(Math.min(YEAR_MS, Math.max(late, keptMs(removeOnComplete ?? worker.removeOnComplete))));
}

/** The sum of the delays between all attempts, without jitter, which only makes them shorter. */
function backoffsMs(attempts: number, backoff: number | BackoffOptions | undefined): number {
  const { type, delay = 0 } = typeof backoff === 'object' ? backoff : { type: 'fixed', delay: backoff };
  const retries = Math.max(0, attempts - 1);
  if (type === 'fixed') return retries * delay;
  return type === 'exponential' ? (2 ** Math.min(retries, MOST_DOUBLINGS) - 1) * delay : 0;
}

function keptMs(keep: boolean | number | KeepJobs | undefined): number {
  return typeof keep === 'object' ? ((keep as { age?: number }).age ?? 0) * 1_000 : 0;
}

/** A worker's job knows its worker; one in a sandbox does not. */
function workerOptions(job: Job): Partial<WorkerOptions> {
  return (job as unknown as { queue?: { opts?: Partial<WorkerOptions> } }).queue?.opts ?? {};
}
