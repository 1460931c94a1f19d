/** The options: names, defaults, and how those of a call stand over those of its view. */
import type { Codec, JsonCodec } from './codec.js';
import { json } from './codec.js';
import type { Duration } from './duration.js';
import { InvalidOptionError } from './errors.js';
import { given } from './given.js';
import {
  abortSignal,
  codecOption,
  duration,
  errorPolicy,
  flag,
  hashTag,
  namespaceOption,
  oneOf,
  type Rule,
  recordOption,
  wholeNumber,
} from './rules.js';
import type { SeenSet } from './seen-set.js';

/** What a throwing handler leaves: `'release'`, the next call runs it again; `'store'`, the failure is kept and replayed. */
export type ErrorPolicy = 'release' | 'store';

/** Retentions that fit most messages. */
export const RETENTION = { async: '24h', financial: '30d' } as const satisfies Record<string, Duration>;

/**
 * What one call, or a view made by `with`, may set.
 *
 * @typeParam C the codec; `undefined` leaves the one of the view around it
 */
export interface OnceOptions<C extends Codec | undefined = undefined> {
  /**
   * The request or payload that the key stands for: any JSON value, hashed in canonical form. The same key with another
   * fingerprint is a `FingerprintMismatchError`.
   */
  fingerprint?: unknown;
  /**
   * A Cluster hash tag: the record lives in the slot of the data that the handler writes. Another slot is another
   * record. From the program, never from a request.
   */
  slot?: string | undefined;
  /** Before the handler has started, its abort ends the call; while it runs, `context.signal` aborts with its reason. */
  signal?: AbortSignal | undefined;
  /** How long a completed or failed record lives, from its completion. 1 s to 1 year. Default `'24h'`. */
  retention?: Duration | undefined;
  /** How long a claim holds without a heartbeat; renewed at a third of it. 100 ms to 1 h. Default `'30s'`. */
  lease?: Duration | undefined;
  /** `'wait'` (default) for the running attempt's result, or `'throw'` `InProgressError` at once. */
  onInProgress?: 'wait' | 'throw' | undefined;
  /** How long to wait for another attempt, then `InProgressError`. Default: the lease and 5 s. */
  waitTimeout?: Duration | undefined;
  /** What a throwing handler leaves. Default `'release'`. */
  onError?: ErrorPolicy | ((error: unknown) => ErrorPolicy) | undefined;
  /** After that many attempts that crashed, lost their lease or were released, the key fails for good. Default: no limit. */
  maxAttempts?: number | undefined;
  /**
   * How often a call whose `tx.require` did not hold runs its handler again, under the same claim. Conflicts never count
   * as attempts. Default 0.
   */
  conflictRetries?: number | undefined;
  /** After that long the lease is renewed no more and `signal` aborts. 100 ms to 7 d. Default `'1h'`. */
  maxRunTime?: Duration | undefined;
  /** How results become bytes. Default: JSON. */
  codec?: C | undefined;
  /**
   * `'full'` (default), or a set on the same connection: a completed call leaves only a mark in it. Its result is not kept
   * and callers get `undefined`; it takes no `fingerprint`, and `retention` holds for failures alone. In Cluster call and
   * set need the same `slot`.
   */
  record?: 'full' | SeenSet | undefined;
}

/** The same for a call whose record is a mark in a set: its result is not kept. */
export type MarkedOptions = Omit<OnceOptions<Codec | undefined>, 'record' | 'fingerprint'> & {
  record: SeenSet;
  fingerprint?: undefined;
};

/** What an `apply` may set. */
export type ApplyOptions = Pick<
  OnceOptions,
  'fingerprint' | 'slot' | 'signal' | 'retention' | 'onInProgress' | 'waitTimeout' | 'maxAttempts' | 'record'
>;

