/**
 * What one message may do to one key: judged on what it said, what it was answered, and what was there before and after.
 * The rules are the guarantees' (docs/guarantees.md), and know nothing of how the scripts keep them.
 */
import type { Message, Reply } from './message.js';
import { must } from './violation.js';
import type { View } from './world.js';

/** A message that the server ran. */
export interface Ran {
  readonly message: Message;
  readonly status: string;
  readonly fields: Reply['fields'];
  readonly before: View;
  readonly after: View;
  readonly nowMs: number;
}

/** @throws Violation */
export function judgeStep(ran: Ran): void {
  const { message, status, before, after } = ran;
  const { call } = message;
  must(status !== 'refused', 'G7', `${call.name} was refused: ${ran.fields}`);
  judgeRecord(ran);
  judgeWrites(ran);
  judgeExpiry(ran);
  if (call.name === 'claim' || call.name === 'apply') judgeAsked(ran);
  if (call.name === 'claim') judgeClaim(ran);
  else if (call.name === 'apply') judgeApply(ran);
  else if (call.name === 'renew') judgeRenewal(ran);
  else if (call.name === 'commit') judgeCommit(ran);
  else if (call.name === 'settle') judgeSettlement(ran);
  else if (call.name === 'forget') {
    const isKept = before.record?.state === 'R' && call.args.force !== '1';
    const wanted = !before.record ? 'none' : isKept ? 'running' : 'forgotten';
    must(status === wanted, 'G3', `forget was answered ${status}, not ${wanted}`);
    must(isKept || !after.record, 'G2', 'forgotten, and there');
  } else must(isSameRecord(before, after), 'G9', 'inspect changed the record');
}

/** What no message may do to a record. */
function judgeRecord({ message: { call }, status, before: { record: was }, after: { record: is } }: Ran): void {
  if (!was) return;
  if (!is) {
    must(call.name === 'forget' && status === 'forgotten', 'G1', `the record is gone by a ${call.name}`);
    return;
  }
  must(!'CFXB'.includes(was.state) || was.raw.equals(is.raw), 'G1', `a record that is ${was.state} was changed`);
  must(is.born === was.born, 'G3', 'born has changed');
  must(is.fence >= was.fence, 'G4', 'the fence went back');
  must(was.fingerprint === '' || is.fingerprint === was.fingerprint, 'G6', 'the fingerprint has changed');
}

/** Writes and completed record: both or neither. */
function judgeWrites({ message: { call, writing }, status, before, after }: Ran): void {
  const { adds, conditions, impossible } = writing;
  if (after.record?.state !== 'C' || before.record?.state === 'C') {
    must(isSameData(before, after), 'G2', `data written by a call of ${call.name} that was answered ${status}`);
    return;
  }
  must(call.name === 'commit' || call.name === 'apply', 'G2', `completed by ${call.name}`);
  const isWhole =
    after.count === before.count + adds.count &&
    after.version === before.version + adds.version &&
    after.logged === before.logged + (adds.entry === undefined ? 0 : 1) &&
    (adds.entry === undefined || after.lastEntry === adds.entry);
  must(isWhole, 'G2', 'completed without all of its writes, or with others');
  must(impossible === undefined, 'G2', 'completed, though a write was impossible');
  must(
    conditions.every(({ holds }) => holds(before)),
    'G2',
    'completed, though a condition did not hold',
  );
}

/** How long a record is kept that was put there. */
function judgeExpiry({ message: { call }, status, before: { record: was }, after: { record, ttlMs } }: Ran): void {
  if (!record || (record.state === was?.state && record.fence === was.fence && status !== 'renewed')) return;
  const { ttl_ms, retention_ms } = call.args as { ttl_ms?: number; retention_ms?: number };
  const wanted = record.state === 'B' ? -1 : 'CX'.includes(record.state) ? retention_ms : ttl_ms;
  must(ttlMs === wanted, 'G1', `a record that is ${record.state} lives for ${ttlMs} ms, not ${wanted}`);
}

