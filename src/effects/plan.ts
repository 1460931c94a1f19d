/**
 * How the commands of one list meet on one key: what of its contents the check must follow, and the few sequences that
 * it cannot.
 */
import { type Place, refuse, type Word } from './arguments.js';
import type { DataType } from './commands.js';

/** A letter for each key, read by lua/lib/follow.lua: nothing of its contents matters, values do, or everything. */
type Letter = '1' | 'v' | '*';

const NUMBERS = ['INCR', 'INCRBY', 'DECR', 'DECRBY'];
const BYTES = ['APPEND', 'SETRANGE', 'SETBIT'];
const RANGES = ['ZREMRANGEBYSCORE', 'ZREMRANGEBYRANK'];
const TIMES = ['EXPIRE', 'PEXPIRE', 'EXPIREAT', 'PEXPIREAT'];
/** After these there may be no key. */
const REMOVALS = ['UNLINK', 'HDEL', 'SREM', 'ZREM', 'LTRIM', 'LREM', ...RANGES, ...TIMES];

export class KeyUse {
  /** The types that commands needed since the list last replaced or removed the key. */
  readonly #types = new Set<DataType>();
  readonly #floatFields = new Set<string>();
  #letter: Letter = '1';
  /** Of a string: what of it the check can no longer calculate. */
  #unknown: 'nothing' | 'float' | 'hyperloglog' | 'bytes' = 'nothing';
  #lengthUnknown: string | undefined;
  #autoId = false;
  #rangeRemoved = false;
  #placesRemoved = false;
  #hasPlaces = false;
  #mayBeGone = false;
  #comesBack = false;

  /** Does a command come after one that may remove the key? */
  get comesBack(): boolean {
    return this.#comesBack;
  }

  get letter(): Letter {
    return this.#letter;
  }

  /**
   * Takes in the next command.
   *
   * @throws InvalidOptionError for a command whose success could not be foreseen after the earlier ones
   */
  add(command: string, type: DataType, words: readonly Word[], place: Place): void {
    this.#comesBack ||= this.#mayBeGone;
    this.#mayBeGone ||= REMOVALS.includes(command) || (command === 'SET' && String(words[1]).endsWith('AT'));
    if (command === 'UNLINK' || command === 'SET') this.#replaced();
    if (TIMES.includes(command)) {
      if (Number(words[0]) <= 0 && !command.endsWith('AT')) this.#replaced();
      this.#lengthUnknown = 'an expiry';
    }
    const needed = command === 'SET' ? 'string' : type;
    if (needed === 'any') return;
    this.#types.add(needed);
    if (this.#types.size > 1) this.#letter = '*';
    if (type === 'string') this.#addString(command, place);
    if (type === 'hash') this.#addHash(command, words, place);
    if (type === 'zset') this.#addZset(command, words);
    if (type === 'list') this.#addList(command, place);
    if (type === 'stream') this.#addStream(command, words, place);
    if (this.#letter === '*' && this.#placesRemoved) {
      refuse(
        place,
        'a key whose type is known: an earlier removal by range among places leaves what cannot be foreseen',
      );
    }
  }

  #replaced(): void {
    this.#types.clear();
    this.#floatFields.clear();
    this.#unknown = 'nothing';
    this.#lengthUnknown = undefined;
    this.#autoId = false;
    this.#rangeRemoved = false;
    this.#placesRemoved = false;
    this.#hasPlaces = false;
  }

  #followValues(): void {
    if (this.#letter === '1') this.#letter = 'v';
  }

  #addString(command: string, place: Place): void {
    if (BYTES.includes(command)) {
      if (this.#unknown !== 'nothing') this.#unknown = 'bytes';
      return;
    }
    this.#followValues();
    if (this.#unknown === 'bytes' || (this.#unknown === 'float' && NUMBERS.includes(command))) {
      refuse(
        place,
        'a key whose value is known: an earlier command of this `tx` leaves a value that cannot be foreseen',
      );
    }
    if (command === 'INCRBYFLOAT') this.#unknown = 'float';
    if (command === 'PFADD') this.#unknown = 'hyperloglog';
  }

  #addHash(command: string, words: readonly Word[], place: Place): void {
    if (command === 'HSET') {
      for (let at = 0; at < words.length; at += 2) this.#floatFields.delete(nameOf(words[at]));
    }
    if (command === 'HDEL') for (const field of words) this.#floatFields.delete(nameOf(field));
    if (!/^(HINCRBY|HINCRBYFLOAT|version)$/.test(command)) return;
    this.#followValues();
    const field = nameOf(words[0]);
    if (command === 'HINCRBYFLOAT') this.#floatFields.add(field);
    else if (this.#floatFields.has(field)) {
      refuse(
        place,
        'a field whose value is known: an earlier `tx.hincrbyfloat` leaves a value that cannot be foreseen',
      );
    }
  }

  #addZset(command: string, words: readonly Word[]): void {
    this.#hasPlaces ||= command === 'GEOADD';
    if (RANGES.includes(command)) {
      this.#rangeRemoved = true;
      this.#placesRemoved ||= this.#hasPlaces;
    }
    if (command === 'ZINCRBY' && String(words[0]).endsWith('inf')) {
      this.#followValues();
      if (this.#rangeRemoved) this.#letter = '*';
    }
  }

  #addList(command: string, place: Place): void {
    if (command === 'LSET' && this.#lengthUnknown) {
      refuse(place, `an element that is there: after ${this.#lengthUnknown} in this \`tx\` that cannot be foreseen`);
    }
    if (command === 'LREM' || command === 'LTRIM') this.#lengthUnknown = `\`${command}\``;
  }

  #addStream(command: string, words: readonly Word[], place: Place): void {
    if (command !== 'XADD') return;
    const isAuto = idOf(words) === '*';
    if (this.#autoId && !isAuto) refuse(place, 'the id `*`: an earlier one of this `tx` is not known beforehand');
    this.#autoId ||= isAuto;
  }
}

/** The id among the arguments of XADD, after its options. */
function idOf(words: readonly Word[]): Word | undefined {
  let at = words[0] === 'NOMKSTREAM' ? 1 : 0;
  if (words[at] === 'MAXLEN' || words[at] === 'MINID') at += words[at + 1] === '~' || words[at + 1] === '=' ? 3 : 2;
  if (words[at] === 'LIMIT') at += 2;
  return words[at];
}

/** A field's bytes as a name in a set. */
function nameOf(word: Word | undefined): string {
  return Buffer.from(word as string).toString('latin1');
}
