/**
 * Callers that move money while servers come and go: each key's amount is added to a balance and entered in a ledger,
 * with its record. What each caller was told is judged in the end by what is there.
 */
import type { Redis } from 'ioredis';
import { expect } from 'vitest';
import { Dedup, type DedupError, type Effects, isDedupError } from '../../src/index.js';

/** `plain` writes nothing but its record: its result is all there is. */
type Kind = 'effects' | 'apply' | 'plain';
const KINDS: readonly Kind[] = ['effects', 'apply', 'plain'];
/** So many callers have each key, at about the same time. */
const CALLERS = 3;
const PAUSE_MS = 20;
const LONGEST_RUN_MS = 15;

/** What a caller was told. */
export interface Told {
  readonly caller: string;
  readonly key: string;
  readonly kind: Kind;
  /** What tells this result from another of the key: the run's number, or of `apply` the id of its entry. */
  readonly value?: string;
  readonly error?: DedupError;
  /** Of the caller's own runs: what they would have entered. */
  readonly runs: readonly string[];
  readonly tookMs: number;
  /** The calm that the call began and ended in. */
  readonly calm?: number | undefined;
}

export class Ledger {
  readonly told: Told[] = [];
  /** A number while all callers are on one server that stays what it is. */
  calm: number | undefined;
  readonly #lines: Promise<void>[] = [];
  #over = false;
  #calls = 0;
  #runs = 0;

  constructor(
    private readonly namespace: string,
    private readonly random: () => number,
  ) {}

  /** Calls one key after the other until the end. */
  addCaller(caller: string, dedup: Dedup): void {
    const line = async () => {
      while (!this.#over) {
        const number = Math.floor(this.#calls++ / CALLERS);
        this.told.push(await this.#call(caller, dedup, number));
        await this.#pause(PAUSE_MS + this.random() * PAUSE_MS);
      }
    };
    this.#lines.push(line());
  }

  /** No caller begins another call; settles when every call has. */
  async end(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#lines);
  }

  /** Fails where a caller came upon an error that is none of the library's. */
  get failure(): Promise<never> {
    return Promise.all(this.#lines).then(() => new Promise<never>(() => {}));
  }

  async #call(caller: string, dedup: Dedup, number: number): Promise<Told> {
    const [key, kind] = [`k${number}`, KINDS[number % KINDS.length] as Kind];
    const runs: string[] = [];
    const [{ calm }, startedAt] = [this, performance.now()];
    const begin = () => {
      const run = String(this.#runs++);
      runs.push(run);
      return run;
    };
    const ask = async (): Promise<string> => {
      if (kind === 'apply') {
        const { replies } = await dedup.apply(key, (tx) => this.#enter(tx, key, number, begin()));
        return String(replies[0]);
      }
      return dedup.once(key, async ({ tx }) => {
        const run = begin();
        if (kind === 'effects') this.#enter(tx, key, number, run);
        await this.#pause(this.random() * LONGEST_RUN_MS);
        return run;
      });
    };
    const came = await ask().then(
      (value) => ({ value }),
      (error: unknown) => {
        if (!isDedupError(error)) throw error;
        return { error };
      },
    );
    const tookMs = performance.now() - startedAt;
    return { caller, key, kind, ...came, runs, tookMs, calm: this.calm === calm ? calm : undefined };
  }

  #enter(tx: Effects, key: string, number: number, run: string): void {
    const cents = amountOf(number);
    tx.xadd(`${this.namespace}-ledger`, '*', 'key', key, 'run', run, 'cents', cents);
    tx.incrby(`${this.namespace}-balance`, cents);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  /**
   * Judges what was told by what is there now, on one server and after the end: record and entry together or not at all,
   * the balance their sum; what was surely not done is not there; in each calm all who got a result got the same.
   *
   * @param calms those in which the server stayed what it was
   * @returns the results that were given out and are not there any more
   */
  async judge(redis: Redis, calms: ReadonlySet<number>, context: string): Promise<Told[]> {
    const { namespace, told } = this;
    const keys = [...new Set(told.map(({ key }) => key))];
    const look = redis.multi().xrange(`${namespace}-ledger`, '-', '+').get(`${namespace}-balance`);
    // The state of a record is its second byte (docs/protocol.md).
    for (const key of keys) look.getrange(`${namespace}:${key}`, 1, 1);
    const [entries, balance, ...states] = ((await look.exec()) ?? []).map(([error, reply]) => {
      if (error) throw error;
      return reply;
    }) as [[id: string, words: string[]][], string | null, ...string[]];
    const completed = keys.filter((_, index) => states[index] === 'C');
    const stored = await this.#storedResults(redis, completed);

    const ledger = entries.map(([id, [, key = '', , run = '', , cents = '']]) => ({ id, key, run, cents }));
    const entered = ledger.map(({ id, key, run }) => `${key} ${kindOf(key) === 'apply' ? id : run}`).sort();
    const recorded = completed.filter((key) => kindOf(key) !== 'plain').map((key) => `${key} ${stored.get(key)}`);
    expect(entered, `${context}: entries and completed records`).toEqual(recorded.sort());
    const sum = ledger.reduce((total, { cents }) => total + Number(cents), 0);
    expect(Number(balance), `${context}: balance`).toBe(sum);

    const runs = new Set(ledger.map(({ run }) => run));
    const surelyNot = ['STORE_UNAVAILABLE', 'LEASE_LOST', 'IN_PROGRESS'];
    const wronglyDenied = told.filter(
      ({ error, runs: own }) => error && surelyNot.includes(error.code) && own.some((run) => runs.has(run)),
    );
    expect(wronglyDenied, `${context}: told that nothing was applied`).toEqual([]);

    const given = new Map<string, Set<string>>();
    for (const { key, value, calm } of told) {
      if (value === undefined || calm === undefined || !calms.has(calm)) continue;
      const together = `${key} in calm ${calm}`;
      given.set(together, (given.get(together) ?? new Set()).add(value));
    }
    const torn = [...given].filter(([, values]) => values.size > 1).map(([together]) => together);
    expect(torn, `${context}: results that differ`).toEqual([]);
    return told.filter(({ key, value }) => value !== undefined && stored.get(key) !== value);
  }

  async #storedResults(redis: Redis, completed: readonly string[]): Promise<Map<string, string>> {
    const dedup = new Dedup(redis, { namespace: this.namespace });
    const never = () => expect.fail('it is completed');
    const once = await dedup.onceMany(
      completed.filter((key) => kindOf(key) !== 'apply'),
      { key: (key) => key, handler: never },
    );
    const applied = await dedup.applyMany(
      completed.filter((key) => kindOf(key) === 'apply').map((key) => ({ key, write: (tx) => void tx.incr('never') })),
    );
    await dedup.close();
    const results = new Map<string, string>();
    for (const outcome of once) {
      expect(outcome).toMatchObject({ status: 'replayed' });
      if (outcome.status === 'replayed') results.set(outcome.key, String(outcome.value));
    }
    for (const outcome of applied) {
      expect(outcome).toMatchObject({ status: 'replayed' });
      if (outcome.status === 'replayed') results.set(outcome.key, String(outcome.replies[0]));
    }
    return results;
  }
}

function kindOf(key: string): Kind {
  return KINDS[Number(key.slice(1)) % KINDS.length] as Kind;
}

function amountOf(number: number): number {
  return 1 + (number % 97);
}
