/** Hands a feed to worker processes, at least once: what a worker had in hand when it was killed is delivered again. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type Deliver, type Delivered, KILL_AFTER, type Task, WORKERS } from './delivery.js';
import type { Webhook } from './feed.js';

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

const IN_HAND = 8;

export const deliver: Deliver = async (task) => {
  const delivering = new Delivering(task);
  try {
    return await delivering.run();
  } finally {
    await delivering.end();
  }
};

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

  constructor(private readonly task: Task) {
    this.#queue = [...task.feed];
  }

  async run(): Promise<Delivered> {
    const { signal } = this.task;
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
    const alive = [...this.#workers].filter(({ child }) => child.exitCode === null && child.signalCode === null);
    const exits = alive.map(({ child }) => once(child, 'exit'));
    const finished = this.#acknowledged === this.task.feed.length;
    for (const { child, state } of this.#workers) {
      // One that is ready closes its Dedup and its connection, and ends since nothing is left that keeps it alive.
      if (finished && state === 'ready') child.disconnect();
      else child.kill('SIGKILL');
    }
    await Promise.all(exits);
  }

  #start(): void {
    const child = fork(new URL('./worker.ts', import.meta.url), [JSON.stringify(this.task.worker)], {
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
    this.task.onAcknowledged(this.#acknowledged);
    if (this.#acknowledged === this.task.feed.length) this.#finish();
    else if (this.task.kill && this.#acknowledged % KILL_AFTER === 0) this.#killIsDue = true;
  }

  #ready(): Worker[] {
    return [...this.#workers].filter(({ state }) => state === 'ready');
  }
}
