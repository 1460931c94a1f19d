/**
 * How an attempt ends: its commit, or its settlement. Of the two exactly one wins, and the caller is told which.
 *
 * Whether a commit may have been applied without our knowing is `doubt`: it arises with every copy that was handed over
 * and not provably refused, and then only an answer that tells of that very attempt may say "nothing was applied".
 */
import { monotonicMs } from '../clock.js';
import { type DedupError, InvalidOptionError, LeaseLostError, type NotDurableError } from '../errors.js';
import { ExchangeError } from '../redis/exchange.js';
import type { EffectList, ScriptArgs, ScriptReply } from '../redis/scripts.js';
import type { AttemptTerms } from './attempt.js';
import type { Parts } from './parts.js';
import { brokenRecord, outcomeUnknown, storeUnavailable } from './verdicts.js';

/** How an attempt that does not commit leaves its key. */
export interface Settlement {
  readonly as: 'released' | 'failed';
  /** `'failed'` counts towards `maxAttempts`; `'unstarted'` gives the attempt's number back. */
  readonly ended: 'failed' | 'interrupted' | 'unstarted';
  readonly ttlMs: number;
  readonly failure?: string;
}

/** What a commit brings. */
export interface Commitment {
  readonly retentionMs: number;
  readonly result: string | Buffer;
  readonly effects: EffectList;
  /**
   * Asks whether the sets that it marks ids in are used as others use them, where it does mark.
   *
   * @throws InvalidOptionError; ExchangeError, `unsent`
   */
  readonly agree?: (() => Promise<void>) | undefined;
  /** How many runs of the handler met a conflict before this one. */
  readonly run: number;
}

/** The script's number of the effect that a commit found impossible, and why; `reason` null for a condition. */
export interface Refusal {
  /** What to throw, where it is known here. */
  readonly error?: Error;
  readonly number: number;
  readonly reason: string | null;
  /** A copy of the commit may be under way still. */
  readonly doubt: boolean;
}

/** The commit phase may take this many times `redisTimeout`; the last of them is the settlement's. */
export const COMMIT_TIMEOUTS = 3;
const PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Commits, sending again what had no answer, until the phase is over; then settlement decides.
 *
 * @returns why nothing was applied, where a condition or a write is in the way: the attempt still holds its key
 * @throws LeaseLostError, BrokenRecordError, StoreUnavailableError: nothing was applied; OutcomeUnknownError
 */
export async function commit(
  parts: Parts,
  terms: AttemptTerms,
  { retentionMs, result, effects, agree, run }: Commitment,
): Promise<Refusal | undefined> {
  const { key, redisKey, token, fence, born } = terms;
  const { redisTimeoutMs } = parts.settings;
  const until = monotonicMs() + (COMMIT_TIMEOUTS - 1) * redisTimeoutMs;
  let doubt = false;
  let cause: ExchangeError | undefined;
  while (monotonicMs() < until) {
    try {
      if (agree) await agree();
      const args = { token, fence, born, run, retention_ms: retentionMs, channel: parts.hints.channel, result };
      const deadline = Math.min(until, parts.scripts.deadline());
      const { status, fields, steady } = await parts.scripts.call('commit', redisKey, args, { deadline, effects });
      doubt ||= !steady;
      if (status === 'done') return undefined;
      // No earlier copy was applied, or this one would have found the record completed.
      if (status === 'conflict') return { number: Number(fields[0]), reason: null, doubt };
      if (status === 'rejected') return { number: Number(fields[0]), reason: String(fields[1]), doubt };
      throw notCommitted(key, status, doubt);
    } catch (error) {
      if (error instanceof InvalidOptionError) return { error, number: 0, reason: 'refused', doubt };
      if (!(error instanceof ExchangeError)) throw error;
      cause = error;
      parts.storeError(terms, 'commit', error);
      doubt ||= error.failure === 'unknown';
      // A refusal that does not pass, or a connection that is closed, will not change within this phase.
      if ((error.code !== null && !error.passes) || parts.connection.redis.status === 'end') break;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
  await settleCommit(parts, terms, doubt, cause);
  return undefined;
}

/** After a commit without an answer: returns where it was applied after all. */
async function settleCommit(
  parts: Parts,
  terms: AttemptTerms,
  doubt: boolean,
  cause: ExchangeError | undefined,
): Promise<void> {
  const { key, ttlMs } = terms;
  let status: ScriptReply<'settle'>['status'];
  try {
    ({ status } = await settle(parts, terms, { as: 'released', ended: 'interrupted', ttlMs }));
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    throw doubt
      ? outcomeUnknown(key, cause)
      : storeUnavailable(key, cause ?? error, 'the handler ran, its result was not stored');
  }
  if (status === 'done') return;
  if (status === 'released' || status === 'failed') {
    throw storeUnavailable(key, cause, 'the handler ran, its result was not stored, the claim is released');
  }
  throw notCommitted(key, status, doubt);
}

/**
 * Ends an attempt that does not commit, and tells that it has.
 *
 * @throws ExchangeError when there is no answer
 */
export async function settle(
  parts: Parts,
  terms: AttemptTerms,
  settlement: Settlement,
): Promise<ScriptReply<'settle'>> {
  const { redisKey, token, fence, born } = terms;
  const { as, ended, ttlMs, failure = '' } = settlement;
  const args: ScriptArgs<'settle'> = {
    token,
    fence,
    born,
    as,
    ended,
    ttl_ms: ttlMs,
    channel: parts.hints.channel,
    failure,
  };
  try {
    const reply = await parts.scripts.call('settle', redisKey, args);
    const { status } = reply;
    if (status === 'released' || status === 'failed') {
      const { attempt, claimedAt } = terms;
      parts.events.tell[status]?.(parts.about(terms, { attempt, ranMs: monotonicMs() - claimedAt }));
    }
    return reply;
  } catch (error) {
    if (error instanceof ExchangeError) parts.storeError(terms, 'settle', error);
    throw error;
  }
}

/**
 * Waits until a stored result is confirmed, where `durability` asks for that.
 *
 * @throws NotDurableError
 */
export async function confirm(
  parts: Parts,
  call: { readonly key: string; readonly redisKey: string },
  result: string | Buffer,
): Promise<void> {
  try {
    await parts.durability?.confirm(call, result);
  } catch (error) {
    const { cause } = error as NotDurableError;
    if (cause instanceof ExchangeError) parts.storeError(call, 'confirm', cause);
    throw error;
  }
}

/**
 * Does in the background what a call had no answer to, until there is one, or a refusal that will not pass: at the
 * latest until the lease ends, which ends the claim as well, and no longer than the connection is kept.
 */
export async function untilAnswered(parts: Parts, until: number, ask: () => Promise<unknown>): Promise<void> {
  let pauseMs = 100;
  while (monotonicMs() < until && parts.connection.redis.status !== 'end') {
    try {
      await ask();
      return;
    } catch (error) {
      if (!(error instanceof ExchangeError) || (error.code !== null && !error.passes)) return;
      await new Promise((resolve) => setTimeout(resolve, pauseMs).unref());
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
}

/** What a commit or settlement that found another state says of this attempt's commit. */
export function notCommitted(key: string, status: 'lost' | 'gone' | 'broken', doubt: boolean): DedupError {
  if (status === 'broken') return brokenRecord(key);
  // `lost` names the record's own history: this attempt is not the one that completed it. `gone` does not.
  if (status === 'gone' && doubt) return outcomeUnknown(key, undefined);
  const how = status === 'lost' ? 'Another attempt took over' : 'The record is gone';
  return new LeaseLostError(`${how}: nothing of this attempt was applied`, { key });
}
