/** Worker processes that consume ids delivered at least once, and what their writes come to in Redis at one instant. */
import type { Redis } from 'ioredis';
import { expect } from 'vitest';
import { Worker } from './processes.js';

export interface Message {
  readonly id: string;
  readonly amount: number;
  /** The hash tag that it and its data share. */
  readonly slot?: string;
  /** How it is made once; `once` where nothing is said. */
  readonly way?: 'once' | 'apply';
  /** Told only when a replica has it. */
  readonly isDurable?: boolean;
}

/** The receipt names this one handing over. */
export interface Delivery extends Message {
  readonly receipt: number;
}

/** With a code where the message is to be delivered again. */
export interface Acknowledgement {
  readonly receipt: number;
  readonly code?: string | undefined;
  /** What the call came to, as JSON. */
  readonly result?: string | undefined;
  readonly ms: number;
}

/** What the consumers connect to: a server, or a Cluster by clients of both versions, in turn. */
export interface Place {
  readonly url?: string;
  readonly nodes?: readonly { host: string; port: number }[];
  readonly namespace: string;
}

const WORKERS = 3;
const IN_HAND = 16;

interface Consumer {
  readonly worker: Worker;
  readonly inHand: Map<number, Message>;
  killed: boolean;
}

/** Hands messages out until each is acknowledged; what a dead worker had in hand, or could not do, comes again. */
export class Consumers {
  readonly acknowledged = new Set<string>();
  readonly codes = new Map<string, number>();
  /** What each handing over came to, of those that were not killed. */
  readonly told: (Acknowledgement & { readonly message: Message })[] = [];
  handedOut = 0;
  killed = 0;
  /** Acknowledgements so far. */
  acknowledgements = 0;
  readonly #queue: Message[];
  readonly #total: number;
  readonly #consumers = new Set<Consumer>();
  readonly #watchers = new Set<() => void>();
  #failure: unknown;
  #started = 0;

  /** @param deliveries in their order; copies of a message are deliveries of their own */
  constructor(
    deliveries: readonly Message[],
    private readonly random: () => number,
    private readonly place: Place,
  ) {
    this.#queue = [...deliveries];
    this.#total = deliveries.length;
    for (let count = 0; count < WORKERS; count += 1) void this.#start();
  }

  get isDone(): boolean {
    return this.acknowledgements === this.#total;
  }

  /** When there are as many acknowledgements, or all. */
  async acknowledgedBy(count: number): Promise<void> {
    while (this.acknowledgements < count && !this.isDone) {
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
      if (this.#failure) throw this.#failure;
    }
  }

  /** When so many more calls have settled, one way or another, or all are acknowledged. */
  async settledBy(more: number): Promise<void> {
    const count = this.told.length + more;
    while (this.told.length < count && !this.isDone) {
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
      if (this.#failure) throw this.#failure;
    }
  }

  /** SIGKILL to one that has something in hand; another takes its place. */
  killOne(): void {
    const busy = [...this.#consumers].filter(({ inHand, killed }) => inHand.size > 0 && !killed);
    const victim = busy[Math.floor(this.random() * busy.length)];
    if (!victim) return;
    victim.killed = true;
    this.killed += 1;
    victim.worker.kill('SIGKILL');
  }

  async #start(): Promise<void> {
    this.#started += 1;
    const args = { ...this.place, ioredis: this.#started % 2 ? 6 : 5 };
    const consumer: Consumer = { worker: new Worker('consumer', args), inHand: new Map(), killed: false };
    try {
      await consumer.worker.next();
      this.#consumers.add(consumer);
      this.#handOut();
      for (;;) this.#settle(consumer, await consumer.worker.next<Acknowledgement>());
    } catch (error) {
      this.#consumers.delete(consumer);
      if (!consumer.killed) return this.#fail(error);
      this.#queue.unshift(...consumer.inHand.values());
      this.#handOut();
      void this.#start();
    }
  }

  #settle({ inHand }: Consumer, acknowledgement: Acknowledgement): void {
    const { receipt, code } = acknowledgement;
    const message = inHand.get(receipt) as Message;
    this.told.push({ ...acknowledgement, message });
    inHand.delete(receipt);
    if (code === undefined) {
      this.acknowledgements += 1;
      this.acknowledged.add(message.id);
    } else {
      this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
      this.#queue.push(message);
    }
    this.#handOut();
    this.#tell();
  }

  #handOut(): void {
    for (const { worker, inHand, killed } of this.#consumers) {
      while (!killed && inHand.size < IN_HAND && this.#queue.length > 0) {
        const message = this.#queue.shift() as Message;
        this.handedOut += 1;
        inHand.set(this.handedOut, message);
        worker.tell({ receipt: this.handedOut, ...message });
      }
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#tell();
  }

  #tell(): void {
    for (const watcher of this.#watchers) watcher();
    this.#watchers.clear();
  }
}

/** Messages delivered two to four times each, in any order. */
export function deliveriesOf(messages: readonly Message[], random: () => number): Message[] {
  return messages
    .flatMap((message) => Array.from({ length: 2 + Math.floor(random() * 3) }, () => message))
    .map((message) => ({ message, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ message }) => message);
}

/** The state of a record is its second byte (docs/protocol.md). */
const COMPLETED = 'C';

/**
 * Looks at records and data in one step, in the middle of whatever goes on: of each message all writes are there, once,
 * if its record is completed, and none if it is not. Returns the ids that are completed, each with the receipt whose
 * writes those are.
 *
 * @param messages all of one slot, where they have one
 */
export async function expectWhole(
  redis: Redis,
  namespace: string,
  messages: readonly Message[],
  context: string,
): Promise<Map<string, number>> {
  const slot = messages[0]?.slot;
  const tag = slot === undefined ? '' : `{${slot}}`;
  const data = `${tag}${namespace}-data`;
  const records = tag === '' ? namespace : `${tag}:${namespace}`;
  const look = redis.multi().hgetall(`${data}-hash`).lrange(`${data}-list`, 0, -1).xrange(`${data}-stream`, '-', '+');
  look.get(`${data}-total`);
  for (const { id } of messages) look.getrange(`${records}:${id}`, 1, 1);
  const [hash, list, stream, total, ...states] = ((await look.exec()) ?? []).map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
  const completed = messages.filter((_, index) => states[index] === COMPLETED);
  const ids = completed.map(({ id }) => id).sort();
  expect((list as string[]).toSorted(), context).toEqual(ids);
  expect((stream as [string, string[]][]).map(([, [, id]]) => id).toSorted(), context).toEqual(ids);
  expect(hash, context).toEqual(Object.fromEntries(completed.map(({ id, amount }) => [id, String(amount)])));
  expect(Number(total), context).toBe(completed.reduce((sum, { amount }) => sum + amount, 0));
  return new Map((stream as [string, string[]][]).map(([, [, id, , by]]) => [id as string, Number(by)]));
}
