/** The public names. */
export {
  type Codec,
  type CodecContext,
  type JsonCodec,
  type JsonForm,
  json,
  type NoResult,
  type Stored,
} from './codec.js';
export { Dedup } from './dedup.js';
export type { Duration } from './duration.js';
export type {
  Conditions,
  EffectFloat,
  EffectInteger,
  EffectKey,
  EffectScore,
  Effects,
  EffectValue,
  ScoreBound,
} from './effects/effects.js';
export type { Reply } from './effects/replies.js';
export {
  AttemptsExhaustedError,
  BrokenRecordError,
  ClosedError,
  CodecError,
  ConditionFailedError,
  CrossSlotError,
  DedupError,
  type DedupErrorCode,
  type DedupErrorsByCode,
  EffectRejectedError,
  type EffectRejectedReason,
  FingerprintMismatchError,
  InProgressError,
  InvalidKeyError,
  InvalidOptionError,
  isDedupError,
  LeaseLostError,
  NotDurableError,
  OutcomeUnknownError,
  ResultTooLargeError,
  type StoredFailure,
  StoredFailureError,
  StoreUnavailableError,
  TxClosedError,
  UnsafeServerError,
} from './errors.js';
export type { DedupEvents, KeyEvent, LeaseLostReason } from './events.js';
export {
  type ApplyOptions,
  type DedupOptions,
  type DurabilityOption,
  type ErrorPolicy,
  type MarkedOptions,
  type OnceOptions,
  RETENTION,
} from './options.js';
export type {
  Applied,
  ApplyEntry,
  ApplyOutcome,
  BatchOutcome,
  BatchSpec,
  Handler,
  OnceContext,
  Outcome,
  RecordInfo,
} from './outcome.js';
export type { CheckName, NodeReport, ServerCheck, ServerReport } from './redis/check.js';
export type { RedisConnection } from './redis/ioredis.js';
export { type SeenOptions, SeenSet } from './seen/set.js';
