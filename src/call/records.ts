/** Looking at a key's record, and removing it; looking at the server. */
import { ClosedError, InProgressError, OutcomeUnknownError } from '../errors.js';
import type { RecordInfo } from '../outcome.js';
import { reportOn, type ServerReport } from '../redis/check.js';
import { ExchangeError } from '../redis/exchange.js';
import type { ScriptArgs, ScriptName, ScriptReply } from '../redis/scripts.js';
import type { Subject } from './call.js';
import type { Parts } from './parts.js';
import { storeUnavailable, unreadable } from './verdicts.js';

/** @throws ClosedError, StoreUnavailableError, CodecError */
export async function inspectRecord(parts: Parts, subject: Subject): Promise<RecordInfo | null> {
  const { status, fields } = await call(parts, 'inspect', subject, {});
  if (status === 'none') return null;
  if (status === 'unreadable') throw unreadable(subject.key);
  const [attempt, fence, leaseRemaining, expiresIn, resultBytes, fingerprint] = fields;
  const numberOr = (field: unknown) => (String(field) === '' ? null : Number(field));
  const bytes = fingerprint as Buffer;
  return {
    ...subject,
    state: status,
    attempt: Number(attempt),
    fence: Number(fence),
    leaseRemainingMs: numberOr(leaseRemaining),
    expiresInMs: Number(expiresIn) === -1 ? Number.POSITIVE_INFINITY : Number(expiresIn),
    resultBytes: numberOr(resultBytes),
    fingerprint: bytes.length > 0 ? bytes.toString('hex') : null,
  };
}

/** @throws ClosedError, StoreUnavailableError, OutcomeUnknownError, InProgressError, CodecError */
export async function forgetRecord(parts: Parts, subject: Subject, force: boolean): Promise<boolean> {
  const { key } = subject;
  const { status, fields } = await call(parts, 'forget', subject, { force: force ? '1' : '0' });
  if (status === 'running') {
    throw new InProgressError('The key is in progress: only `force` forgets it', {
      key,
      retryAfterMs: Number(fields[0]),
    });
  }
  if (status === 'unreadable') throw unreadable(key);
  return status === 'forgotten';
}

/** @throws ClosedError, StoreUnavailableError */
export async function checkStore(parts: Parts, prefix: string): Promise<ServerReport> {
  if (parts.closing.aborted) throw new ClosedError('The Dedup is closed');
  try {
    const { connection, scripts, hints } = parts;
    return await reportOn({ connection, scripts, prefix, channel: hints.channel });
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    throw storeUnavailable(undefined, error, 'the server could not be looked at');
  }
}

async function call<N extends ScriptName>(
  parts: Parts,
  name: N,
  { key, redisKey }: Subject,
  args: ScriptArgs<N>,
): Promise<ScriptReply<N>> {
  if (parts.closing.aborted) throw new ClosedError('The Dedup is closed', { key });
  try {
    return await parts.scripts.call(name, redisKey, args);
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    parts.storeError({ key, redisKey }, name, error);
    if (name === 'forget' && error.failure === 'unknown') {
      const message = 'Redis did not answer: the record may or may not be removed';
      throw new OutcomeUnknownError(message, { key, cause: error });
    }
    throw storeUnavailable(key, error, name === 'inspect' ? 'nothing was read' : 'the record is untouched');
  }
}
