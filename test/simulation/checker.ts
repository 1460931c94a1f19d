/**
 * What must hold of one key, judged after every list that the server ran, on what it answered and on record and data as
 * they were before and after. It knows the guarantees (docs/guarantees.md), not how the scripts keep them.
 */
import { LeaseLostError, OutcomeUnknownError, StoreUnavailableError } from '../../src/errors.js';
import { nameOf } from './callers.js';
import type { Message, Reply } from './message.js';
import { NOTHING, type View } from './world.js';

/** As many given-up attempts as a record promises to remember, and the one that gave it up last. */
const REMEMBERED = 9;

export class Violation extends Error {
  constructor(
    /** Such as `G3`. */
    readonly guarantee: string,
    readonly what: string,
    readonly key: number,
  ) {
    super(`${guarantee}: ${what}`);
  }
}

type Fields = Reply['fields'];

/** What a message speaks for. */
interface Claimed {
  readonly token: string;
  readonly fence: number;
  readonly born: number;
  readonly run: number;
  readonly attempt: string;
}

export class Checker {
  /** The key as it was last seen. */
  view: View = NOTHING;
  /** Attempts that have been applied at any time. */
  readonly #applied = new Set<string>();
  /** Attempts, and runs of attempts, that must not be applied from now on. */
  readonly #dead = new Map<string, string>();
  /** Attempts that their settlement has ended. */
  readonly #settled = new Set<string>();
  /** Attempts whose commit was judged by a record with the same `born` as that of another record of the key. */
  readonly #bornTwice = new Set<number>();
  readonly #borns = new Set<number>();
  /** First halves of the tokens that have had this record, newest first. */
  #owners: string[] = [];

  constructor(readonly key: number) {}