/** What a Dedup is made with. */
export interface DedupOptions<C extends Codec = JsonCodec>
  extends Omit<OnceOptions<C>, 'fingerprint' | 'slot' | 'signal'> {
  /** First part of every Redis key. Default `'once'`. */
  namespace?: string | undefined;
  /** How waiters are woken early: `'pubsub'` (default) or by polls alone. */
  hints?: 'pubsub' | 'poll' | undefined;
  /** `'proceed'` runs the handler without dedup when Redis cannot be reached and nothing was claimed. Default `'throw'`. */
  onStoreFailure?: 'throw' | 'proceed' | undefined;
  /** Deadline of every single Redis exchange. 10 ms to 10 m. Default `'5s'`. */
  redisTimeout?: Duration | undefined;
  /** A longer encoded result is a `ResultTooLargeError`. Default 1 MiB, at most 256 MiB. */
  maxResultBytes?: number | undefined;
  /** A longer key is an `InvalidKeyError`. Default 512. */
  maxKeyBytes?: number | undefined;
  /**
   * A result is given out when it is confirmed to survive, else `NotDurableError`: also that of a replay. Not with `record: set`.
   * Default: none, the primary's answer is enough.
   */
  durability?: DurabilityOption | undefined;
  /** Accept a server that may evict records. Default `false`. */
  allowEviction?: boolean | undefined;
}

/** What must be confirmed of a completed record. At least one of `replicas` and `aof`. */
export interface DurabilityOption {
  /** How many replicas have it (WAIT); with `aof`, on their disks. Only where every replica that may be promoted confirms is a result safe. */
  replicas?: number | undefined;
  /** The primary has it in its append-only file, on its disk (WAITAOF): Redis 7.2 and later. */
  aof?: boolean | undefined;
  /** How long to wait for it, then `NotDurableError`. 1 ms to 10 m. */
  timeout: Duration;
}

/** Options of one call, checked; durations in ms. */
export interface CallSettings {
  readonly fingerprint: unknown;
  readonly slot: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly retentionMs: number;
  readonly leaseMs: number;
  readonly onInProgress: 'wait' | 'throw';
  readonly waitTimeoutMs: number | undefined;
  readonly onError: ErrorPolicy | ((error: unknown) => ErrorPolicy);
  /** 0 without a limit. */
  readonly maxAttempts: number;
  readonly conflictRetries: number;
  readonly maxRunTimeMs: number;
  readonly codec: Codec;
  /** For entry points; otherwise the Dedup's. */
  readonly onStoreFailure?: 'throw' | 'proceed';
  readonly record: 'full' | SeenSet;
}

/** `durability`, checked. */
export interface DurabilitySettings {
  readonly replicas: number;
  readonly aof: boolean;
  readonly timeoutMs: number;
}

/** Options of a whole Dedup, checked; durations in ms. */
export interface DedupSettings {
  readonly namespace: string;
  readonly hints: 'pubsub' | 'poll';
  readonly onStoreFailure: 'throw' | 'proceed';
  readonly redisTimeoutMs: number;
  readonly maxResultBytes: number;
  readonly maxKeyBytes: number;
  readonly durability: DurabilitySettings | undefined;
  readonly allowEviction: boolean;
}

const SECOND = 1_000;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const MIB = 1024 * 1024;

const CALL_RULES: { [K in keyof OnceOptions]-?: { setting: keyof CallSettings; rule: Rule<unknown> } } = {
  fingerprint: { setting: 'fingerprint', rule: (_, value) => value },
  slot: { setting: 'slot', rule: hashTag },
  signal: { setting: 'signal', rule: abortSignal },
  retention: { setting: 'retentionMs', rule: duration(SECOND, 365 * DAY, '1 year') },
  lease: { setting: 'leaseMs', rule: duration(100, HOUR) },
  onInProgress: { setting: 'onInProgress', rule: oneOf('wait', 'throw') },
  waitTimeout: { setting: 'waitTimeoutMs', rule: duration(0, 7 * DAY) },
  onError: { setting: 'onError', rule: errorPolicy },
  maxAttempts: { setting: 'maxAttempts', rule: wholeNumber(1, 1_000_000_000) },
  conflictRetries: { setting: 'conflictRetries', rule: wholeNumber(0, 10_000) },
  maxRunTime: { setting: 'maxRunTimeMs', rule: duration(100, 7 * DAY) },
  codec: { setting: 'codec', rule: codecOption },
  record: { setting: 'record', rule: recordOption },
};

