/**
 * What must hold of one key over all its life: who was told what, and what was applied. Each single step is judged by
 * step-rules.ts.
 */
import { LeaseLostError, StoreUnavailableError } from '../../src/errors.js';
import { type AttemptId, nameOf } from './callers.js';
import { isSameData, isSameRecord, isTaken, judgeStep, type Ran, tokenOf } from './step-rules.js';
import { type Guarantee, must, Violation } from './violation.js';
import { NOTHING, type View } from './world.js';

/** As many given-up attempts as a record promises to remember, beside the one that has it. */
const REMEMBERED = 9;

export class Checker {
  /** The key as it was last seen. */
  view: View = NOTHING;
  /** Attempts that were applied at any time, and their tokens and fences. */
  readonly #applied = new Set<string>();
  readonly #stored = new Set<string>();
  /** Attempts, and runs of attempts, that must not be applied from now on, and why. */
  readonly #dead = new Map<string, string>();
  /** What `born` the key's records had, and those that two of them had: the clock had gone back to the very µs. */
  readonly #borns = new Set<number>();
  readonly #bornTwice = new Set<number>();
  /** First halves of the tokens that have had this record, newest first. */
  #owners: string[] = [];

  constructor(private readonly key: number) {}

  /** Nobody spoke of the key. */
  untouched(now: View): void {
    this.#judge(() => {
      must(isSameRecord(this.view, now) && isSameData(this.view, now), 'G9', 'changed by a message for other keys');
    });
  }

  /** Somebody else touched it: the record expired, or the data changed. */
  changed(now: View): void {
    const { record } = now;
    if (!record) this.#owners = [];
    else if (!this.view.record) {
      this.#owners = [];
      if (this.#borns.has(record.born)) this.#bornTwice.add(record.born);
      this.#borns.add(record.born);
    }
    if (record && record.fence !== this.view.record?.fence) this.#owners.unshift(record.token.slice(0, 8));
    this.view = now;
  }

  /** A list with a message for the key ran. */
  ran(ran: Omit<Ran, 'before'>): void {
    if (ran.status === 'large') {
      this.untouched(ran.after);
      return;
    }
    this.#judge(() => {
      const whole = { ...ran, before: this.view };
      judgeStep(whole);
      const { name } = ran.message.call;
      if (name === 'claim' || name === 'apply') this.#asked(whole);
      if (name === 'commit' || name === 'settle') this.#ended(whole);
    });
    this.changed(ran.after);
  }

  /** A commit of the library's came to its end. */
  told(attempt: AttemptId, error: unknown): void {
    this.#judge(() => {
      const isStored = this.#stored.has(storedName(attempt));
      must(error !== undefined || isStored, 'G5', `${nameOf(attempt)} was told as stored, and it is not`);
      if (error instanceof LeaseLostError || error instanceof StoreUnavailableError) {
        this.#neverApplied(attempt, 'G7', `it was told ${error.code}`);
      }
    });
  }

  #asked(ran: Ran): void {
    const { status, after } = ran;
    const half = tokenOf(ran).slice(0, 8);
    if (status === 'stale') must(this.#owners.includes(half), 'G8', 'stale, though its token never had the record');
    const was = ran.before.record;
    const isFree = was?.state === 'L' || (was?.state === 'R' && was.leaseEndMs <= ran.nowMs);
    if (isFree && status !== 'owned' && this.#owners.slice(0, REMEMBERED).includes(half)) {
      must(/^(stale|mismatch|other_kind)$/.test(status), 'G4', `${status}, told to a token that was given up`);
    }
    if (!isTaken(ran) || !after.record) return;
    const { born, fence } = after.record;
    must(!was || !this.#owners.slice(0, REMEMBERED).includes(half), 'G4', 'taken by a token that was given up');
    // The clock went back to the µs in which it was given a record that has vanished since: it is the same attempt again.
    const { token } = ran.message.call.args as AttemptId;
    this.#dead.delete(nameOf({ token, fence, born }));
  }

  #ended(ran: Ran): void {
    const { message, status, before, after } = ran;
    const attempt = message.call.args as unknown as AttemptId & { run?: number };
    const [name, { run }] = [nameOf(attempt), attempt];
    if (after.record?.state === 'C' && before.record?.state !== 'C') {
      const why = this.#dead.get(name) ?? this.#dead.get(`${name}:${run}`);
      must(why === undefined, 'G4', `${name} was applied, and before ${why}`);
      this.#applied.add(name);
      this.#stored.add(storedName(attempt));
    }
    if (status === 'released' || status === 'failed') {
      this.#neverApplied(attempt, 'G5', `its settlement was answered ${status}`);
    }
    if (status === 'lost') this.#neverApplied(attempt, 'G3', 'it was answered lost');
    if (status === 'gone') this.#dead.set(name, 'it was answered gone');
    if (status === 'conflict') this.#dead.set(`${name}:${run}`, 'it met a conflict');
  }

  /** It was not applied before, and is not from now on. */
  #neverApplied(attempt: AttemptId, guarantee: Guarantee, why: string): void {
    // Of two records with the same `born` nobody can tell which one is meant.
    const [name, isOfTwo] = [nameOf(attempt), this.#bornTwice.has(attempt.born)];
    must(isOfTwo || !this.#applied.has(name), guarantee, `${name} was applied, and ${why}`);
    this.#dead.set(name, why);
  }

  #judge(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      if (error instanceof Violation) error.key = this.key;
      throw error;
    }
  }
}

/** `done` is told by token and fence alone. */
function storedName({ token, fence }: AttemptId): string {
  return `${token}:${fence}`;
}