  #expect(holds: boolean, guarantee: string, what: string): void {
    if (!holds) throw new Violation(guarantee, what, this.key);
  }

  /** Nobody of the library touched the key. */
  untouched(now: View): void {
    this.#expect(sameRecord(this.view, now) && sameData(this.view, now), 'G9', 'changed by a message for other keys');
  }

  /** Somebody else touched it: the record expired, or the data changed. */
  changed(now: View): void {
    this.#adopt(now);
  }

  /** A list with this message ran. */
  ran(message: Message, status: string, fields: Fields, after: View, nowMs: number): void {
    const before = this.view;
    if (status === 'large') {
      this.untouched(after);
      return;
    }
    this.#expect(status !== 'refused', 'G1', `refused: ${fields.map(String)}`);
    const { name } = message.call;
    this.#stands(message, status, before, after);
    this.#wrote(message, status, before, after);
    if (name === 'claim' || name === 'apply') this.#asked(message, status, fields, before, after, nowMs);
    else if (name === 'commit' || name === 'settle' || name === 'renew') {
      this.#spoke(message, status, fields, before, after, nowMs);
    } else if (name === 'forget') {
      const running = before.record?.state === 'R' && message.call.args.force !== '1';
      this.#expect(running === (status === 'running'), 'G3', `forget of a running record: ${status}`);
      this.#expect(running || !after.record, 'G2', 'forgotten, and there');
    } else this.#expect(sameRecord(before, after), 'G9', 'inspect changed the record');
    const isPut = after.record?.state !== before.record?.state || after.record?.fence !== before.record?.fence;
    if (after.record && (isPut || status === 'renewed')) this.#expires(message, after);
    this.#adopt(after);
  }

  /** A call of the library's came to its end. */
  told(attempt: string, error: unknown): void {
    const applied = this.#applied.has(attempt);
    if (error === undefined) {
      this.#expect(applied, 'G5', `${attempt} told as stored, and it is not`);
      return;
    }
    if (error instanceof OutcomeUnknownError) return;
    if (error instanceof LeaseLostError || error instanceof StoreUnavailableError) {
      this.#neverApplied(attempt, 'G7', `told ${error.code}`);
    }
  }

  /** What no message may do to a record. */
  #stands({ call }: Message, status: string, { record: before }: View, { record: after }: View): void {
    if (!before) return;
    if (!after) {
      this.#expect(call.name === 'forget' && status === 'forgotten', 'G1', `the record is gone by a ${call.name}`);
      return;
    }
    if ('CFXB'.includes(before.state)) {
      this.#expect(before.raw.equals(after.raw), 'G1', `a record that is ${before.state} was changed`);
    }
    this.#expect(after.born === before.born, 'G3', 'born has changed');
    this.#expect(after.fence >= before.fence, 'G4', 'the fence went back');
    this.#expect(before.fingerprint === '' || after.fingerprint === before.fingerprint, 'G6', 'another fingerprint');
  }

  /** Writes and completed record: both or neither, and only by who may. */
  #wrote({ call, writing }: Message, status: string, before: View, after: View): void {
    const { adds } = writing;
    const completed = after.record?.state === 'C' && before.record?.state !== 'C';
    if (!completed) {
      this.#expect(sameData(before, after), 'G2', `data written by a ${call.name} that was answered ${status}`);
      return;
    }
    this.#expect(call.name === 'commit' || call.name === 'apply', 'G2', `completed by a ${call.name}`);
    const isWhole =
      after.count === before.count + adds.count &&
      after.version === before.version + adds.version &&
      after.logged === before.logged + (adds.entry === undefined ? 0 : 1) &&
      (adds.entry === undefined || after.lastEntry === adds.entry);
    this.#expect(isWhole, 'G2', 'completed without all of its writes, or with others');
    this.#expect(writing.impossible === undefined, 'G2', 'completed, though a write was impossible');
    const unmet = writing.conditions.some(({ holds }) => !holds(before));
    this.#expect(!unmet, 'G2', 'completed, though a condition did not hold');
  }

  #asked(message: Message, status: string, fields: Fields, before: View, after: View, nowMs: number): void {
    const { call } = message;
    if (call.name !== 'claim' && call.name !== 'apply') return;
    const { record } = before;
    const token = (call.args.token as Buffer).toString('hex');
    const half = token.slice(0, 16);
    const fingerprint = call.args.fingerprint === '' ? '' : (call.args.fingerprint as Buffer).toString('hex');
    const mismatch = record !== undefined && record.fingerprint !== '' && record.fingerprint !== fingerprint;
    this.#expect(mismatch === (status === 'mismatch'), 'G6', `${status}, though the fingerprint is another, or is not`);
    if (status === 'completed' || (status === 'applied' && record?.state === 'C')) {
      const result = fields[1] as Buffer;
      this.#expect(
        record?.state === 'C' && result.equals(record.rest),
        'G6',
        'answered with other bytes than are stored',
      );
    }
    if (status === 'failed') {
      this.#expect(record?.state === 'F' && (fields[1] as Buffer).equals(record.rest), 'G6', 'another failure');
    }
    if (!record) this.#expect(/^(owned|applied|conflict|rejected)$/.test(status), 'G8', `${status} without a record`);
    const isOwn = record?.ofApply === (call.name === 'apply') && record.token.startsWith(half);
    if (isOwn && !mismatch && (record.state === 'R' || record.state === 'C')) {
      const wanted = call.name === 'apply' ? 'applied' : record.state === 'R' ? 'owned' : 'completed';
      this.#expect(status === wanted, 'G5', `a copy of what holds the record was answered ${status}`);
    }
    const takes = /^(owned|applied|conflict|rejected)$/.test(status) && !sameRecord(before, after);
    if (takes) this.#took(call.args.max_attempts as number, token, half, before, after);
    if (status === 'busy') {
      const left = Number(fields[0]);
      this.#expect(record?.state === 'R' && record.leaseEndMs > nowMs, 'G8', 'busy, though its lease has ended');
      this.#expect(left > 0 && left <= (record?.leaseMs ?? 0), 'G8', `busy for ${left} ms, longer than the lease`);
      const end = after.record?.leaseEndMs ?? 0;
      if (call.name === 'claim') this.#expect(end <= nowMs + (record?.leaseMs ?? 0), 'G8', 'busy beyond the lease');
    }
    if (status === 'exhausted' && record && !sameRecord(before, after)) {
      const failures = after.record?.failures ?? 0;
      const most = Number(call.args.max_attempts);
      this.#expect(after.record?.state === 'X' && most > 0 && failures >= most, 'G8', `exhausted by ${failures}`);
    }
    if (status === 'stale') {
      const known = this.#owners.includes(half);
      this.#expect(known, 'G8', 'stale, though its token was never given up');
    }
    if (!takes && status !== 'exhausted' && status !== 'busy') {
      this.#expect(sameRecord(before, after), 'G3', `answered ${status}, and changed the record`);
    }
    if (call.name === 'claim') this.#claimed(status, fields, token, before, after, nowMs);
    else this.#appliedBy(message, status, half, before, after);
  }

  /** The key passed to another attempt. */
  #took(mostAttempts: number, token: string, half: string, before: View, after: View): void {
    const [was, is] = [before.record, after.record];
    this.#expect(is?.token.slice(0, 16) === half, 'G3', 'taken by another token than asked');
    if (!is) return;
    this.#expect(!this.#owners.slice(0, REMEMBERED).includes(half), 'G4', 'taken by a token that was given up');
    if (was) {
      this.#expect(is.fence > was.fence, 'G4', 'taken, and the fence did not rise');
      this.#expect(is.attempt === was.attempt + 1, 'G4', `attempt ${is.attempt} after ${was.attempt}`);
      const most = Number(mostAttempts);
      const failures = was.failures + (was.state === 'R' ? 1 : 0);
      this.#expect(most === 0 || failures < most, 'G8', `taken after ${failures} failures of ${most}`);
      if (is.state === 'R') this.#expect(is.failures === failures, 'G8', `${is.failures} failures, not ${failures}`);
    }
    // The clock went back to the very µs in which this attempt was given a key that has vanished since: it is the same again.
    this.#dead.delete(nameOf(Buffer.from(token, 'hex'), is.fence));
  }

  #claimed(status: string, fields: Fields, token: string, before: View, after: View, nowMs: number): void {
    const [was, is] = [before.record, after.record];
    if (status !== 'owned') {
      const free = !was || was.state === 'L' || (was.state === 'R' && was.leaseEndMs <= nowMs);
      const answers = ['mismatch', 'other_kind', 'stale', 'exhausted'];
      this.#expect(!free || answers.includes(status), 'G8', `${status}, though nobody holds the key`);
      return;
    }
    this.#expect(is?.state === 'R' && is.token === token, 'G1', 'owned, and the record is of another');
    this.#expect(
      Number(fields[1]) === is?.fence && Number(fields[2]) === is.born,
      'G3',
      'owned by another fence, or born',
    );
    const from = String(fields[3]);
    if (from === 'resend') {
      this.#expect(was?.state === 'R' && was.token === token && sameRecord(before, after), 'G4', 'no resend');
      return;
    }
    if (was?.state === 'R') {
      const left = Math.min(was.leaseEndMs - nowMs, was.leaseMs);
      this.#expect(left <= 0, 'G1', `taken over ${left} ms before the lease ends`);
    } else this.#expect(!was || was.state === 'L', 'G1', `a record that is ${was?.state} was taken`);
  }

  #appliedBy(message: Message, status: string, half: string, before: View, after: View): void {
    const [was, is] = [before.record, after.record];
    if (was && !was.ofApply) this.#expect(sameRecord(before, after), 'G1', 'apply changed a record of once');
    const isFree = !was || (was.ofApply && was.state === 'L');
    if (status === 'applied') {
      this.#expect(is?.state === 'C' && is.token === half, 'G5', 'told as applied, and it is not');
    }
    if (!isFree || !/^(applied|conflict|rejected)$/.test(status)) return;
    const state = status === 'applied' ? 'C' : 'L';
    this.#expect(is?.state === state && is.token === half, 'G2', `${status}, and the record is ${is?.state}`);
    const unmet = message.writing.conditions.find(({ holds }) => !holds(before));
    this.#expect((status === 'conflict') === (unmet !== undefined), 'G2', `${status}, conditions: ${unmet?.number}`);
  }

  /** commit, settle, renew: what an attempt says of itself. */
  #spoke(message: Message, status: string, fields: Fields, before: View, after: View, nowMs: number): void {
    const { call } = message;
    if (call.name !== 'commit' && call.name !== 'settle' && call.name !== 'renew') return;
    const [was, is] = [before.record, after.record];
    const claimed = claimedBy(call.args);
    const { attempt } = claimed;
    const isHolder = was?.state === 'R' && was.token === claimed.token && was.fence === claimed.fence;
    const born = call.name === 'renew' ? was?.born : claimed.born;
    if (!isHolder || was.born !== born) {
      this.#expect(same(before, after), 'G3', `a ${call.name} changed a record that it does not hold`);
    }
    const isOwn = is?.token.slice(0, 16) === claimed.token.slice(0, 16) && is.fence === claimed.fence;
    if (call.name === 'renew') {
      this.#expect((status === 'renewed') === isHolder, 'G3', `${status}, holder: ${isHolder}`);
      if (status !== 'renewed') return;
      this.#expect(is?.leaseEndMs === nowMs + Number(call.args.lease_ms), 'G8', 'renewed for another time');
      return;
    }
    const result = is?.state === 'C' && isOwn;
    this.#expect((status === 'done') === result, 'G5', `${call.name} was answered ${status}, stored: ${result}`);
    if (isHolder) this.#expect(status !== 'lost' && status !== 'gone', 'G5', `${status}, said to the holder`);
    if (call.name === 'settle') {
      if (status === 'done')
        this.#expect((fields[1] as Buffer).equals(is?.rest as Buffer), 'G5', 'done with other bytes');
      if (status === 'released' || status === 'failed') {
        this.#expect(isOwn && is?.state === (status === 'released' ? 'L' : 'F'), 'G5', `${status}, and it is not`);
        this.#neverApplied(attempt, 'G5', `its settlement was answered ${status}`);
        this.#settled.add(attempt);
      }
      if (isHolder && is?.state === 'L') {
        const { ended } = call.args;
        const failures = was.failures + (ended === 'failed' ? 1 : 0);
        this.#expect(is.failures === failures, 'G8', `${is.failures} failures after ${was.failures}, ${ended}`);
        const number = was.attempt - (ended === 'unstarted' ? 1 : 0);
        this.#expect(is.attempt === number, 'G8', `attempt ${is.attempt} after ${was.attempt}, ${ended}`);
      }
    } else this.#committed(message, status, claimed, before, after);
    if (status === 'lost') this.#neverApplied(attempt, 'G3', 'it was answered lost');
    if (status === 'gone') this.#dead.set(attempt, 'it was answered gone');
  }

  #committed(message: Message, status: string, { attempt, run }: Claimed, before: View, after: View): void {
    const { call, writing } = message;
    const [was, is] = [before.record, after.record];
    if (call.name !== 'commit') return;
    if (status === 'conflict') {
      const isKnown = was?.run !== run;
      const unmet = writing.conditions.find(({ holds }) => !holds(before));
      this.#expect(isKnown || unmet !== undefined, 'G2', 'a conflict, though all conditions hold');
      if (!isKnown) this.#expect(Number(message && unmet?.number) > 0, 'G2', 'a conflict of none');
      this.#expect(
        is?.state === 'R' && is.run === (was?.run ?? 0) + (isKnown ? 0 : 1),
        'G4',
        'a conflict that is forgotten',
      );
      this.#dead.set(`${attempt}:${run}`, 'it met a conflict');
      return;
    }
    if (status === 'rejected') {
      this.#expect(writing.impossible !== undefined, 'G2', 'rejected, though all writes are possible');
      this.#expect(sameRecord(before, after), 'G2', 'rejected, and the record has changed');
    }
    if (is?.state !== 'C' || was?.state === 'C') return;
    const stored = is.rest.toString();
    this.#expect(stored === String(call.args.result), 'G2', 'another result is stored than was committed');
    this.#expect(!this.#settled.has(attempt), 'G5', 'applied after its settlement had won');
    const why = this.#dead.get(attempt) ?? this.#dead.get(`${attempt}:${run}`);
    this.#expect(why === undefined, 'G4', `applied after ${why}`);
    this.#applied.add(attempt);
  }

  /** It was not applied before, and is not from now on. */
  #neverApplied(attempt: string, guarantee: string, why: string): void {
    // Of two records that were born in the same µs, the clock having gone back, nobody can tell which one is meant.
    const isBornTwice = this.#bornTwice.size > 0;
    this.#expect(isBornTwice || !this.#applied.has(attempt), guarantee, `${attempt} was applied, and ${why}`);
    this.#dead.set(attempt, why);
  }

  /** How long the record is kept. */
  #expires({ call }: Message, { record, ttlMs }: View): void {
    const { ttl_ms, retention_ms } = call.args as { ttl_ms?: number; retention_ms?: number };
    const state = record?.state as string;
    const wanted = state === 'B' ? -1 : 'CX'.includes(state) ? retention_ms : ttl_ms;
    if (wanted !== undefined) this.#expect(ttlMs === wanted, 'G1', `a record that is ${state} lives for ${ttlMs} ms`);
  }

  #adopt(now: View): void {
    const [was, is] = [this.view.record, now.record];
    this.view = now;
    if (!is) {
      this.#owners = [];
      return;
    }
    if (!was) {
      this.#owners = [];
      if (this.#borns.has(is.born)) this.#bornTwice.add(is.born);
      this.#borns.add(is.born);
    }
    const half = is.token.slice(0, 16);
    if (!was || was.fence !== is.fence) this.#owners.unshift(half);
  }
}

function claimedBy(args: object): Claimed {
  const { token, fence, born, run } = args as { token: Buffer; fence: number; born?: number; run?: number };
  const attempt = nameOf(token, fence);
  return { token: token.toString('hex'), fence, born: born ?? 0, run: run ?? 0, attempt };
}

function sameRecord({ record: a }: View, { record: b }: View): boolean {
  return a && b ? a.raw.equals(b.raw) : a === b;
}

function sameData(a: View, b: View): boolean {
  return a.count === b.count && a.logged === b.logged && a.lastEntry === b.lastEntry && a.version === b.version;
}

function same(a: View, b: View): boolean {
  return sameRecord(a, b) && sameData(a, b);
}
