/** What a key stands at, or what became of an exchange, as the error that a caller gets. */
import { monotonicMs } from '../clock.js';
import {
  AttemptsExhaustedError,
  BrokenRecordError,
  CodecError,
  FingerprintMismatchError,
  InProgressError,
  OutcomeUnknownError,
  StoreUnavailableError,
} from '../errors.js';
import { type ExchangeError, reasonOf } from '../redis/exchange.js';

export function fingerprintMismatch(key: string): FingerprintMismatchError {
  return new FingerprintMismatchError('The key was used with another fingerprint', { key });
}

export function attemptsExhausted(key: string, attempts: number): AttemptsExhaustedError {
  return new AttemptsExhaustedError(`${attempts} attempts did not complete (maxAttempts)`, { key, attempts });
}

export function inProgress(key: string, leaseEndsAt: number): InProgressError {
  const retryAfterMs = Math.max(0, Math.ceil(leaseEndsAt - monotonicMs()));
  return new InProgressError('Another attempt holds the key', { key, retryAfterMs });
}

export function unreadable(key: string): CodecError {
  return new CodecError('What is stored under the key is no record of a layout that this version knows', { key });
}

export function brokenRecord(key: string): BrokenRecordError {
  return new BrokenRecordError('An earlier commit of this key broke off: look at its data, then `forget` it', { key });
}

export function outcomeUnknown(key: string, cause: ExchangeError | undefined): OutcomeUnknownError {
  const why = cause ? 'Redis did not answer' : 'the record is gone, and the connection had dropped meanwhile';
  return new OutcomeUnknownError(
    `The commit may or may not have happened: ${why}. A later call with the key settles it`,
    { key, cause },
  );
}

/** Nothing was applied: says which refusal it was, and what stands. */
export function storeUnavailable(
  key: string | undefined,
  cause: ExchangeError | undefined,
  stands: string,
): StoreUnavailableError {
  const why = reasonOf(cause);
  return new StoreUnavailableError(`${why[0]?.toUpperCase()}${why.slice(1)}: ${stands}`, { key, cause });
}
