/** Hands a feed to worker processes, at least once: what a worker had in hand when it was killed is delivered again. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Delivery } from './feed.js';
import type { WayName, WayOptions } from './ways.js';

export interface WorkerOptions extends WayOptions {
  readonly url: string;
  readonly way: WayName;
}

/** The receipt names this one handing over, not the delivery. */
export interface HandOver {
  readonly receipt: number;
  readonly delivery: Delivery;
}

export interface Acknowledgement {
  readonly receipt: number;
  readonly outcome: 'handled' | 'replayed' | 'deliver again';
}

export interface Delivered {
  readonly killed: number;
  readonly replayed: number;
  /** Receipts that were not acknowledged, so that what they stood for was delivered again. */
  readonly cutOff: ReadonlySet<number>;
  readonly tookMs: number;
}

const WORKERS = 4;
const IN_HAND = 8;
const KILL_AFTER = 100;

/**
 * Returns when every arrival is acknowledged and every worker has ended.
 *
 * @param kill after every so many acknowledgements the busiest worker is killed, and another takes its place
 * @param signal whose abort ends it all
 * @param onAcknowledged told how many arrivals are acknowledged
 */
export async function deliver(
  feed: readonly Delivery[],
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
  readonly inHand: Map<number, Delivery>;
  state: 'starting' | 'ready' | 'killed';
}

class Delivering {
  readonly #queue: Delivery[];
  readonly #workers = new Set<Worker>();
  readonly #cutOff = new Set<number>();
  #startedAt: number | undefined;
  #receipts = 0;
  #acknowledged = 0;
  #replayed = 0;
  #killed = 0;
  #ended = false;
  #finish: () => void = () => {};
  #fail: (error: unknown) => void = () => {};

  constructor(
    private readonly feed: readonly Delivery[],
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
    return { killed: this.#killed, replayed: this.#replayed, cutOff: this.#cutOff, tookMs };
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
    child.on('message', (message: 'ready' | Acknowledgement) => {
      // What a worker said with its last breath came too late: it counts as not acknowledged.
      if (worker.state === 'killed') return;
      if (message === 'ready') worker.state = 'ready';
      else this.#settle(worker, message);
      this.#handOut();
    });
    child.once('error', (error) => this.#fail(error));
    child.once('exit', (code) => {
      this.#workers.delete(worker);
      if (this.#ended) return;
      if (worker.state === 'killed') this.#replace(worker);
      else this.#fail(new Error(`A worker ended by itself, with exit code ${code}.`));
    });
  }

  #replace(dead: Worker): void {
    for (const [receipt, delivery] of dead.inHand) this.#deliverAgain(receipt, delivery);
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
      const delivery = this.#queue.shift() as Delivery;
      this.#receipts += 1;
      const handOver: HandOver = { receipt: this.#receipts, delivery };
      worker.inHand.set(handOver.receipt, delivery);
      // Where it cannot be sent the worker has died, which its exit tells.
      worker.child.send(handOver, () => {});
    }
  }

  #settle(worker: Worker, { receipt, outcome }: Acknowledgement): void {
    const delivery = worker.inHand.get(receipt) as Delivery;
    worker.inHand.delete(receipt);
    if (outcome === 'deliver again') {
      this.#deliverAgain(receipt, delivery);
      return;
    }
    this.#acknowledged += 1;
    if (outcome === 'replayed') this.#replayed += 1;
    this.onAcknowledged(this.#acknowledged);
    if (this.#acknowledged === this.feed.length) this.#finish();
    else if (this.kill && this.#acknowledged % KILL_AFTER === 0) this.#killTheBusiest();
  }

  #deliverAgain(receipt: number, delivery: Delivery): void {
    this.#cutOff.add(receipt);
    this.#queue.push(delivery);
  }

  #killTheBusiest(): void {
    const [worker] = this.#ready().sort((a, b) => b.inHand.size - a.inHand.size);
    if (!worker) return;
    worker.state = 'killed';
    worker.child.kill('SIGKILL');
    this.#killed += 1;
  }

  #ready(): Worker[] {
    return [...this.#workers].filter(({ state }) => state === 'ready');
  }
}