const DEDUP_RULES: {
  [K in keyof Omit<DedupOptions, keyof OnceOptions>]-?: { setting: keyof DedupSettings; rule: Rule<unknown> };
} = {
  namespace: { setting: 'namespace', rule: namespaceOption },
  hints: { setting: 'hints', rule: oneOf('pubsub', 'poll') },
  onStoreFailure: { setting: 'onStoreFailure', rule: oneOf('throw', 'proceed') },
  redisTimeout: { setting: 'redisTimeoutMs', rule: duration(10, 10 * 60 * SECOND) },
  maxResultBytes: { setting: 'maxResultBytes', rule: wholeNumber(0, 256 * MIB) },
  maxKeyBytes: { setting: 'maxKeyBytes', rule: wholeNumber(1, 64 * 1024) },
  durability: { setting: 'durability', rule: durabilityOption },
  allowEviction: { setting: 'allowEviction', rule: flag },
};

const CALL_DEFAULTS: CallSettings = {
  fingerprint: undefined,
  slot: undefined,
  signal: undefined,
  retentionMs: DAY,
  leaseMs: 30 * SECOND,
  onInProgress: 'wait',
  waitTimeoutMs: undefined,
  onError: 'release',
  maxAttempts: 0,
  conflictRetries: 0,
  maxRunTimeMs: HOUR,
  codec: json as JsonCodec,
  record: 'full',
};

const DEDUP_DEFAULTS: DedupSettings = {
  namespace: 'once',
  hints: 'pubsub',
  onStoreFailure: 'throw',
  redisTimeoutMs: 5 * SECOND,
  maxResultBytes: MIB,
  maxKeyBytes: 512,
  durability: undefined,
  allowEviction: false,
};

const DURABILITY_RULES = {
  replicas: wholeNumber(0, 1_000),
  aof: flag,
  timeout: duration(1, 10 * 60 * SECOND),
};

const APPLY_OPTIONS: readonly (keyof OnceOptions)[] = [
  'fingerprint',
  'slot',
  'signal',
  'retention',
  'onInProgress',
  'waitTimeout',
  'maxAttempts',
  'record',
] satisfies (keyof ApplyOptions)[];

const PER_CALL_ONLY = ['fingerprint', 'slot', 'signal'];

/**
 * The settings of a Dedup and the defaults of its calls.
 *
 * @throws InvalidOptionError naming the first option that is wrong
 */
export function readDedupOptions(options: DedupOptions<Codec> | undefined): {
  dedup: DedupSettings;
  call: CallSettings;
} {
  const entries = definedEntries('options', options);
  for (const [name] of entries) {
    if (PER_CALL_ONLY.includes(name)) {
      throw new InvalidOptionError(
        `Expected \`${name}\` to be given to a call or to \`with\`, got it for the whole Dedup`,
      );
    }
  }
  const dedup: Record<string, unknown> = { ...DEDUP_DEFAULTS };
  const rest: [string, unknown][] = [];
  for (const [name, value] of entries) {
    if (Object.hasOwn(DEDUP_RULES, name)) {
      const { setting, rule } = DEDUP_RULES[name as keyof typeof DEDUP_RULES];
      dedup[setting] = rule(name, value);
    } else {
      rest.push([name, value]);
    }
  }
  const unknown = rest.find(([name]) => !Object.hasOwn(CALL_RULES, name));
  if (unknown) {
    const names = [
      ...Object.keys(DEDUP_RULES),
      ...Object.keys(CALL_RULES).filter((name) => !PER_CALL_ONLY.includes(name)),
    ];
    throw new InvalidOptionError(`\`${unknown[0]}\` is not an option. A Dedup takes: ${names.join(', ')}`);
  }
  return { dedup: dedup as unknown as DedupSettings, call: readEntries(rest, CALL_DEFAULTS) };
}