const TAKES = /^(owned|applied|conflict|rejected)$/;

/** Did the key pass to this attempt? */
export function isTaken({ status, before, after }: Ran): boolean {
  return TAKES.test(status) && !isSameRecord(before, after);
}

export function tokenOf({ message: { call } }: Ran): string {
  return (call.args as { token: string }).token;
}

/** What all who ask are answered of a record that stays as it is. */
const FINAL: Record<string, string> = { C: 'completed', F: 'failed', X: 'exhausted', B: 'broken' };

/** claim and apply: how the key stands, told to who asks for it. */
function judgeAsked(ran: Ran): void {
  const { message, status, fields, before, after, nowMs } = ran;
  const { call } = message;
  const { fingerprint, max_attempts } = call.args as { fingerprint: Buffer | ''; max_attempts: number };
  const [was, is] = [before.record, after.record];
  const half = tokenOf(ran).slice(0, 8);
  const isOther = was !== undefined && was.fingerprint !== '' && was.fingerprint !== fingerprint.toString('hex');
  must(
    isOther === (status === 'mismatch'),
    'G6',
    `${status}, and the fingerprint is ${isOther ? 'another' : 'the same'}`,
  );
  const [, bytes] = fields;
  if (status === 'completed' || (status === 'applied' && was?.state === 'C')) {
    must(was?.state === 'C' && was.rest.equals(bytes as Buffer), 'G6', 'answered with other bytes than are stored');
  }
  if (status === 'failed') must(was?.state === 'F' && was.rest.equals(bytes as Buffer), 'G6', 'another failure');
  if (!was) must(TAKES.test(status), 'G8', `${status} without a record`);
  else if (!isOther && was.ofApply !== (call.name === 'apply')) {
    const isRunning = call.name === 'apply' && was.state === 'R' && was.leaseEndMs > nowMs;
    must(status === (isRunning ? 'busy' : 'other_kind'), 'G6', `${status} of a record of the other kind`);
  } else if (!isOther && FINAL[was.state] !== undefined) {
    const wanted = FINAL[was.state] === 'completed' && status === 'applied' ? status : FINAL[was.state];
    must(status === wanted, 'G6', `${status} of a record that is ${wanted}`);
  }
  if (was?.ofApply === (call.name === 'apply') && was.token.startsWith(half) && !isOther) {
    const wanted = { R: 'owned', C: call.name === 'apply' ? 'applied' : 'completed' }[was.state as string];
    must(wanted === undefined || status === wanted, 'G5', `a copy of what holds the record was answered ${status}`);
  }
  if (status === 'busy') {
    const left = Number(fields[0]);
    must(was?.state === 'R' && was.leaseEndMs > nowMs, 'G8', 'busy, though the lease has ended');
    must(left > 0 && left <= was.leaseMs, 'G8', `busy for ${left} ms, longer than the lease`);
  } else if (status === 'exhausted') {
    const failures = is?.failures ?? 0;
    const isNow = was?.state !== 'X';
    must(is?.state === 'X', 'G8', 'exhausted, and the record is not');
    must(!isNow || (max_attempts > 0 && failures >= max_attempts), 'G8', `exhausted by ${failures} failures`);
  } else if (isTaken(ran)) judgeTaken(ran, max_attempts);
  else must(isSameRecord(before, after), 'G3', `answered ${status}, and changed the record`);
}

