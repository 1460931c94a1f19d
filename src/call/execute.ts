/** Runs a claimed key's handler and ends the attempt: committed, released, or failed for good. */
import { monotonicMs } from '../clock.js';
import { refusalError } from '../effects/refusal.js';
import { ClosedError, LeaseLostError } from '../errors.js';
import { writeFailure } from '../failure.js';
import type { ErrorPolicy } from '../options.js';
import { ExchangeError } from '../redis/exchange.js';
import type { ScriptReply } from '../redis/scripts.js';
import { onAbort } from '../signals.js';
import { type Attempt, HandlerRun, isPromiseLike } from './attempt.js';
import type { Call } from './call.js';
import { commit, notCommitted, type Refusal, type Settlement, settle, untilAnswered } from './finish.js';
import type { Answer, Parts } from './parts.js';
import { decodeResult, encodeResult } from './result.js';
import { outcomeUnknown } from './verdicts.js';

/** A handler's result. */
export interface Result {
  /** As it is stored. */
  readonly bytes: string | Buffer;
  /** As every caller gets it. */
  readonly value: unknown;
}

/**
 * The handler's result, once it is stored.
 *
 * @param tell is given what the key stands at, where that is the same for all who ask
 * @throws the handler's own error, or why its result was not stored
 */
export async function execute(
  parts: Parts,
  call: Call,
  attempt: Attempt,
  tell: (answer: Answer) => void,
): Promise<Result> {
  const { key, redisKey, mark, settings } = call;
  const { signal } = settings;
  const unlisten = onAbort(signal, (reason) => attempt.interrupt(reason));
  let committing = false;
  parts.begin(attempt);
  try {
    if (signal?.aborted || parts.closing.aborted) {
      await release(parts, attempt, 'unstarted');
      throw signal?.aborted ? signal.reason : new ClosedError('The Dedup is closing', { key });
    }
    for (let number = 0; ; number += 1) {
      const run = new HandlerRun(attempt, call, parts.recorder);
      let result: Result;
      let ran = false;
      try {
        let value: unknown = parts.callHandler(run, call.handler);
        if (isPromiseLike(value)) value = await value;
        ran = true;
        const bytes = encodeResult(parts, call, value);
        // Before the commit: what cannot be read back would be stored for nobody.
        result = { bytes, value: decodeResult(call, bytes) };
      } catch (error) {
        await (ran ? release(parts, attempt, 'failed') : endFailed(parts, call, attempt, error, tell));
        throw error;
      }
      committing = true;
      const { effects, agree } = run;
      const retentionMs = mark?.keptMs ?? settings.retentionMs;
      const commitment = { retentionMs, result: result.bytes, effects, agree, run: number };
      const refusal = await commit(parts, attempt.terms, commitment);
      committing = false;
      if (refusal) {
        // The same claim: no other attempt comes between, and an earlier run's commit can no longer be applied.
        if (refusal.reason === null && number < settings.conflictRetries && !attempt.isToEnd) continue;
        await refuse(parts, run, refusal);
      }
      if (call.facts) call.facts.effects = run.commands;
      tell({ status: 'completed', attempt: attempt.terms.attempt, result: result.bytes });
      return result;
    }
  } catch (error) {
    if (committing && error instanceof LeaseLostError) attempt.lease.lose('taken_over');
    throw error;
  } finally {
    parts.end(attempt);
    unlisten();
    parts.hints.wake(redisKey);
  }
}

/**
 * Gives up an attempt whose commit was refused. Returns where a late copy of the commit was applied after all.
 *
 * @throws ConditionFailedError, EffectRejectedError, InvalidOptionError; LeaseLostError, BrokenRecordError; OutcomeUnknownError
 */
async function refuse(parts: Parts, run: HandlerRun, refusal: Refusal): Promise<void> {
  const { number, reason, doubt } = refusal;
  const { key } = run.attempt.terms;
  // A conflict says nothing against the handler.
  const status = await release(parts, run.attempt, reason === null ? 'interrupted' : 'failed');
  if (status === 'done') return;
  if (status instanceof ExchangeError) throw outcomeUnknown(key, status);
  if (status === 'released' || status === 'failed') {
    throw refusal.error ?? refusalError(key, run.origin(number), reason);
  }
  throw notCommitted(key, status, doubt);
}

/** After a handler that threw, or was cut off. */
async function endFailed(
  parts: Parts,
  { settings }: Call,
  attempt: Attempt,
  error: unknown,
  tell: (answer: Answer) => void,
): Promise<void> {
  if (attempt.interrupted) {
    await release(parts, attempt, 'interrupted');
  } else if (attempt.cut || policyFor(settings.onError, error) === 'release') {
    await release(parts, attempt, 'failed');
  } else {
    const failure = writeFailure(error);
    const status = await end(parts, attempt, { as: 'failed', ended: 'failed', ttlMs: settings.retentionMs, failure });
    if (status !== 'failed') return;
    tell({ status: 'failed', attempt: attempt.terms.attempt, failure: Buffer.from(failure) });
  }
}

function release(
  parts: Parts,
  attempt: Attempt,
  ended: Settlement['ended'],
): Promise<ScriptReply<'settle'>['status'] | ExchangeError> {
  return end(parts, attempt, { as: 'released', ended, ttlMs: attempt.terms.ttlMs });
}

/**
 * Settles, within one `redisTimeout`: what settle answered, or why it did not. An answer that may yet come is sought in
 * the background: the claim stands until then, or until its lease ends.
 */
async function end(
  parts: Parts,
  attempt: Attempt,
  settlement: Settlement,
): Promise<ScriptReply<'settle'>['status'] | ExchangeError> {
  const { terms } = attempt;
  const ask = async () => (await settle(parts, terms, settlement)).status;
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    if (error.code === null || error.passes) void untilAnswered(parts, monotonicMs() + terms.leaseMs, ask);
    return error;
  }
}

/** A policy that itself fails keeps nothing: the next call runs the handler again. */
function policyFor(onError: ErrorPolicy | ((error: unknown) => ErrorPolicy), error: unknown): ErrorPolicy {
  if (typeof onError !== 'function') return onError;
  try {
    return onError(error) === 'store' ? 'store' : 'release';
  } catch {
    return 'release';
  }
}
