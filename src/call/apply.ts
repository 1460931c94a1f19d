/** `apply`: writes known up front, in one step with their record. No claim, no lease, nothing in progress. */
import { monotonicMs } from '../clock.js';
import type { Effects } from '../effects/effects.js';
import { type Recorder, recordAll } from '../effects/recorder.js';
import { refusalError } from '../effects/refusal.js';
import { decodeReplies, type Reply } from '../effects/replies.js';
import { ClosedError, CodecError, InvalidOptionError } from '../errors.js';
import type { CallFacts } from '../observer.js';
import type { Applied } from '../outcome.js';
import { ExchangeError } from '../redis/exchange.js';
import type { ScriptReply } from '../redis/scripts.js';
import { ttlMsOf, waitMsOf } from '../settings.js';
import { newToken } from '../token.js';
import type { CallTerms } from './call.js';
import { confirm } from './finish.js';
import type { Parts } from './parts.js';
import { checkServer, isChecked } from './server-check.js';
import {
  attemptsExhausted,
  brokenRecord,
  fingerprintMismatch,
  inProgress,
  outcomeUnknown,
  storeUnavailable,
  unreadable,
} from './verdicts.js';
import { Wait } from './wait.js';

const NO_REPLIES = Buffer.alloc(0);

/** A call of `apply`. */
export interface ApplyCall extends CallTerms {
  readonly write: (tx: Effects) => unknown;
}

/** Makes the writes once per key, or tells what they came to before. */
export function runApply(parts: Parts, call: ApplyCall): Promise<Applied> {
  if (!parts.observer) return begin(parts, call);
  const live = (facts: CallFacts) => begin(parts, { ...call, facts });
  return parts.observer.around(parts.observed('apply', call.redisKey), live);
}

async function begin(parts: Parts, call: ApplyCall): Promise<Applied> {
  parts.refuseReentry(call.key, call.redisKey);
  call.settings.signal?.throwIfAborted();
  parts.enter(call.key);
  try {
    return await live(parts, call);
  } finally {
    parts.leave();
  }
}

async function live(parts: Parts, call: ApplyCall): Promise<Applied> {
  const recorder = parts.recorder(call);
  const effects = recordAll(recorder, call.write);
  let token = newToken();
  let wait: Wait | undefined;
  const startedAt = monotonicMs();
  const deadline = call.settings.onInProgress === 'throw' ? 0 : startedAt + waitMsOf(call.settings);
  /** How long it took, where another attempt was waited for. */
  const endWait = (): number => {
    if (!wait) return 0;
    wait.end();
    wait = undefined;
    const waitedMs = monotonicMs() - startedAt;
    parts.events.tell.waited?.(parts.about(call, { waitedMs }));
    if (call.facts) call.facts.waitedMs = waitedMs;
    return waitedMs;
  };
  try {
    for (;;) {
      throwIfUnwanted(parts, call);
      const { status, fields } = await ask(parts, call, token, recorder, effects);
      const number = Number(fields[0]);
      switch (status) {
        case 'applied': {
          const waitedMs = endWait();
          parts.events.tell.executed?.(parts.about(call, { attempt: number, waitedMs, ranMs: 0 }));
          if (call.facts) call.facts.effects = recorder.commands;
          if (parts.durability) await confirm(parts, call, fields[1] as Buffer);
          return applied(call, 'executed', number, fields[1] as Buffer);
        }
        case 'completed':
        case 'seen': {
          const waitedMs = endWait();
          const [attempt, bytes] = status === 'seen' ? [0, NO_REPLIES] : [number, fields[1] as Buffer];
          if (parts.durability) await confirm(parts, call, bytes);
          const replay = applied(call, 'replayed', attempt, bytes);
          parts.events.tell.replayed?.(parts.about(call, { attempt, waitedMs }));
          return replay;
        }
        case 'conflict':
          tellReleased(parts, call, Number(fields[1]));
          throw refusalError(call.key, recorder.origin(number), null);
        case 'rejected':
          tellReleased(parts, call, Number(fields[2]));
          throw refusalError(call.key, recorder.origin(number), String(fields[1]));
        case 'exhausted':
          if (String(fields[1]) === 'now') {
            parts.events.tell.failed?.(parts.about(call, { attempt: Number(fields[2]), ranMs: 0 }));
          }
          throw attemptsExhausted(call.key, number);
        case 'stale':
          // A copy of this very call was refused before: nothing of it was applied.
          token = newToken();
          break;
        case 'busy': {
          const leaseEndsAt = monotonicMs() + number;
          if (monotonicMs() >= deadline) throw inProgress(call.key, leaseEndsAt);
          wait ??= new Wait(parts.hints, call.redisKey);
          await wait.pause(number, deadline, [call.settings.signal, parts.closing]);
          break;
        }
        case 'mismatch':
          throw fingerprintMismatch(call.key);
        case 'other_kind':
        case 'failed':
          throw new InvalidOptionError('Expected the key to be one of `apply`, got one that `once` has used', {
            key: call.key,
          });
        case 'broken':
          throw brokenRecord(call.key);
        case 'unreadable':
          throw unreadable(call.key);
      }
    }
  } finally {
    endWait();
  }
}

/** Its attempt has ended with nothing applied. */
function tellReleased(parts: Parts, call: ApplyCall, attempt: number): void {
  if (call.facts) call.facts.attempt = attempt;
  parts.events.tell.released?.(parts.about(call, { attempt, ranMs: 0 }));
}

/** @throws the signal's reason, or ClosedError: nothing is to be sent */
function throwIfUnwanted(parts: Parts, { key, settings }: ApplyCall): void {
  settings.signal?.throwIfAborted();
  if (parts.closing.aborted) throw new ClosedError('The Dedup is closing', { key });
}

/** @throws StoreUnavailableError: nothing was applied; OutcomeUnknownError; UnsafeServerError; InvalidOptionError of a set */
async function ask(
  parts: Parts,
  call: ApplyCall,
  token: string,
  recorder: Recorder,
  effects: ReturnType<typeof recordAll>,
): Promise<ScriptReply<'apply'>> {
  const { key, redisKey, fingerprint, settings } = call;
  const { retentionMs, maxAttempts } = settings;
  const args = { token, fingerprint, ttl_ms: ttlMsOf(settings), retention_ms: retentionMs, max_attempts: maxAttempts };
  try {
    if (!isChecked(parts)) await checkServer(parts, key);
    await parts.durability?.check(key);
    if (recorder.marks) await recorder.agree();
    return await parts.scripts.call('apply', redisKey, args, { effects });
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    parts.storeError(call, 'apply', error);
    throw error.failure === 'unknown'
      ? outcomeUnknown(key, error)
      : storeUnavailable(key, error, 'nothing was applied');
  }
}

/** @throws CodecError */
function applied({ key, facts }: ApplyCall, status: Applied['status'], attempt: number, bytes: Buffer): Applied {
  let replies: Reply[];
  try {
    replies = decodeReplies(bytes);
  } catch (cause) {
    throw new CodecError('The stored replies cannot be read', { key, cause });
  }
  if (facts) {
    facts.outcome = status;
    facts.attempt = attempt;
  }
  return { status, replies, attempt };
}
