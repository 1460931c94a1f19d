/** `apply`: writes known up front, in one step with their record. No claim, no lease, nothing in progress. */
import { checkServer, isChecked, ttlMs } from './claim.js';
import { monotonicMs } from './clock.js';
import type { Effects } from './effects/effects.js';
import type { RecordMark } from './effects/mark.js';
import { type Recorder, recordAll } from './effects/recorder.js';
import { refusalError } from './effects/refusal.js';
import { decodeReplies, type Reply } from './effects/replies.js';
import { ClosedError, CodecError, InvalidOptionError } from './errors.js';
import type { Fingerprint } from './fingerprint.js';
import { waitMsOf } from './once.js';
import type { CallSettings } from './options.js';
import type { Applied } from './outcome.js';
import type { Parts } from './parts.js';
import { ExchangeError } from './redis/connection.js';
import type { ScriptReply } from './redis/scripts.js';
import { newToken } from './token.js';
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

/** One call, checked. */
export interface ApplyCall {
  readonly key: string;
  readonly redisKey: string;
  readonly fingerprint: Fingerprint;
  /** Where its record is one of a set. */
  readonly mark: RecordMark | undefined;
  readonly settings: CallSettings;
  readonly write: (tx: Effects) => unknown;
}

/** Makes the writes once per key, or tells what they came to before. */
export async function runApply(parts: Parts, call: ApplyCall): Promise<Applied> {
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
  try {
    for (;;) {
      throwIfUnwanted(parts, call);
      const { status, fields } = await ask(parts, call, token, recorder, effects);
      const number = Number(fields[0]);
      switch (status) {
        case 'applied':
        case 'completed':
          await parts.durability?.confirm(call, fields[1] as Buffer);
          return told(parts, call, status, number, fields[1] as Buffer, wait ? monotonicMs() - startedAt : 0);
        case 'seen':
          return told(parts, call, 'completed', 0, NO_REPLIES, wait ? monotonicMs() - startedAt : 0);
        case 'conflict':
          throw refusalError(call.key, recorder.origin(number), null);
        case 'rejected':
          throw refusalError(call.key, recorder.origin(number), String(fields[1]));
        case 'exhausted':
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
    wait?.end();
  }
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
  const args = { token, fingerprint, ttl_ms: ttlMs(settings), retention_ms: retentionMs, max_attempts: maxAttempts };
  try {
    if (!isChecked(parts)) await checkServer(parts, key);
    await parts.durability?.check(key);
    if (recorder.marks) await recorder.agree();
    return await parts.scripts.call('apply', redisKey, args, { effects });
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    parts.events.emit('storeError', parts.subject(call), { operation: 'apply', code: error.code });
    throw error.failure === 'unknown'
      ? outcomeUnknown(key, error)
      : storeUnavailable(key, error, 'nothing was applied');
  }
}

function told(
  parts: Parts,
  call: ApplyCall,
  status: 'applied' | 'completed',
  attempt: number,
  bytes: Buffer,
  waitedMs: number,
): Applied {
  let replies: Reply[];
  try {
    replies = decodeReplies(bytes);
  } catch (cause) {
    throw new CodecError('The stored replies cannot be read', { key: call.key, cause });
  }
  const subject = parts.subject(call);
  if (status === 'completed') {
    parts.events.emit('replayed', subject, { attempt, waitedMs });
    return { status: 'replayed', replies, attempt };
  }
  parts.events.emit('executed', subject, { attempt, waitedMs, ranMs: 0 });
  return { status: 'executed', replies, attempt };
}
