/** The public names. */
export { type Codec, type CodecContext, type JsonCodec, type JsonForm, json, type Stored } from './codec.js';
export { Dedup } from './dedup.js';
export type { Duration } from './duration.js';
export {
  AttemptsExhaustedError,
  BrokenRecordError,
  ClosedError,
  CodecError,
  DedupError,
  type DedupErrorCode,
  type DedupErrorsByCode,
  FingerprintMismatchError,
  InProgressError,
  InvalidKeyError,
  InvalidOptionError,
  isDedupError,
  LeaseLostError,
  OutcomeUnknownError,
  ResultTooLargeError,
  type StoredFailure,
  StoredFailureError,
  StoreUnavailableError,
  UnsafeServerError,
} from './errors.js';
export type { DedupEvents, KeyEvent, LeaseLostReason } from './events.js';
export { type DedupOptions, type ErrorPolicy, type OnceOptions, RETENTION } from './options.js';
export type { Handler, OnceContext, Outcome, RecordInfo } from './outcome.js';
export type { CheckName, ServerCheck, ServerReport } from './redis/check.js';
export type { RedisConnection } from './redis/connection.js';