function judgeTaken(ran: Ran, maxAttempts: number): void {
  const [was, is] = [ran.before.record, ran.after.record];
  must(is?.token.slice(0, 8) === tokenOf(ran).slice(0, 8), 'G3', 'taken by another token than asked');
  if (!was || !is) return;
  const { fingerprint } = ran.message.call.args as { fingerprint: Buffer | '' };
  const kept = was.fingerprint || fingerprint.toString('hex');
  must(is.fingerprint === kept, 'G6', 'the record has not the fingerprint of who took it');
  must(is.fence > was.fence, 'G4', 'taken, and the fence did not rise');
  must(is.attempt === was.attempt + 1, 'G4', `attempt ${is.attempt} after ${was.attempt}`);
  const failures = was.failures + (was.state === 'R' ? 1 : 0);
  must(maxAttempts === 0 || failures < maxAttempts, 'G8', `taken after ${failures} failures of ${maxAttempts}`);
  must(is.state !== 'R' || is.failures === failures, 'G8', `${is.failures} failures, not ${failures}`);
}

function judgeClaim({ message: { call }, status, fields, before, after, nowMs }: Ran): void {
  const [was, is] = [before.record, after.record];
  if (status === 'busy') {
    must((is?.leaseEndMs ?? 0) <= nowMs + (is?.leaseMs ?? 0), 'G8', 'the lease ends further away than it is long');
  }
  if (status !== 'owned') {
    const isFree = !was || was.state === 'L' || (was.state === 'R' && was.leaseEndMs <= nowMs);
    const mayBe = ['mismatch', 'other_kind', 'stale', 'exhausted'].includes(status);
    must(!isFree || mayBe, 'G8', `${status}, though nobody holds the key`);
    return;
  }
  const token = (call.args as { token: string }).token;
  must(is?.state === 'R' && is.token === token, 'G1', 'owned, and the record is of another');
  must(fields[1] === is.fence && fields[2] === is.born, 'G3', 'owned by another fence, or born');
  if (String(fields[3]) === 'resend') {
    must(was?.state === 'R' && was.token === token && isSameRecord(before, after), 'G4', 'it was no copy');
  } else if (was?.state === 'R') {
    const left = Math.min(was.leaseEndMs - nowMs, was.leaseMs);
    must(left <= 0, 'G1', `taken over ${left} ms before the lease ends`);
  } else must(!was || was.state === 'L', 'G1', `a record that is ${was?.state} was taken`);
}

function judgeApply(ran: Ran): void {
  const { message, status, before, after } = ran;
  const [was, is] = [before.record, after.record];
  must(!was || was.ofApply || isSameRecord(before, after), 'G1', 'apply changed a record of once');
  if (!TAKES.test(status)) return;
  const state = status === 'applied' ? 'C' : 'L';
  must(is?.state === state && is.token === tokenOf(ran).slice(0, 8), 'G5', `${status}, and the record is ${is?.state}`);
  if (!isTaken(ran)) return;
  must((status === 'conflict') === hasUnmet(ran), 'G2', `${status}, conditions hold: ${!hasUnmet(ran)}`);
  must(status !== 'rejected' || message.writing.impossible !== undefined, 'G2', 'rejected, and all could be written');
}

function hasUnmet({ message: { writing }, before }: Ran): boolean {
  return writing.conditions.some(({ holds }) => !holds(before));
}

/** Who speaks for an attempt: does it hold the record, and is the record its work? */
function standingOf(ran: Ran) {
  const [was, is] = [ran.before.record, ran.after.record];
  const { fence, born } = ran.message.call.args as { fence: number; born?: number };
  const token = tokenOf(ran);
  const isSame = born === undefined || born === was?.born;
  const isHolder = was?.state === 'R' && was.token === token && was.fence === fence && isSame;
  const isItsWork = is !== undefined && is.fence === fence && is.token.startsWith(token.slice(0, 8));
  return { was, is, isHolder, isItsWork };
}

function judgeRenewal(ran: Ran): void {
  const { was, is, isHolder } = standingOf(ran);
  const { lease_ms } = ran.message.call.args as { lease_ms: number };
  must(isHolder || isSame(ran), 'G3', 'a renewal changed a record that it does not hold');
  const wanted = isHolder ? 'renewed' : was?.state === 'B' ? 'broken' : 'lost';
  must(ran.status === wanted, 'G3', `a renewal was answered ${ran.status}, not ${wanted}`);
  must(!isHolder || is?.leaseEndMs === ran.nowMs + lease_ms, 'G8', 'renewed for another time');
}

