/** Worker processes that take deliveries from a store by themselves and tell of each, and the killing of some. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Delivered, KILL_AFTER, type Task, WORKERS } from './delivery.js';

/** What a worker tells of a delivery, by its id in the store: its handler has begun, for that webhook; or it is acknowledged. */
export interface RunNews {
  readonly delivery: string;
  readonly begunFor?: string;
}

const LOOK_EVERY_MS = 20;

export class Workers {
  #killed = 0;
  #begun = 0;
  #repeated = 0;
  #failure: Error | undefined;
  /** Of each worker the deliveries whose handlers run, and their webhooks. */
  readonly #running = new Map<ChildProcess, Map<string, string>>();
  /** Deliveries that a run completed. One whose run was cut off by a kill is of them unless it comes again. */
  readonly #completed = new Set<string>();
  /** Webhooks whose run was cut off by a kill and has not been repeated. */
  readonly #cutOff = new Set<string>();
  #killIsDue = false;
  /** As the workers tell: what the store says is asked for too seldom to kill by. */
  #acknowledged = 0;
  #ended = false;

  /** @param file the worker's module, beside this one */
  constructor(
    private readonly file: string,
    private readonly task: Task,
  ) {}

  /** When all are ready. */
  async start(): Promise<void> {
    await Promise.all(Array.from({ length: WORKERS }, () => this.#startOne()));
  }

  /** Waits until all is acknowledged; workers are killed, and replaced, as they tell of their runs. */
  async finish(countAcknowledged: () => Promise<number>): Promise<Delivered> {
    const { feed, signal, onAcknowledged } = this.task;
    const startedAt = performance.now();
    for (let acknowledged = 0; acknowledged < feed.length; ) {
      signal.throwIfAborted();
      if (this.#failure) throw this.#failure;
      await sleep(LOOK_EVERY_MS);
      acknowledged = await countAcknowledged();
      onAcknowledged(acknowledged);
    }
    const tookMs = performance.now() - startedAt;
    const [killed, begun, repeated] = [this.#killed, this.#begun, this.#repeated];
    return { killed, begun, repeated, replayed: feed.length - this.#completed.size, tookMs };
  }

  async end(): Promise<void> {
    this.#ended = true;
    const closed = [...this.#running.keys()].map((child) => once(child, 'close'));
    for (const child of this.#running.keys()) child.kill('SIGKILL');
    await Promise.all(closed);
  }

  /** When it is ready, or never will be. */
  #startOne(): Promise<void> {
    const child = fork(new URL(this.file, import.meta.url), [JSON.stringify(this.task.worker)], {
      execArgv: ['--import', 'tsx'],
    });
    const runs = new Map<string, string>();
    this.#running.set(child, runs);
    return new Promise((resolve) => {
      child.on('message', (news: 'ready' | RunNews) => {
        if (news === 'ready') resolve();
        else this.#hear(child, runs, news);
      });
      child.once('error', (error) => {
        this.#failure ??= error;
        // One that has not been started does not end.
        if (child.pid === undefined) this.#running.delete(child);
        resolve();
      });
      // Unlike `exit` it comes after all that the worker had told.
      child.once('close', (code, signal) => {
        this.#running.delete(child);
        resolve();
        if (this.#ended) return;
        if (child.killed && signal === 'SIGKILL') this.#replace(runs);
        else this.#failure ??= new Error(`A worker ended by itself, with ${signal ?? `exit code ${code}`}.`);
      });
    });
  }

  #replace(runs: ReadonlyMap<string, string>): void {
    for (const [delivery, id] of runs) {
      this.#completed.add(delivery);
      this.#cutOff.add(id);
    }
    void this.#startOne();
  }

  #hear(child: ChildProcess, runs: Map<string, string>, { delivery, begunFor }: RunNews): void {
    this.#completed.delete(delivery);
    if (begunFor === undefined) {
      this.#acknowledged += 1;
      if (this.task.kill && this.#acknowledged >= (this.#killed + 1) * KILL_AFTER) this.#killIsDue = true;
      if (runs.delete(delivery)) this.#completed.add(delivery);
      return;
    }
    runs.set(delivery, begunFor);
    this.#begun += 1;
    if (this.#cutOff.delete(begunFor)) this.#repeated += 1;
    if (!this.#killIsDue || child.killed) return;
    this.#killIsDue = false;
    this.#killed += 1;
    child.kill('SIGKILL');
  }
}
