/** Runs a claimed key's handler and ends the attempt: committed, released, or failed for good. */
import type { Attempt } from './attempt.js';
import { monotonicMs } from './clock.js';
import type { Recorder } from './effects/recorder.js';
import { refusalError } from './effects/refusal.js';
import { ClosedError, CodecError, LeaseLostError, ResultTooLargeError } from './errors.js';
import { writeFailure } from './failure.js';
import {
  type Commitment,
  commit,
  notCommitted,
  type Refusal,
  type Settlement,
  settle,
  untilAnswered,
} from './finish.js';
import { given } from './given.js';
import type { Call } from './once.js';
import type { ErrorPolicy } from './options.js';
import type { Answer, Parts } from './parts.js';
import { ExchangeError } from './redis/connection.js';
import type { ScriptReply } from './redis/scripts.js';
import { onAbort } from './signals.js';
import { outcomeUnknown } from './verdicts.js';

/**
 * The bytes of the handler's result, once they are stored.
 *
 * @param tell is given what the key stands at, where that is the same for all who ask
 * @throws the handler's own error, or why its result was not stored
 */
export async function execute(
  parts: Parts,
  call: Call,
  attempt: Attempt,
  tell: (answer: Answer) => void,
): Promise<Buffer> {
  const { key, redisKey, settings } = call;
  const unlisten = onAbort(settings.signal, (reason) => attempt.interrupt(reason));
  try {
    return await parts.whileRunning(attempt, async () => {
      if (settings.signal?.aborted || parts.closing.aborted) {
        await end(parts, attempt, { as: 'released', ended: 'unstarted', ttlMs: attempt.terms.ttlMs });
        throw settings.signal?.aborted ? settings.signal.reason : new ClosedError('The Dedup is closing', { key });
      }
      for (let run = 0; ; run += 1) {
        const recorder = parts.recorder(call);
        const value = await runHandler(parts, call, attempt, recorder, tell);
        const result = await encode(parts, call, attempt, value);
        const refusal = await commitResult(parts, call, attempt, { result, effects: recorder.effects, run });
        // The same claim: no other attempt comes between, and an earlier run's commit can no longer be applied.
        if (refusal?.reason === null && run < settings.conflictRetries && !attempt.isToEnd) continue;
        if (refusal) await refuse(parts, attempt, recorder, refusal);
        tell({ status: 'completed', attempt: attempt.terms.attempt, result });
        return result;
      }
    });
  } finally {
    unlisten();
    parts.hints.wake(redisKey);
  }
}

async function commitResult(
  parts: Parts,
  { settings }: Call,
  attempt: Attempt,
  commitment: Omit<Commitment, 'retentionMs'>,
): Promise<Refusal | undefined> {
  try {
    return await commit(parts, attempt.terms, { ...commitment, retentionMs: settings.retentionMs });
  } catch (error) {
    if (error instanceof LeaseLostError) attempt.lease.lose('taken_over');
    throw error;
  }
}

/**
 * Gives up an attempt whose commit was refused. Returns where a late copy of the commit was applied after all.
 *
 * @throws ConditionFailedError, EffectRejectedError; LeaseLostError, BrokenRecordError; OutcomeUnknownError
 */
async function refuse(parts: Parts, attempt: Attempt, recorder: Recorder, refusal: Refusal): Promise<void> {
  const { key, ttlMs } = attempt.terms;
  const { number, reason, doubt } = refusal;
  // A conflict says nothing against the handler.
  const ended = reason === null ? 'interrupted' : 'failed';
  const status = await end(parts, attempt, { as: 'released', ended, ttlMs });
  if (status === 'done') return;
  if (status instanceof ExchangeError) throw outcomeUnknown(key, status);
  if (status === 'released' || status === 'failed') throw refusalError(key, recorder.origin(number), reason);
  throw notCommitted(key, status, doubt);
}

async function runHandler(
  parts: Parts,
  call: Call,
  attempt: Attempt,
  recorder: Recorder,
  tell: (answer: Answer) => void,
): Promise<unknown> {
  const { onError, retentionMs } = call.settings;
  const { attempt: number, ttlMs } = attempt.terms;
  try {
    return await attempt.run(call.handler, recorder);
  } catch (error) {
    if (attempt.interrupted) {
      await end(parts, attempt, { as: 'released', ended: 'interrupted', ttlMs });
    } else if (attempt.cut || policyFor(onError, error) === 'release') {
      await end(parts, attempt, { as: 'released', ended: 'failed', ttlMs });
    } else {
      const failure = writeFailure(error);
      const status = await end(parts, attempt, { as: 'failed', ended: 'failed', ttlMs: retentionMs, failure });
      if (status === 'failed') tell({ status: 'failed', attempt: number, failure: Buffer.from(failure) });
    }
    throw error;
  }
}

/** @throws CodecError, ResultTooLargeError: nothing is stored, the claim is released */
async function encode(parts: Parts, call: Call, attempt: Attempt, value: unknown): Promise<Buffer> {
  try {
    return encodeResult(parts, call, value);
  } catch (error) {
    await end(parts, attempt, { as: 'released', ended: 'failed', ttlMs: attempt.terms.ttlMs });
    throw error;
  }
}

/** @throws CodecError, ResultTooLargeError */
export function encodeResult(parts: Parts, { key, redisKey, settings }: Call, value: unknown): Buffer {
  const { maxResultBytes } = parts.settings;
  let encoded: unknown;
  try {
    encoded = settings.codec.encode(value, { redisKey });
  } catch (cause) {
    throw new CodecError('The codec cannot encode the result', { key, cause });
  }
  if (typeof encoded !== 'string' && !(encoded instanceof Uint8Array)) {
    throw new CodecError(`Expected the codec to encode to a string or a Buffer, got ${given(encoded)}`, { key });
  }
  const result = Buffer.from(encoded as string);
  if (result.length > maxResultBytes) {
    throw new ResultTooLargeError(
      `Expected the result to be at most ${maxResultBytes} bytes (maxResultBytes), got ${result.length} bytes`,
      { key },
    );
  }
  return result;
}

/** @throws CodecError */
export function decodeResult({ key, redisKey, settings }: Call, result: Buffer): unknown {
  try {
    // A copy: a codec may keep or change what it is given, and the bytes are shared.
    return settings.codec.decode(Buffer.from(result), { redisKey });
  } catch (cause) {
    throw new CodecError('The codec cannot decode the stored result', { key, cause });
  }
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
  const { terms, ranMs } = attempt;
  const ask = async () => {
    const { status } = await settle(parts, terms, settlement);
    if (status === 'released' || status === 'failed') {
      parts.events.emit(status, parts.subject(terms), { attempt: terms.attempt, ranMs });
    }
    return status;
  };
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
