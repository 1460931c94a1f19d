/** Hands a feed to worker processes, at least once: what a worker had in hand when it was killed is delivered again. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Webhook } from './feed.js';
import type { WayName } from './ways.js';

export interface WorkerOptions {
  readonly url: string;
  readonly way: WayName;
  /** Begins every Redis key. */
  readonly prefix: string;
}

/** The receipt names this one handing over, not the webhook. */
export interface HandOver {
  readonly receipt: number;
  readonly webhook: Webhook;
}

/** What a worker tells of a handing over: perhaps that its handler has begun, and then what it came to. */
export interface News {
  readonly receipt: number;
  readonly what: 'begun' | 'handled' | 'replayed' | 'deliver again';
}

export interface Delivered {
  /** Workers, each while it ran a handler. */
  readonly killed: number;
  /** Handler runs, finished or not. */
  readonly begun: number;
  /** Of those begun: the first after a kill that cut off a run for the same webhook. */
  readonly repeated: number;
  readonly replayed: number;
  readonly tookMs: number;
}

export const WORKERS = 4;
const IN_HAND = 8;
export const KILL_AFTER = 100;

/**
 * Returns when every delivery is acknowledged and every worker has ended.
 *
 * @param kill after every so many acknowledgements, the worker that next begins a run is killed and replaced
 * @param signal whose abort ends it all
 * @param onAcknowledged told how many deliveries are acknowledged
 */
export async function deliver(
  feed: readonly Webhook[],
  options: WorkerOptions,
  kill: boolean,
  signal: AbortSignal,
  onAcknowledged: (count: number) => void,
): Promise<Delivered> {
  const delivering = new Delivering(feed, options, kill, onAcknowledged);
  try {
    return await delivering.run(signal);
  } finally {
    await delivering.end();
  }
}

interface Worker {
  readonly child: ChildProcess;
  readonly inHand: Map<number, { readonly webhook: Webhook; begun: boolean }>;
  state: 'starting' | 'ready' | 'killed';
}

class Delivering {
  readonly #queue: Webhook[];
  readonly #workers = new Set<Worker>();
  /** Webhooks whose handler run was cut off by a kill and has not been repeated. */
  readonly #cutOff = new Set<Webhook>();
  #startedAt: number | undefined;
  #receipts = 0;
  #acknowledged = 0;
  #replayed = 0;
  #begun = 0;
  #repeated = 0;
  #killed = 0;
  #killIsDue = false;
  #ended = false;
  #finish: () => void = () => {};
  #fail: (error: unknown) => void = () => {};

  constructor(
    private readonly feed: readonly Webhook[],
    private readonly options: WorkerOptions,
    private readonly kill: boolean,
    private readonly onAcknowledged: (count: number) => void,
  ) {
    this.#queue = [...feed];
  }

  async run(signal: AbortSignal): Promise<Delivered> {
    await new Promise<void>((resolve, reject) => {
      [this.#finish, this.#fail] = [resolve, reject];
      signal.throwIfAborted();
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      for (let count = 0; count < WORKERS; count += 1) this.#start();
    });
    const tookMs = performance.now() - (this.#startedAt ?? 0);
    const [killed, begun, repeated, replayed] = [this.#killed, this.#begun, this.#repeated, this.#replayed];
    return { killed, begun, repeated, replayed, tookMs };
  }

  async end(): Promise<void> {
    this.#ended = true;
    const exits = [...this.#workers].map(({ child }) => once(child, 'exit'));
    const finished = this.#acknowledged === this.feed.length;
    for (const { child, state } of this.#workers) {
      // One that is ready closes its Dedup and its connection, and ends since nothing is left that keeps it alive.
      if (finished && state === 'ready') child.disconnect();
      else child.kill('SIGKILL');
    }
    await Promise.all(exits);
  }

  #start(): void {
    const child = fork(new URL('./worker.ts', import.meta.url), [JSON.stringify(this.options)], {
      execArgv: ['--import', 'tsx'],
    });
    const worker: Worker = { child, inHand: new Map(), state: 'starting' };
    this.#workers.add(worker);
    child.on('message', (message: 'ready' | News) => {
      if (message === 'ready') worker.state = 'ready';
      else if (message.what === 'begun') this.#begin(worker, message.receipt);
      else this.#settle(worker, message);
      this.#handOut();
    });
    child.once('error', (error) => this.#fail(error));
    // Unlike `exit` it comes after all that the worker had told.
    child.once('close', (code) => {
      this.#workers.delete(worker);
      if (this.#ended) return;
      if (worker.state === 'killed') this.#replace(worker);
      else this.#fail(new Error(`A worker ended by itself, with exit code ${code}.`));
    });
  }

  #replace(dead: Worker): void {
    for (const { webhook, begun } of dead.inHand.values()) {
      if (begun) this.#cutOff.add(webhook);
      this.#queue.push(webhook);
    }
    this.#start();
    this.#handOut();
  }

  /** Fills the hands of those who are ready, the emptiest first, so that copies meet in different workers. */
  #handOut(): void {
    // All begin at once; of those that come later, each begins when it is ready.
    if (this.#startedAt === undefined && this.#ready().length < WORKERS) return;
    this.#startedAt ??= performance.now();
    while (this.#queue.length > 0) {
      const [worker] = this.#ready().sort((a, b) => a.inHand.size - b.inHand.size);
      if (!worker || worker.inHand.size >= IN_HAND) return;
      const webhook = this.#queue.shift() as Webhook;
      this.#receipts += 1;
      const handOver: HandOver = { receipt: this.#receipts, webhook };
      worker.inHand.set(handOver.receipt, { webhook, begun: false });
      // Where it cannot be sent the worker has died, which its end tells.
      worker.child.send(handOver, () => {});
    }
  }

  #begin(worker: Worker, receipt: number): void {
    const held = worker.inHand.get(receipt);
    if (!held) return;
    held.begun = true;
    this.#begun += 1;
    if (this.#cutOff.delete(held.webhook)) this.#repeated += 1;
    if (this.#killIsDue && worker.state === 'ready') this.#killNow(worker);
  }

  #killNow(worker: Worker): void {
    this.#killIsDue = false;
    worker.state = 'killed';
    worker.child.kill('SIGKILL');
    this.#killed += 1;
  }

  #settle(worker: Worker, { receipt, what }: News): void {
    const held = worker.inHand.get(receipt);
    if (!held) return;
    worker.inHand.delete(receipt);
    if (what === 'deliver again') {
      this.#queue.push(held.webhook);
      return;
    }
    this.#acknowledged += 1;
    if (what === 'replayed') this.#replayed += 1;
    this.onAcknowledged(this.#acknowledged);
    if (this.#acknowledged === this.feed.length) this.#finish();
    else if (this.kill && this.#acknowledged % KILL_AFTER === 0) this.#killIsDue = true;
  }

  #ready(): Worker[] {
    return [...this.#workers].filter(({ state }) => state === 'ready');
  }
}
