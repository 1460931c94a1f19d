/**
 * Callers that work ids off, by `once` and by `apply` in turn, each call again until it is done. What each was told is held
 * against what became of its id.
 */
import { expect } from 'vitest';
import { type Dedup, type Effects, isDedupError } from '../../src/index.js';
import type { Message } from './consumers.js';

export interface LoadOptions {
  readonly dedups: readonly Dedup[];
  readonly namespace: string;
  /** Each is called by each Dedup. */
  readonly messages: readonly Message[];
  /** How many calls go on at a time. */
  readonly lines?: number;
  /** What handlers do between their writes. */
  readonly work?: (message: Message) => Promise<unknown>;
  /** Codes that calls may fail with. */
  readonly codes: readonly string[];
}

const PAUSE_MS = 5;

export class Load {
  /** How often calls were told so: a status or a code. */
  readonly told: Record<string, number> = {};
  /** Calls that have come to a result. */
  done = 0;
  isOver = false;
  readonly over: Promise<void>;
  readonly #fates = new Map<string, { executed: number; inDoubt: boolean }>();

  constructor(private readonly options: LoadOptions) {
    const { dedups, messages, lines = 12 } = options;
    const jobs = messages.flatMap((message, at) => dedups.map((dedup) => ({ message, dedup, applies: at % 2 === 1 })));
    for (const { id } of messages) this.#fates.set(id, { executed: 0, inDoubt: false });
    const line = async () => {
      for (let job = jobs.shift(); job; job = jobs.shift()) await this.#workOff(job.message, job.dedup, job.applies);
    };
    this.over = Promise.all(Array.from({ length: lines }, line))
      .then(() => {})
      .finally(() => {
        this.isOver = true;
      });
    // It is awaited later, and its failure told then.
    this.over.catch(() => {});
  }

  /** How many calls were told one of these. */
  count(...words: string[]): number {
    return words.reduce((sum, word) => sum + (this.told[word] ?? 0), 0);
  }

  /**
   * Every id was executed once, and once only. One that nobody was told of having executed was in doubt: so whatever was
   * called surely not stored, was not.
   */
  expectTruth(context: string): void {
    for (const [id, { executed, inDoubt }] of this.#fates) {
      if (executed === 1 || (executed === 0 && inDoubt)) continue;
      expect.fail(`${context}: ${id} was told ${executed} times as executed${inDoubt ? ', and once in doubt' : ''}`);
    }
  }

  async #workOff(message: Message, dedup: Dedup, applies: boolean): Promise<void> {
    const { namespace, work, codes } = this.options;
    const fate = this.#fates.get(message.id) as { executed: number; inDoubt: boolean };
    const write = writesOf(`${namespace}-data`, message);
    for (;;) {
      try {
        const { status } = applies
          ? await dedup.apply(message.id, (tx) => void write.last(write.first(tx)))
          : await dedup.run(message.id, async ({ tx }) => {
              write.first(tx);
              await work?.(message);
              write.last(tx);
            });
        this.told[status] = this.count(status) + 1;
        if (status === 'executed') fate.executed += 1;
        this.done += 1;
        return;
      } catch (error) {
        if (!isDedupError(error) || !codes.includes(error.code)) throw error;
        this.told[error.code] = this.count(error.code) + 1;
        fate.inDoubt ||= error.code === 'OUTCOME_UNKNOWN';
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }
}

/** What `expectWhole` looks for, in two halves. */
function writesOf(data: string, { id, amount }: Message) {
  return {
    first: (tx: Effects) => tx.hincrby(`${data}-hash`, id, amount).rpush(`${data}-list`, id),
    last: (tx: Effects) => tx.xadd(`${data}-stream`, '*', 'id', id).incrby(`${data}-total`, amount),
  };
}

/** Messages with amounts of chance. */
export function messagesOf(count: number, random: () => number, name = 'm'): Message[] {
  return Array.from({ length: count }, (_, at) => ({ id: `${name}${at}`, amount: 1 + Math.floor(random() * 1_000) }));
}
