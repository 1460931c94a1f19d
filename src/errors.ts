/** Every error that the library throws, told apart by a literal `code`. No message holds a payload or a result. */

const BRAND = Symbol.for('redis-once.error');

export type DedupErrorCode = keyof DedupErrorsByCode;

export interface DedupErrorInit {
  /** The dedup key, as the caller gave it. */
  key?: string | undefined;
  cause?: unknown;
}

/**
 * What all errors of the library have in common.
 *
 * `instanceof` asks for the brand and the code, not for the prototype: an error made by another copy of the package, or
 * by its other module format, is an instance as well.
 */
export abstract class DedupError extends Error {
  /** Tells the class across copies of the package. */
  abstract readonly code: DedupErrorCode;
  /** The same call, unchanged, may succeed later. */
  abstract readonly retryable: boolean;
  /** The dedup key, where the error is about one. */
  readonly key: string | undefined;

  constructor(message: string, { key, cause }: DedupErrorInit = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.key = key;
    Object.defineProperty(this, BRAND, { value: true });
  }

  static override [Symbol.hasInstance](this: { code?: string; prototype: object }, value: unknown): boolean {
    if ((this as unknown) === DedupError) return isBranded(value);
    if (Object.hasOwn(this, 'code')) return isBranded(value) && value.code === this.code;
    return Function.prototype[Symbol.hasInstance].call(this, value);
  }
}

/** Another attempt holds the key. Nothing changed. */
export class InProgressError extends DedupError {
  static readonly code = 'IN_PROGRESS';
  readonly code = 'IN_PROGRESS';
  readonly retryable = true;
  override name = 'InProgressError';
  /** When the holder's lease ends if it is not renewed, in ms from now. */
  readonly retryAfterMs: number;

  constructor(message: string, init: DedupErrorInit & { retryAfterMs: number }) {
    super(message, init);
    this.retryAfterMs = init.retryAfterMs;
  }
}

/** The same key came with another payload. Nothing changed. */
export class FingerprintMismatchError extends DedupError {
  static readonly code = 'FINGERPRINT_MISMATCH';
  readonly code = 'FINGERPRINT_MISMATCH';
  readonly retryable = false;
  override name = 'FingerprintMismatchError';
}

/** What a stored failure keeps of the handler's error. */
export interface StoredFailure {
  name: string;
  message: string;
  code?: string;
}

/** The replay of a failure that `onError: 'store'` kept. */
export class StoredFailureError extends DedupError {
  static readonly code = 'STORED_FAILURE';
  readonly code = 'STORED_FAILURE';
  readonly retryable = false;
  override name = 'StoredFailureError';
  readonly failure: StoredFailure;

  constructor(message: string, init: DedupErrorInit & { failure: StoredFailure }) {
    super(message, init);
    this.failure = init.failure;
  }
}

/** `maxAttempts` attempts did not complete: the key has failed for good. */
export class AttemptsExhaustedError extends DedupError {
  static readonly code = 'ATTEMPTS_EXHAUSTED';
  readonly code = 'ATTEMPTS_EXHAUSTED';
  readonly retryable = false;
  override name = 'AttemptsExhaustedError';
  /** How many attempts crashed, lost their lease or were released. */
  readonly attempts: number;

  constructor(message: string, init: DedupErrorInit & { attempts: number }) {
    super(message, init);
    this.attempts = init.attempts;
  }
}

/** The attempt no longer holds its key: nothing of it was applied. */
export class LeaseLostError extends DedupError {
  static readonly code = 'LEASE_LOST';
  readonly code = 'LEASE_LOST';
  readonly retryable = true;
  override name = 'LeaseLostError';
}

/** A `tx.require` did not hold when the handler committed. Nothing was applied, the claim is released. */
export class ConditionFailedError extends DedupError {
  static readonly code = 'CONDITION_FAILED';
  readonly code = 'CONDITION_FAILED';
  readonly retryable = true;
  override name = 'ConditionFailedError';
  /** Which of the call's conditions, from 0. */
  readonly index: number;

  constructor(message: string, init: DedupErrorInit & { index: number }) {
    super(message, init);
    this.index = init.index;
  }
}

/** Why a buffered write cannot succeed. docs/effects.md says of each what it means. */
export type EffectRejectedReason =
  | 'wrong_type'
  | 'not_an_integer'
  | 'not_a_float'
  | 'not_a_number'
  | 'not_a_hyperloglog'
  | 'out_of_range'
  | 'too_long'
  | 'no_such_key'
  | 'stream_id'
  | 'stream_exhausted'
  | 'too_large'
  | 'no_permission'
  | 'unknown_command'
  | 'refused';

/** A buffered write cannot succeed on the data as they are. Nothing was applied, the claim is released. */
export class EffectRejectedError extends DedupError {
  static readonly code = 'EFFECT_REJECTED';
  readonly code = 'EFFECT_REJECTED';
  readonly retryable = false;
  override name = 'EffectRejectedError';
  /** Which of the call's commands, from 0; of its conditions where the command is `require.version`. */
  readonly index: number;
  /** As it was called on `tx`, such as `hincrby`. */
  readonly command: string;
  readonly reason: EffectRejectedReason;

  constructor(
    message: string,
    init: DedupErrorInit & { index: number; command: string; reason: EffectRejectedReason },
  ) {
    super(message, init);
    this.index = init.index;
    this.command = init.command;
    this.reason = init.reason;
  }
}

