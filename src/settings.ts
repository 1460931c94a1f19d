/** The options as calls use them: each checked by its rule, and how those of a call stand over those of its view. */
import { type Codec, type JsonCodec, json } from './codec.js';
import { InvalidOptionError } from './errors.js';
import { given } from './given.js';
import type { ApplyOptions, DedupOptions, ErrorPolicy, OnceOptions } from './options.js';
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
import type { SeenSet } from './seen/set.js';

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

/** A waiter outlasts the lease of a holder that died by this much. */
const WAIT_BEYOND_LEASE_MS = 5_000;
/** A record that is not completed outlives its lease and a slow redelivery. */
const SHORTEST_TTL_MS = 60_000;

/** How long a call waits for another attempt, in ms. */
export function waitMsOf({ leaseMs, waitTimeoutMs = leaseMs + WAIT_BEYOND_LEASE_MS }: CallSettings): number {
  return waitTimeoutMs;
}

/** How long a record that is not completed lives, from each write, in ms. */
export function ttlMsOf({ retentionMs, leaseMs }: CallSettings): number {
  return Math.max(retentionMs, 2 * leaseMs, SHORTEST_TTL_MS);
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

/** By option: what it sets, and how it is read. */
export const CALL_RULES: { [K in keyof OnceOptions]-?: { setting: keyof CallSettings; rule: Rule<unknown> } } = {
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

export const DEDUP_RULES: {
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

/**
 * @param what it is called in the message: `the handler`
 * @throws InvalidOptionError
 */
export function checkFunction(what: string, value: unknown, key: string): void {
  if (typeof value !== 'function') {
    throw new InvalidOptionError(`Expected ${what} to be a function, got ${given(value)}`, { key });
  }
}
