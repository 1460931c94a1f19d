/** `tx`: takes commands and conditions in, each checked as far as it can be without the data, and sends nothing. */
import {
  CrossSlotError,
  InvalidKeyError,
  InvalidOptionError,
  StoreUnavailableError,
  TxClosedError,
} from '../errors.js';
import { given } from '../given.js';
import { areInOneSlot, isRecordKey } from '../key.js';
import { type EffectList, NO_EFFECTS } from '../redis/scripts.js';
import type { Mark } from '../seen/layout.js';
import { type SeenSet, type SeenWork, workOf } from '../seen/set.js';
import { integer, type Place, refuse, type Word, word, wrong } from './arguments.js';
import { COMMANDS, type CommandName, type CommandSpec } from './commands.js';
import type { Conditions, Effects } from './effects.js';
import { bucketPlan, markArguments, type RecordMark, recordMarkWords } from './mark.js';
import { KeyUse } from './plan.js';

/** Which of the caller's commands or conditions an effect of the script is. */
export interface EffectOrigin {
  /** Among the commands, or among the conditions; from 0. */
  readonly index: number;
  /** As called: `hincrby`, `require.version`. */
  readonly name: string;
}

/** The call that makes the effects. */
export interface RecorderSubject {
  /** The dedup key, for errors. */
  readonly key: string;
  readonly redisKey: string;
  /** Where the record is one of a set. */
  readonly mark?: RecordMark | undefined;
}

/** Where the effects are to land. */
export interface RecorderTerms extends RecorderSubject {
  /** The first part of every record's key, escaped. */
  readonly namespace: string;
  readonly keyPrefix: string;
  readonly isCluster: boolean;
  /** The connection, for comparison. */
  readonly connection: object;
}

const MOST_COMMANDS = 1_000;
/** Lua takes no more than some 8,000 values in one call. */
const MOST_ARGUMENTS = 7_000;
const MOST_WORDS = 50_000;
const MOST_BYTES = 8 * 1024 * 1024;

export class Recorder {
  readonly #terms: RecorderTerms;
  readonly #numbers = new Map<string, number>();
  readonly #keys: Word[] = [];
  readonly #uses: KeyUse[] = [];
  readonly #words: Word[] = [];
  readonly #origins: EffectOrigin[] = [];
  readonly #require: Conditions;
  readonly #sets = new Set<Pick<SeenWork, 'agree'>>();
  #commands = 0;
  #conditions = 0;
  #bytes = 0;
  #alone = false;
  /** Does one command name several keys? */
  #severalAtOnce = false;
  #closed: 'open' | 'settled' | 'bypassed' = 'open';