/** In Cluster, a write to another slot than the record's: one script cannot reach both. Nothing was sent. */
export class CrossSlotError extends DedupError {
  static readonly code = 'CROSS_SLOT';
  readonly code = 'CROSS_SLOT';
  readonly retryable = false;
  override name = 'CrossSlotError';
}

/** `tx` was used after its handler had settled. Nothing was added. */
export class TxClosedError extends DedupError {
  static readonly code = 'TX_CLOSED';
  readonly code = 'TX_CLOSED';
  readonly retryable = false;
  override name = 'TxClosedError';
}

/** An earlier commit of this key met an error that its checks could not foresee. Only `forget` removes the record. */
export class BrokenRecordError extends DedupError {
  static readonly code = 'BROKEN';
  readonly code = 'BROKEN';
  readonly retryable = false;
  override name = 'BrokenRecordError';
}

/** The encoded result is longer than `maxResultBytes`. Nothing was applied, the claim is released. */
export class ResultTooLargeError extends DedupError {
  static readonly code = 'RESULT_TOO_LARGE';
  readonly code = 'RESULT_TOO_LARGE';
  readonly retryable = false;
  override name = 'ResultTooLargeError';
}

/** A result cannot be encoded (nothing was applied, the claim is released), or a stored record cannot be read. */
export class CodecError extends DedupError {
  static readonly code = 'CODEC';
  readonly code = 'CODEC';
  readonly retryable = false;
  override name = 'CodecError';
}

/** The key is not a string, is empty, or is longer than `maxKeyBytes`. Nothing was sent. */
export class InvalidKeyError extends DedupError {
  static readonly code = 'INVALID_KEY';
  readonly code = 'INVALID_KEY';
  readonly retryable = false;
  override name = 'InvalidKeyError';
}

/** An option or argument is not as it must be. Nothing was sent. */
export class InvalidOptionError extends DedupError {
  static readonly code = 'INVALID_OPTION';
  readonly code = 'INVALID_OPTION';
  readonly retryable = false;
  override name = 'InvalidOptionError';
}

/** The Dedup is closed, or was closed while the call waited or ran. */
export class ClosedError extends DedupError {
  static readonly code = 'CLOSED';
  readonly code = 'CLOSED';
  readonly retryable = false;
  override name = 'ClosedError';
}

/**
 * The server may evict records, and a record that is evicted is an effect that happens twice; or it is older than Redis
 * 7.0, and may make a part of a call's writes. Nothing was sent.
 */
export class UnsafeServerError extends DedupError {
  static readonly code = 'UNSAFE_SERVER';
  readonly code = 'UNSAFE_SERVER';
  readonly retryable = false;
  override name = 'UnsafeServerError';
}

/** Redis was not reached, or refused, and surely nothing was applied. A claim may stand until its lease ends. */
export class StoreUnavailableError extends DedupError {
  static readonly code = 'STORE_UNAVAILABLE';
  readonly code = 'STORE_UNAVAILABLE';
  readonly retryable = true;
  override name = 'StoreUnavailableError';
}

/** The commit may or may not have happened. A later call with the key settles it. */
export class OutcomeUnknownError extends DedupError {
  static readonly code = 'OUTCOME_UNKNOWN';
  readonly code = 'OUTCOME_UNKNOWN';
  readonly retryable = true;
  override name = 'OutcomeUnknownError';
}

/** The result is stored and its effects are made, but fewer replicas, or no file, confirmed it than `durability` asks for. */
export class NotDurableError extends DedupError {
  static readonly code = 'NOT_DURABLE';
  readonly code = 'NOT_DURABLE';
  readonly retryable = true;
  override name = 'NotDurableError';
}

/** The class of each code. */
export interface DedupErrorsByCode {
  IN_PROGRESS: InProgressError;
  FINGERPRINT_MISMATCH: FingerprintMismatchError;
  STORED_FAILURE: StoredFailureError;
  ATTEMPTS_EXHAUSTED: AttemptsExhaustedError;
  LEASE_LOST: LeaseLostError;
  CONDITION_FAILED: ConditionFailedError;
  EFFECT_REJECTED: EffectRejectedError;
  CROSS_SLOT: CrossSlotError;
  TX_CLOSED: TxClosedError;
  BROKEN: BrokenRecordError;
  RESULT_TOO_LARGE: ResultTooLargeError;
  CODEC: CodecError;
  INVALID_KEY: InvalidKeyError;
  INVALID_OPTION: InvalidOptionError;
  CLOSED: ClosedError;
  UNSAFE_SERVER: UnsafeServerError;
  STORE_UNAVAILABLE: StoreUnavailableError;
  OUTCOME_UNKNOWN: OutcomeUnknownError;
  NOT_DURABLE: NotDurableError;
}

/**
 * Is this an error of the library, of any copy of the package?
 *
 * @param code narrows to the class of that code
 * @example
 * ```ts
 * try {
 *   await dedup.once(id, handle);
 * } catch (error) {
 *   if (isDedupError(error, 'IN_PROGRESS')) return retryLater(error.retryAfterMs);
 *   throw error;
 * }
 * ```
 */
export function isDedupError<Code extends DedupErrorCode = DedupErrorCode>(
  error: unknown,
  code?: Code,
): error is DedupErrorsByCode[Code] {
  return isBranded(error) && (code === undefined || error.code === code);
}

function isBranded(value: unknown): value is DedupError {
  return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[BRAND] === true;
}
