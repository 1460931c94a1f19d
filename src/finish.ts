/**
 * How an attempt ends: its commit, or its settlement. Of the two exactly one wins, and the caller is told which.
 *
 * Whether a commit may have been applied without our knowing is `doubt`: it arises with every copy that was handed over
 * and not provably refused, and then only an answer that tells of that very attempt may say "nothing was applied".
 */
import type { AttemptTerms } from './attempt.js';
import { monotonicMs } from './clock.js';
import {
  BrokenRecordError,
  type DedupError,
  LeaseLostError,
  OutcomeUnknownError,
  StoreUnavailableError,
} from './errors.js';
import type { Parts } from './parts.js';
import { ExchangeError } from './redis/connection.js';
import type { ScriptArgs, ScriptReply } from './redis/scripts.js';

/** How an attempt that does not commit leaves its key. */
export interface Settlement {
  readonly as: 'released' | 'failed';
  /** `'failed'` counts towards `maxAttempts`; `'unstarted'` gives the attempt's number back. */
  readonly ended: 'failed' | 'interrupted' | 'unstarted';
  readonly ttlMs: number;
  readonly failure?: string;
}

/** The commit phase may take this many times `redisTimeout`; the last of them is the settlement's. */
const COMMIT_TIMEOUTS = 3;
const PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Commits, sending again what had no answer, until the phase is over; then settlement decides.
 *
 * @throws LeaseLostError, BrokenRecordError, StoreUnavailableError: nothing was applied; OutcomeUnknownError
 */
export async function commit(
  parts: Parts,
  terms: AttemptTerms,
  retentionMs: number,
  result: string | Buffer,
): Promise<void> {
  const { key, redisKey, token, fence, born } = terms;
  const { redisTimeoutMs } = parts.settings;
  const until = monotonicMs() + (COMMIT_TIMEOUTS - 1) * redisTimeoutMs;
  let doubt = false;
  let cause: ExchangeError | undefined;
  while (monotonicMs() < until) {
    try {
      const args = { token, fence, born, retention_ms: retentionMs, channel: parts.hints.channel, result };
      const deadline = Math.min(until, parts.scripts.deadline());
      const reply = await parts.scripts.call('commit', redisKey, args, deadline);
      doubt ||= !reply.steady;
      if (reply.status === 'done') return;
      throw notCommitted(key, reply.status, doubt);
    } catch (error) {
      if (!(error instanceof ExchangeError)) throw error;
      cause = error;
      parts.events.emit('storeError', parts.subject(terms), { operation: 'commit', code: error.code });
      doubt ||= error.failure === 'unknown';
      // A refusal that does not pass, or a connection that is closed, will not change within this phase.
      if ((error.code !== null && !error.passes) || parts.connection.redis.status === 'end') break;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
  await settleCommit(parts, terms, doubt, cause);
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
 * Ends an attempt that does not commit.
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
    return await parts.scripts.call('settle', redisKey, args);
  } catch (error) {
    if (error instanceof ExchangeError) {
      parts.events.emit('storeError', parts.subject(terms), { operation: 'settle', code: error.code });
    }
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
function notCommitted(key: string, status: 'lost' | 'gone' | 'broken', doubt: boolean): DedupError {
  if (status === 'broken') return brokenRecord(key);
  // `lost` names the record's own history: this attempt is not the one that completed it. `gone` does not.
  if (status === 'gone' && doubt) return outcomeUnknown(key, undefined);
  const how = status === 'lost' ? 'Another attempt took over' : 'The record is gone';
  return new LeaseLostError(`${how}: nothing of this attempt was applied`, { key });
}

export function brokenRecord(key: string): BrokenRecordError {
  return new BrokenRecordError('An earlier commit of this key broke off: look at its data, then `forget` it', { key });
}

function outcomeUnknown(key: string, cause: ExchangeError | undefined): OutcomeUnknownError {
  const why = cause ? 'Redis did not answer' : 'the record is gone, and the connection had dropped meanwhile';
  return new OutcomeUnknownError(
    `The commit may or may not have happened: ${why}. A later call with the key settles it`,
    { key, cause },
  );
}

const REFUSALS: Record<string, string> = {
  OOM: 'Redis is out of memory (`maxmemory`)',
  READONLY: 'Redis is a read-only replica',
  NOPERM: 'the Redis user lacks a permission',
  NOAUTH: 'the connection is not authenticated',
  MISCONF: 'Redis refuses writes since it cannot persist them',
  NOREPLICAS: 'Redis refuses writes for want of replicas',
  LOADING: 'Redis is loading its data',
  BUSY: 'Redis is busy with a script',
  MASTERDOWN: 'the replica has lost its primary',
  CLUSTERDOWN: 'the cluster is down',
  TRYAGAIN: 'a slot is being moved',
};

/** Nothing was applied: says which refusal it was, and what stands. */
export function storeUnavailable(
  key: string | undefined,
  cause: ExchangeError | undefined,
  stands: string,
): StoreUnavailableError {
  const why = cause?.code
    ? (REFUSALS[cause.code] ?? `Redis answered ${cause.code}`)
    : (cause?.message ?? 'Redis did not answer');
  return new StoreUnavailableError(`${why.replace(/^./, (first) => first.toUpperCase())}: ${stands}`, { key, cause });
}
