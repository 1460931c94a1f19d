/** What is asked for, checked: what every call has, and what `once` has beside. */
import type { RecordMark } from '../effects/mark.js';
import type { Fingerprint } from '../fingerprint.js';
import type { CallFacts } from '../observer.js';
import type { Handler } from '../outcome.js';
import type { CallSettings } from '../settings.js';

/** A key as its callers have it, and as Redis does. */
export interface Subject {
  readonly key: string;
  readonly redisKey: string;
}

export interface CallTerms extends Subject {
  readonly fingerprint: Fingerprint;
  /** Where its record is one of a set. */
  readonly mark: RecordMark | undefined;
  readonly settings: CallSettings;
  /** Filled in where the call is observed. */
  readonly facts?: CallFacts;
}

/** A call of `once`. */
export interface Call extends CallTerms {
  readonly handler: Handler<unknown>;
}