/**
 * A call's or a view's options over those of the view around it.
 *
 * @throws InvalidOptionError naming the first option that is wrong
 */
export function readOnceOptions(
  options: OnceOptions<Codec | undefined> | undefined,
  outer: CallSettings,
): CallSettings {
  return options === undefined ? outer : readEntries(definedEntries('options', options), outer);
}

/**
 * The options of an `apply` over those of its view.
 *
 * @throws InvalidOptionError naming the first option that is wrong
 */
export function readApplyOptions(options: ApplyOptions | undefined, outer: CallSettings): CallSettings {
  const entries = definedEntries('options', options);
  const other = entries.find(([name]) => !APPLY_OPTIONS.includes(name as keyof OnceOptions));
  if (other) {
    throw new InvalidOptionError(
      `\`${other[0]}\` is not an option of \`apply\`. It takes: ${APPLY_OPTIONS.join(', ')}`,
    );
  }
  return readEntries(entries, outer);
}

/** @throws InvalidOptionError */
function durabilityOption(name: string, value: unknown): DurabilitySettings {
  const { replicas = 0, aof = false, timeout } = readMethodOptions(value, DURABILITY_RULES, name);
  if (timeout === undefined || (replicas === 0 && !aof)) {
    throw new InvalidOptionError(
      `Expected \`${name}\` to have a \`timeout\` and \`replicas\`, \`aof\` or both, got ${given(value)}`,
    );
  }
  return { replicas, aof, timeoutMs: timeout };
}

function readEntries(entries: [string, unknown][], outer: CallSettings): CallSettings {
  const settings: Record<string, unknown> = { ...outer };
  for (const [name, value] of entries) {
    if (!Object.hasOwn(CALL_RULES, name)) {
      const known = [...Object.keys(CALL_RULES), ...Object.keys(DEDUP_RULES)];
      const place = known.includes(name) ? 'is an option of the whole Dedup' : 'is not an option';
      throw new InvalidOptionError(`\`${name}\` ${place}. A call takes: ${Object.keys(CALL_RULES).join(', ')}`);
    }
    const { setting, rule } = CALL_RULES[name as keyof OnceOptions];
    settings[setting] = rule(name, value);
  }
  if (settings.record !== 'full' && settings.fingerprint !== undefined) {
    throw new InvalidOptionError('Expected no `fingerprint` where `record` is a set: a mark has no room for one');
  }
  return settings as unknown as CallSettings;
}

function definedEntries(name: string, options: unknown): [string, unknown][] {
  if (options === undefined) return [];
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new InvalidOptionError(`Expected \`${name}\` to be an object, got ${given(options)}`);
  }
  return Object.entries(options).filter(([, value]) => value !== undefined);
}

/**
 * The options of a method that is not a call.
 *
 * @throws InvalidOptionError naming the first option that is unknown or wrong
 */
export function readMethodOptions<R extends Record<string, Rule<unknown>>>(
  options: unknown,
  rules: R,
  what = 'options',
): { [K in keyof R]?: ReturnType<R[K]> } {
  const read: Record<string, unknown> = {};
  for (const [name, value] of definedEntries(what, options)) {
    if (!Object.hasOwn(rules, name)) {
      throw new InvalidOptionError(`\`${name}\` is not an option. There is: ${Object.keys(rules).join(', ')}`);
    }
    read[name] = rules[name]?.(name, value);
  }
  return read as { [K in keyof R]?: ReturnType<R[K]> };
}

/** @throws InvalidOptionError where the value is no handler */
export function checkHandler(handler: unknown, key: string): void {
  if (typeof handler !== 'function') {
    throw new InvalidOptionError(`Expected the handler to be a function, got ${given(handler)}`, { key });
  }
}
