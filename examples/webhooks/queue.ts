/** Hands a feed to worker processes by a BullMQ queue, a job a delivery: BullMQ runs what a killed worker had in hand again. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { type Delivered, KILL_AFTER, WORKERS, type WorkerOptions } from './deliver.js';
import type { Webhook } from './feed.js';

export const QUEUE = 'webhooks';
const LOOK_EVERY_MS = 20;

/** A job's handler has begun, for that webhook; or the job is completed. */
export interface RunNews {
  readonly job: string;
  readonly begunFor?: string;
}

/** As `deliver`, by a queue. */
export async function deliverByQueue(
  feed: readonly Webhook[],
  options: WorkerOptions,
  kill: boolean,
  signal: AbortSignal,
  onAcknowledged: (count: number) => void,
): Promise<Delivered> {
  const connection = new Redis(options.url, { maxRetriesPerRequest: null });
  const queue = new Queue<Webhook>(QUEUE, { connection, prefix: `${options.prefix}-queue` });
  const workers = new Workers(options);
  try {
    await queue.addBulk(feed.map((data) => ({ name: 'webhook', data })));
    await workers.start();
    const startedAt = performance.now();
    for (let completed = 0; completed < feed.length; ) {
      signal.throwIfAborted();
      if (workers.failure) throw workers.failure;
      if (kill && completed >= (workers.killed + 1) * KILL_AFTER) workers.killNext();
      await sleep(LOOK_EVERY_MS);
      if ((await queue.getFailedCount()) > 0) throw new Error('A job failed, and none should.');
      completed = await queue.getCompletedCount();
      onAcknowledged(completed);
    }
    const tookMs = performance.now() - startedAt;
    const { killed, begun, cutOff, repeated } = workers;
    return { killed, begun, repeated, replayed: feed.length - (begun - cutOff), tookMs };
  } finally {
    await workers.end();
    await queue.close();
    connection.disconnect();
  }
}

class Workers {
  killed = 0;
  begun = 0;
  /** Runs that a kill cut off, and the first runs after that for the same webhook. */
  cutOff = 0;
  repeated = 0;
  failure: Error | undefined;
  /** Of each worker the jobs whose handlers run, and their webhooks. */
  readonly #running = new Map<ChildProcess, Map<string, string>>();
  readonly #toRepeat = new Set<string>();
  #killIsDue = false;
  #ended = false;

  constructor(private readonly options: WorkerOptions) {}

  async start(): Promise<void> {
    await Promise.all(Array.from({ length: WORKERS }, () => this.#startOne()));
  }

  /** The worker that next begins a run. */
  killNext(): void {
    this.#killIsDue = true;
  }

  async end(): Promise<void> {
    this.#ended = true;
    const exits = [...this.#running.keys()].map((child) => once(child, 'exit'));
    for (const child of this.#running.keys()) child.kill('SIGKILL');
    await Promise.all(exits);
  }

  #startOne(): Promise<void> {
    const child = fork(new URL('./queue-worker.ts', import.meta.url), [JSON.stringify(this.options)], {
      execArgv: ['--import', 'tsx'],
    });
    const runs = new Map<string, string>();
    this.#running.set(child, runs);
    // Unlike `exit` it comes after all that the worker had told.
    child.once('close', (code, signal) => {
      this.#running.delete(child);
      if (this.#ended) return;
      if (signal !== 'SIGKILL') {
        this.failure = new Error(`A worker ended by itself, with exit code ${code}.`);
        return;
      }
      this.cutOff += runs.size;
      for (const id of runs.values()) this.#toRepeat.add(id);
      void this.#startOne();
    });
    return new Promise((resolve) => {
      child.on('message', (news: 'ready' | RunNews) => {
        if (news === 'ready') resolve();
        else if (news.begunFor === undefined) runs.delete(news.job);
        else {
          runs.set(news.job, news.begunFor);
          this.#begin(child, news.begunFor);
        }
      });
      child.once('close', () => resolve());
    });
  }

  #begin(child: ChildProcess, id: string): void {
    this.begun += 1;
    if (this.#toRepeat.delete(id)) this.repeated += 1;
    if (!this.#killIsDue || child.killed) return;
    this.#killIsDue = false;
    this.killed += 1;
    child.kill('SIGKILL');
  }
}
