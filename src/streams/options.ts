/** What a consumer is made with, and what it reads of it. */
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import type { Duration } from '../duration.js';
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';
import { checkDedup, INSIDE } from '../inside.js';
import { areInOneSlot, escapePart, isRecordKey } from '../key.js';
import type { OnceContext } from '../outcome.js';
import { duration, hashTag, type Rule, wholeNumber } from '../rules.js';
import { readMethodOptions } from '../settings.js';
import type { StreamMessage } from './message.js';

export interface StreamConsumerOptions {
  stream: string;
  /** The consumer group; made where it is missing, and the stream as well. */
  group: string;
  /** This process in the group: a name that no other process has at the same time, and the same after a restart. */
  consumer: string;
  /** What it writes to `context.tx` commits together with the record of the key and the acknowledgement of the entry. */
  handler: (message: StreamMessage, context: OnceContext) => unknown;
  /**
   * A business key, the same for all entries of one piece of work. It stands as it is: give each kind of work a scope of
   * its own. Default: the entry's id, in a scope of its stream and group.
   */
  key?: ((message: StreamMessage) => string) | undefined;
  /** What the key stands for: two entries of one key and different fingerprints are an error. */
  fingerprint?: ((message: StreamMessage) => unknown) | undefined;
  /** Where a group that is made begins: `'0'` (default) with all that the stream holds, `'$'` with what comes next, or after an id. */
  startId?: string | undefined;
  /** How many entries are asked for at a time. 1 to 1,000, default 100; never more than there is room for. */
  batchSize?: number | undefined;
  /** How long a read waits for new entries, in ms, and `stop` for the read. 1 to 60,000, default 1,000. */
  blockMs?: number | undefined;
  /**
   * After so long without a word of its consumer an entry is taken over, and one that failed is handed out again. Renewed
   * while the entry is in hand. 100 ms to 24 h, default `'30s'`.
   */
  claimIdle?: Duration | undefined;
  /** After that many deliveries that failed, or whose consumer died, an entry is a dead letter. Needs `deadLetter`; default 10. */
  maxDeliveries?: number | undefined;
  /** The stream of the dead letters. Without one, an entry is handed out until it succeeds. In Cluster in the slot of the stream. */
  deadLetter?: string | undefined;
  /** How many entries are in hand at a time. 1 to 10,000, default 16. */
  concurrency?: number | undefined;
}

/** The same, checked; times in ms. */
export interface ConsumerSettings {
  readonly stream: string;
  readonly group: string;
  readonly consumer: string;
  readonly handler: (message: StreamMessage, context: OnceContext) => unknown;
  readonly key: ((message: StreamMessage) => string) | undefined;
  readonly fingerprint: ((message: StreamMessage) => unknown) | undefined;
  readonly startId: string;
  readonly batchSize: number;
  readonly blockMs: number;
  readonly claimIdle: number;
  /** Infinity without dead letters. */
  readonly maxDeliveries: number;
  readonly deadLetter: string | undefined;
  readonly concurrency: number;
}

const DAY_MS = 24 * 3_600_000;
const DEFAULTS = { startId: '0', batchSize: 100, blockMs: 1_000, claimIdle: 30_000, concurrency: 16 };
const DEFAULT_MAX_DELIVERIES = 10;

const RULES = {
  stream: text,
  group: text,
  consumer: text,
  handler: functionOf('the message and its context'),
  key: functionOf('the message'),
  fingerprint: functionOf('the message'),
  startId: entryId,
  batchSize: wholeNumber(1, 1_000),
  blockMs: wholeNumber(1, 60_000),
  claimIdle: duration(100, DAY_MS),
  maxDeliveries: wholeNumber(1, 1_000_000),
  deadLetter: text,
  concurrency: wholeNumber(1, 10_000),
} satisfies { [K in keyof StreamConsumerOptions]-?: Rule<unknown> };

/** @throws InvalidOptionError naming the option that is wrong, or missing */
export function readConsumerOptions(dedup: Dedup<Codec>, options: StreamConsumerOptions): ConsumerSettings {
  checkDedup(dedup);
  const read = readMethodOptions(options, RULES);
  for (const name of ['stream', 'group', 'consumer', 'handler'] as const) {
    if (read[name] === undefined) throw new InvalidOptionError(`Expected \`${name}\` to be given`);
  }
  const { stream, deadLetter, maxDeliveries } = read;
  checkTarget(dedup, 'stream', stream as string);
  if (deadLetter === undefined && maxDeliveries !== undefined) {
    throw new InvalidOptionError('Expected `deadLetter` where `maxDeliveries` is given: where are the entries to go?');
  }
  if (deadLetter !== undefined) {
    checkTarget(dedup, 'deadLetter', deadLetter);
    const { connection } = dedup[INSIDE].parts;
    if (
      deadLetter === stream ||
      (connection.isCluster && !areInOneSlot(connection.keyPrefix, deadLetter, stream as string))
    ) {
      throw new InvalidOptionError(
        'Expected `deadLetter` to be another stream, in Cluster in the slot of `stream`: give both the same hash tag',
      );
    }
  }
  const limit = deadLetter === undefined ? Number.POSITIVE_INFINITY : (maxDeliveries ?? DEFAULT_MAX_DELIVERIES);
  return { ...DEFAULTS, ...read, maxDeliveries: limit } as ConsumerSettings;
}

/**
 * A key that `tx` may write to.
 *
 * @throws InvalidOptionError for what is no key, or one in the namespace of the records
 */
export function checkTarget(dedup: Dedup<Codec>, name: string, key: string): void {
  checkDedup(dedup);
  text(name, key);
  const { namespace } = dedup[INSIDE].parts.settings;
  if (isRecordKey(key, escapePart(namespace))) {
    throw new InvalidOptionError(
      `Expected \`${name}\` to be a key of the data, got one of the library: \`${namespace}:\` is the namespace of its records`,
    );
  }
}

/**
 * The Dedup, in Cluster in the slot of a key that its calls are to write to.
 *
 * @throws InvalidOptionError where it is in another slot, or no hash tag names that of the key
 */
export function inSlotOf(dedup: Dedup<Codec>, name: string, key: string): Dedup<Codec> {
  const { parts, slot } = dedup[INSIDE];
  const { isCluster, keyPrefix } = parts.connection;
  if (!isCluster) return dedup;
  if (slot !== undefined) {
    if (areInOneSlot(keyPrefix, `{${slot}}`, key)) return dedup;
    throw new InvalidOptionError(`Expected \`${name}\` to be in the slot of the Dedup, \`${slot}\``);
  }
  const whole = keyPrefix + key;
  return dedup.with({ slot: hashTag(`the hash tag of \`${name}\``, /^[^{]*\{([^}]+)\}/.exec(whole)?.[1] ?? whole) });
}

function text(name: string, value: unknown): string {
  if (typeof value !== 'string' || value === '' || !value.isWellFormed()) {
    throw new InvalidOptionError(`Expected \`${name}\` to be a non-empty string, got ${given(value)}`);
  }
  return value;
}

function entryId(name: string, value: unknown): string {
  if (typeof value !== 'string' || !/^(\$|\d{1,20}(-\d{1,20})?)$/.test(value)) {
    throw new InvalidOptionError(`Expected \`${name}\` to be \`$\` or the id of an entry, got ${given(value)}`);
  }
  return value;
}

function functionOf<F>(what: string): Rule<F> {
  return (name, value) => {
    if (typeof value !== 'function') {
      throw new InvalidOptionError(`Expected \`${name}\` to be a function of ${what}, got ${given(value)}`);
    }
    return value as F;
  };
}