function judgeEnd(ran: Ran): ReturnType<typeof standingOf> {
  const standing = standingOf(ran);
  const { is, isHolder, isItsWork } = standing;
  const { status, message } = ran;
  must(isHolder || isSame(ran), 'G3', `${message.call.name} changed a record that it does not hold`);
  const isStored = is?.state === 'C' && isItsWork;
  must((status === 'done') === isStored, 'G5', `${message.call.name} was answered ${status}, stored: ${isStored}`);
  must(!isHolder || !/^(lost|gone|broken)$/.test(status), 'G5', `${status}, said to the holder`);
  const wanted = isHolder ? status : answerOf(ran, standing);
  must(status === wanted, 'G5', `${message.call.name} was answered ${status}, not ${wanted}`);
  return standing;
}

/** What one learns that does not hold the record: who won, or that the record it knew is gone. */
function answerOf({ message: { call } }: Ran, { was, isItsWork }: ReturnType<typeof standingOf>): string {
  const { born } = call.args as { born: number };
  if (!was) return 'gone';
  if (was.state === 'B') return 'broken';
  if (isItsWork && was.state === 'C') return 'done';
  if (isItsWork && call.name === 'settle' && was.state === 'L') return 'released';
  if (isItsWork && call.name === 'settle' && was.state === 'F') return 'failed';
  return was.born === born ? 'lost' : 'gone';
}

function judgeCommit(ran: Ran): void {
  const { was, is, isHolder } = judgeEnd(ran);
  const { status, message } = ran;
  const { run, result } = message.call.args as { run: number; result: string };
  if (status === 'conflict') {
    const isLate = was?.run !== run;
    must(isLate || hasUnmet(ran), 'G2', 'a conflict, though all conditions hold');
    must(is?.state === 'R' && is.run === (was?.run ?? 0) + (isLate ? 0 : 1), 'G4', 'a conflict that is forgotten');
  }
  if (status === 'rejected') {
    must(message.writing.impossible !== undefined, 'G2', 'rejected, though all could be written');
    must(isSame(ran), 'G2', 'rejected, and something has changed');
  }
  if (status === 'done' && isHolder) must(is?.rest.toString() === result, 'G2', 'another result is stored');
}

function judgeSettlement(ran: Ran): void {
  const { was, is, isHolder, isItsWork } = judgeEnd(ran);
  const { status, fields } = ran;
  if (status === 'done') must(is?.rest.equals(fields[1] as Buffer) === true, 'G5', 'done, with other bytes');
  const left = { released: 'L', failed: 'F' }[status];
  must(left === undefined || (isItsWork && is?.state === left), 'G5', `${status}, and it is not`);
  const { as, ended } = ran.message.call.args as { as: string; ended: string };
  must(!isHolder || status === as, 'G5', `settled as ${status}, not ${as}`);
  if (!isHolder || is?.state !== 'L') return;
  const failures = was?.failures ?? 0;
  must(is.failures === failures + (ended === 'failed' ? 1 : 0), 'G8', `${is.failures} failures after ${failures}`);
  const attempt = (was?.attempt ?? 0) - (ended === 'unstarted' ? 1 : 0);
  must(is.attempt === attempt, 'G8', `attempt ${is.attempt} after ${was?.attempt}, ${ended}`);
}

export function isSameRecord({ record: a }: View, { record: b }: View): boolean {
  return a && b ? a.raw.equals(b.raw) : a === b;
}

export function isSameData(a: View, b: View): boolean {
  return a.count === b.count && a.logged === b.logged && a.lastEntry === b.lastEntry && a.version === b.version;
}

function isSame({ before, after }: Ran): boolean {
  return isSameRecord(before, after) && isSameData(before, after);
}