  constructor(terms: RecorderTerms) {
    this.#terms = terms;
    if (terms.mark) this.#sets.add(terms.mark);
    this.#require = {
      equals: (key, value) => this.#condition('equals', 'none', [key], ['the value', value]),
      hashEquals: (key, field, value) =>
        this.#condition('hash_equals', 'none', [key], ['the field', field], ['the value', value]),
      exists: (key) => this.#condition('exists', 'none', [key]),
      absent: (key) => this.#condition('absent', 'none', [key]),
      version: (key, field, expected) => {
        const version = integer({ call: 'tx.require.version' }, 'the version', expected);
        return this.#condition('version', 'hash', [key], ['the field', field], ['the version', version]);
      },
    };
  }

  get require(): Conditions {
    this.#throwIfClosed();
    return this.#require;
  }

  /** No more commands: the handler has settled, or it runs without dedup. */
  close(why: 'settled' | 'bypassed'): void {
    if (this.#closed === 'open') this.#closed = why;
  }

  /** How many it holds, conditions not counted. */
  get commands(): number {
    return this.#commands;
  }

  get effects(): EffectList {
    const effects = this.#withMark();
    const { keys, plan } = effects;
    if (!this.#terms.isCluster || !(this.#severalAtOnce || this.#uses.some(({ comesBack }) => comesBack)))
      return effects;
    return { ...effects, keys: [...keys, absentKey(this.#terms)], plan: `${plan}1` };
  }

  #withMark(): EffectList {
    const { mark: record } = this.#terms;
    if (!record && this.#words.length === 0) return NO_EFFECTS;
    const plan = this.#uses.map(({ letter }) => letter).join('');
    const effects = { keys: this.#keys, plan, words: this.#words, alone: this.#alone };
    if (!record) return effects;
    const { mark, keptMs } = record;
    const number = this.#numbers.get(mark.keys[0] as string);
    const words = [...recordMarkWords(number ?? this.#keys.length + 1, mark, keptMs), ...this.#words];
    if (number !== undefined) return { ...effects, words };
    return { ...effects, words, keys: [...this.#keys, ...mark.keys], plan: plan + bucketPlan(mark) };
  }

  /** @param number as the script tells it, from 1; the one after the last is the record's own mark */
  origin(number: number): EffectOrigin {
    return this.#origins[number - 1] ?? { index: this.#commands, name: 'seen' };
  }

  /** Does it mark anything in a set? */
  get marks(): boolean {
    return this.#sets.size > 0;
  }

  /** @throws as `SeenWork` has it */
  async agree(): Promise<void> {
    for (const set of this.#sets) await set.agree();
  }

  seen(set: SeenSet, id: string): this {
    this.#throwIfClosed();
    const place = { call: 'tx.seen' };
    const work = workOf(set) ?? wrong(place, 'the set', 'a SeenSet', set);
    const { connection, isCluster, keyPrefix, redisKey, key } = this.#terms;
    if (work.connection !== connection) refuse(place, 'a set of the same connection');
    if (this.#commands === MOST_COMMANDS) refuse(place, `no more: one \`tx\` holds ${MOST_COMMANDS} commands`);
    const mark = work.markOf(id);
    if (isCluster && !areInOneSlot(keyPrefix, mark.keys[0] as string, redisKey)) {
      throw new CrossSlotError(
        'Expected the set of `tx.seen` to be in the slot of the record: give both the same `slot`',
        {
          key,
        },
      );
    }
    const origin = { index: this.#commands, name: 'seen' };
    this.#push('SEEN', 'seen', this.#numberOfBuckets(mark), markArguments(mark), origin, place);
    this.#sets.add(work);
    this.#commands += 1;
    return this;
  }

  /** That of the first; the others follow it. */
  #numberOfBuckets({ keys }: Mark): number {
    const first = keys[0] as string;
    const known = this.#numbers.get(first);
    if (known !== undefined) return known;
    const number = this.#keys.length + 1;
    this.#numbers.set(first, number);
    for (const key of keys) {
      this.#keys.push(key);
      this.#uses.push(new KeyUse());
      this.#bytes += key.length;
    }
    return number;
  }

  record(name: CommandName, spec: CommandSpec, args: readonly unknown[]): this {
    this.#throwIfClosed();
    const place = { call: `tx.${name}` };
    if (this.#commands === MOST_COMMANDS) refuse(place, `no more: one \`tx\` holds ${MOST_COMMANDS} commands`);
    const origin = { index: this.#commands, name };
    if (spec.ofKeys) {
      const keys = args.flat();
      if (keys.length === 0) refuse(place, 'at least one key');
      const numbers = keys.map((key) => this.#numberOf(key, place));
      for (const number of numbers) this.#use(number).add('UNLINK', spec.type, [], place);
      const [first, ...others] = numbers as [number, ...number[]];
      this.#severalAtOnce ||= others.length > 0;
      this.#push('UNLINK', spec.type, first, others.map(String), origin, place);
    } else if (spec.type === 'none') {
      this.#push(name.toUpperCase(), spec.type, 0, spec.read(args, place), origin, place);
    } else {
      const [key, ...rest] = args;
      const number = this.#numberOf(key, place);
      const words = spec.read(rest, place);
      const command = name.toUpperCase();
      this.#use(number).add(command, spec.type, words, place);
      this.#push(command, spec.type, number, words, origin, place);
    }
    this.#commands += 1;
    this.#alone ||= spec.alone === true;
    return this;
  }

  #condition(
    name: 'equals' | 'hash_equals' | 'exists' | 'absent' | 'version',
    type: 'none' | 'hash',
    [key]: [unknown],
    ...args: [what: string, value: unknown][]
  ): Effects {
    this.#throwIfClosed();
    const place = { call: `tx.require.${name === 'hash_equals' ? 'hashEquals' : name}` };
    if (this.#conditions === MOST_COMMANDS) refuse(place, `no more: one \`tx\` holds ${MOST_COMMANDS} conditions`);
    const number = this.#numberOf(key, place);
    const words = args.map(([what, value]) => word(place, what, value));
    if (type === 'hash') this.#use(number).add(name, type, words, place);
    const origin = { index: this.#conditions, name: place.call.slice('tx.'.length) };
    this.#push(name, type, number, words, origin, place);
    this.#conditions += 1;
    return this as unknown as Effects;
  }

  #push(name: string, type: string, number: number, words: Word[], origin: EffectOrigin, place: Place): void {
    const bytes = words.reduce((sum, part) => sum + Buffer.byteLength(part), 0);
    if (words.length > MOST_ARGUMENTS) refuse(place, `at most ${MOST_ARGUMENTS} arguments, got ${words.length}`);
    if (this.#words.length + words.length > MOST_WORDS) {
      refuse(place, `no more: one \`tx\` holds some ${MOST_WORDS} arguments`);
    }
    if (this.#bytes + bytes > MOST_BYTES) refuse(place, `no more: one \`tx\` holds ${MOST_BYTES} bytes`);
    this.#bytes += bytes;
    this.#words.push(name, type, String(number), String(words.length));
    for (const part of words) this.#words.push(part);
    this.#origins.push(origin);
  }

  /** The key's number among the entry's keys, from 1. */
  #numberOf(key: unknown, place: Place): number {
    const bytes = this.#checkKey(key, place);
    const name = bytes.toString('latin1');
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#keys.push(typeof key === 'string' ? key : bytes);
    this.#uses.push(new KeyUse());
    this.#numbers.set(name, this.#keys.length);
    this.#bytes += bytes.length;
    return this.#keys.length;
  }

  #use(number: number): KeyUse {
    return this.#uses[number - 1] as KeyUse;
  }

  /** @throws InvalidKeyError, CrossSlotError */
  #checkKey(key: unknown, { call }: Place): Buffer {
    const { key: dedupKey, redisKey, namespace, keyPrefix, isCluster } = this.#terms;
    if ((typeof key !== 'string' && !(key instanceof Uint8Array)) || key.length === 0) {
      throw new InvalidKeyError(
        `Expected the key of \`${call}\` to be a string or a Buffer with something in it, got ${given(key)}`,
        { key: dedupKey },
      );
    }
    const bytes = Buffer.from(key as string);
    if (isRecordKey(bytes.toString(), namespace)) {
      throw new InvalidKeyError(
        `Expected the key of \`${call}\` to be one of the data, got one of the library: \`${namespace}:\` is the namespace of its records`,
        { key: dedupKey },
      );
    }
    if (isCluster && !areInOneSlot(keyPrefix, bytes, redisKey)) {
      throw new CrossSlotError(
        `Expected the key of \`${call}\` to be in the slot of the record: give both the same hash tag (\`slot\`)`,
        { key: dedupKey },
      );
    }
    return bytes;
  }

  #throwIfClosed(): void {
    const { key } = this.#terms;
    if (this.#closed === 'settled') {
      throw new TxClosedError('The handler has settled: nothing can be added to its `tx`', { key });
    }
    if (this.#closed === 'bypassed') {
      throw new StoreUnavailableError('The handler runs without Redis: there is nothing that `tx` could commit to', {
        key,
      });
    }
  }
}

/**
 * A key that is never there, in the record's slot. While a slot is moved, a key that a script removes cannot be made again,
 * nor several be named of which another entry of the list has removed one: the script would fail in the middle. A script
 * that declares a key which is not there is not run at all until then.
 */
function absentKey({ redisKey, namespace, keyPrefix }: RecorderTerms): string {
  const name = keyPrefix + redisKey;
  return `{${/\{([^{}]+)\}/.exec(name)?.[1] ?? name}}:${namespace}::absent`;
}

for (const [name, spec] of Object.entries(COMMANDS) as [CommandName, CommandSpec][]) {
  Object.defineProperty(Recorder.prototype, name, {
    value(this: Recorder, ...args: unknown[]) {
      return this.record(name, spec, args);
    },
  });
}

/** The recorder as its callers see it. */
export function effectsOf(recorder: Recorder): Effects {
  return recorder as unknown as Effects;
}

/**
 * Takes in what a caller writes with an `apply`.
 *
 * @throws InvalidOptionError where it is no function, or goes on after it has returned; and what it throws
 */
export function recordAll(recorder: Recorder, write: (tx: Effects) => unknown): EffectList {
  const returned = write(effectsOf(recorder));
  recorder.close('settled');
  if (typeof (returned as PromiseLike<unknown> | undefined)?.then === 'function') {
    Promise.resolve(returned).catch(() => {});
    throw new InvalidOptionError('Expected the writes of `apply` to be given at once, got a promise: use `once`');
  }
  return recorder.effects;
}
