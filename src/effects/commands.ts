/**
 * The closed list of write commands: the type that each needs, and how it reads its arguments. How each can fail on the
 * data is known to lua/lib/follow.lua; docs/effects.md has both in one table.
 */
import {
  float,
  integer,
  keyword,
  type Place,
  refuse,
  safeInteger,
  score,
  scoreBound,
  streamId,
  type Word,
  word,
  wrong,
} from './arguments.js';
import type { Effects } from './effects.js';

/** What a key must be for a command: `any` takes each and looks at none, `none` has no key. */
export type DataType = 'string' | 'hash' | 'set' | 'zset' | 'list' | 'stream' | 'any' | 'none';

export interface CommandSpec {
  readonly type: DataType;
  /** The arguments after the key. */
  readonly read: (args: readonly unknown[], place: Place) => Word[];
  /** All arguments are keys. */
  readonly ofKeys?: true;
  /** Its time, or its reply's, grows with the data: it shares no script call with others. */
  readonly alone?: true;
}

export type CommandName = Exclude<keyof Effects, 'require' | 'seen'>;

const nothing = (): Word[] => [];

/** Arguments in fixed places, each with a name and its reader. */
function fixed(...readers: [what: string, read: (place: Place, what: string, value: unknown) => Word][]) {
  return (args: readonly unknown[], place: Place): Word[] => {
    if (args.length !== readers.length) wrongCount(place, readers.map(([what]) => what).join(', '), args.length);
    return readers.map(([what, read], index) => read(place, what, args[index]));
  };
}

/** One or more values. */
function many(what: string, least = 1) {
  return (args: readonly unknown[], place: Place): Word[] => {
    const values = args.flat();
    if (values.length < least) wrongCount(place, `at least one ${what}`, values.length);
    return values.map((value) => word(place, `each ${what}`, value));
  };
}

function wrongCount(place: Place, takes: string, count: number): never {
  return refuse(place, `a key and ${takes}, got ${count} arguments after the key`);
}

function readSet([value, unit, time, ...rest]: readonly unknown[], place: Place): Word[] {
  const words = [word(place, 'the value', value)];
  if (unit === undefined && time === undefined) return words;
  if (keyword(unit, ['KEEPTTL']) && time === undefined) return [...words, 'KEEPTTL'];
  const name = keyword(unit, ['EX', 'PX', 'EXAT', 'PXAT']);
  if (!name || rest.length > 0) return wrong(place, 'the option', 'KEEPTTL, or one of EX, PX, EXAT and PXAT', unit);
  return [...words, name, safeInteger(place, `the time after ${name}`, time, 1)];
}

function readHset(args: readonly unknown[], place: Place): Word[] {
  const [first] = args;
  const isFields = args.length === 1 && typeof first === 'object' && first !== null && !(first instanceof Uint8Array);
  const pairs = isFields
    ? [...(first instanceof Map ? first.entries() : Object.entries(first as object))].flat()
    : args.flat();
  if (pairs.length === 0 || pairs.length % 2 !== 0) {
    wrongCount(place, 'fields and values in turn, or an object of them', pairs.length);
  }
  return pairs.map((value, index) => word(place, index % 2 === 0 ? 'each field' : 'each value', value));
}

/** The flags in front, in capitals, and the rest. */
function readFlags(args: readonly unknown[], flags: readonly string[], place: Place): [string[], unknown[]] {
  const values = args.flat();
  const found: string[] = [];
  for (let flag = keyword(values[0], flags); flag; flag = keyword(values[0], flags)) {
    found.push(flag);
    values.shift();
  }
  const excludes = ['NX XX', 'NX GT', 'NX LT', 'GT LT'].find((pair) =>
    pair.split(' ').every((flag) => found.includes(flag)),
  );
  if (excludes) refuse(place, `one of ${excludes.replace(' ', ' and ')}, got both`);
  return [[...new Set(found)], values];
}

function readZadd(args: readonly unknown[], place: Place): Word[] {
  const [flags, values] = readFlags(args, ['NX', 'XX', 'GT', 'LT', 'CH'], place);
  if (values.length === 0 || values.length % 2 !== 0) wrongCount(place, 'scores and members in turn', values.length);
  return [
    ...flags,
    ...values.map((value, index) =>
      index % 2 === 0 ? score(place, 'each score', value) : word(place, 'each member', value),
    ),
  ];
}

function coordinate(place: Place, what: string, value: unknown, limit: number): string {
  const text = float(place, what, value);
  return Math.abs(Number(text)) <= limit ? text : wrong(place, what, `within ±${limit}`, value);
}

function readGeoadd(args: readonly unknown[], place: Place): Word[] {
  const [flags, values] = readFlags(args, ['NX', 'XX', 'CH'], place);
  if (values.length === 0 || values.length % 3 !== 0) {
    wrongCount(place, 'longitudes, latitudes and members in turn', values.length);
  }
  const words = values.map((value, index) => {
    if (index % 3 === 0) return coordinate(place, 'each longitude', value, 180);
    if (index % 3 === 1) return coordinate(place, 'each latitude', value, 85.05112878);
    return word(place, 'each member', value);
  });
  return [...flags, ...words];
}

/** `MAXLEN | MINID [= | ~] threshold [LIMIT count]` at the front of `args`, which it takes away; nothing where it is not. */
function takeTrim(args: unknown[], place: Place): Word[] {
  const strategy = keyword(args[0], ['MAXLEN', 'MINID']);
  if (!strategy) return [];
  args.shift();
  const words: Word[] = [strategy];
  const approximately = args[0] === '~';
  if (args[0] === '=' || approximately) words.push(String(args.shift()));
  const threshold = args.shift();
  words.push(
    strategy === 'MAXLEN'
      ? safeInteger(place, 'the threshold', threshold, 0)
      : streamId(place, 'the threshold', String(threshold)),
  );
  if (keyword(args[0], ['LIMIT'])) {
    if (!approximately) refuse(place, 'LIMIT with `~` alone');
    args.shift();
    words.push('LIMIT', safeInteger(place, 'the limit', args.shift(), 0));
  }
  return words;
}

function readXadd(args: readonly unknown[], place: Place): Word[] {
  const rest = args.flat();
  const words: Word[] = [];
  if (keyword(rest[0], ['NOMKSTREAM'])) {
    rest.shift();
    words.push('NOMKSTREAM');
  }
  words.push(...takeTrim(rest, place));
  const given = rest.shift();
  const id = given === '*' ? '*' : streamId(place, 'the id', given);
  if (id === '0-0') wrong(place, 'the id', 'greater than 0-0', given);
  if (rest.length === 0 || rest.length % 2 !== 0) wrongCount(place, 'an id, fields and values in turn', rest.length);
  return [
    ...words,
    id,
    ...rest.map((value, index) => word(place, index % 2 === 0 ? 'each field' : 'each value', value)),
  ];
}

function readXtrim(args: readonly unknown[], place: Place): Word[] {
  const rest = args.flat();
  const words = takeTrim(rest, place);
  if (words.length === 0 || rest.length > 0) {
    wrongCount(place, '`MAXLEN | MINID [= | ~] threshold [LIMIT count]`', args.length);
  }
  return words;
}

function readIds(args: readonly unknown[], place: Place): Word[] {
  const ids = args.flat();
  if (ids.length === 0) wrongCount(place, 'at least one id', 0);
  return ids.map((id) => streamId(place, 'each id', id));
}

function readXack([group, ...ids]: readonly unknown[], place: Place): Word[] {
  return [word(place, 'the group', group), ...readIds(ids, place)];
}

function readSetbit(args: readonly unknown[], place: Place): Word[] {
  const [offset, bit] = fixed(
    ['the offset', (at, what, value) => safeInteger(at, what, value, 0)],
    ['the bit', (at, what, value) => integer(at, what, value, 0n, 1n)],
  )(args, place);
  return [offset as Word, bit as Word];
}

// Redis negates it, and its negative has no 64 bits; LREM counts from either end, and the same holds.
const negatable = (place: Place, what: string, value: unknown) => integer(place, what, value, -(2n ** 63n) + 1n);

const time = (what: string): CommandSpec => ({
  type: 'any',
  read: fixed([what, (place, name, value) => safeInteger(place, name, value)]),
});

export const COMMANDS: { readonly [N in CommandName]: CommandSpec } = {
  set: { type: 'any', read: readSet },
  setrange: {
    type: 'string',
    read: fixed(['the offset', (place, what, value) => safeInteger(place, what, value, 0)], ['the value', word]),
  },
  append: { type: 'string', read: fixed(['the value', word]) },
  setbit: { type: 'string', read: readSetbit },
  del: { type: 'any', read: nothing, ofKeys: true },
  unlink: { type: 'any', read: nothing, ofKeys: true },
  incr: { type: 'string', read: fixed() },
  incrby: { type: 'string', read: fixed(['the increment', integer]) },
  decr: { type: 'string', read: fixed() },
  decrby: { type: 'string', read: fixed(['the decrement', negatable]) },
  incrbyfloat: { type: 'string', read: fixed(['the increment', float]) },

  hset: { type: 'hash', read: readHset },
  hsetnx: { type: 'hash', read: fixed(['the field', word], ['the value', word]) },
  hdel: { type: 'hash', read: many('field') },
  hincrby: { type: 'hash', read: fixed(['the field', word], ['the increment', integer]) },
  hincrbyfloat: { type: 'hash', read: fixed(['the field', word], ['the increment', float]) },

  sadd: { type: 'set', read: many('member') },
  srem: { type: 'set', read: many('member') },

  zadd: { type: 'zset', read: readZadd },
  zincrby: { type: 'zset', read: fixed(['the increment', score], ['the member', word]) },
  zrem: { type: 'zset', read: many('member') },
  zremrangebyscore: {
    type: 'zset',
    read: fixed(['the minimum', scoreBound], ['the maximum', scoreBound]),
    alone: true,
  },
  zremrangebyrank: { type: 'zset', read: fixed(['the start', integer], ['the stop', integer]), alone: true },
  geoadd: { type: 'zset', read: readGeoadd },

  lpush: { type: 'list', read: many('element') },
  rpush: { type: 'list', read: many('element') },
  lpushx: { type: 'list', read: many('element') },
  rpushx: { type: 'list', read: many('element') },
  ltrim: { type: 'list', read: fixed(['the start', integer], ['the stop', integer]), alone: true },
  lrem: { type: 'list', read: fixed(['the count', negatable], ['the element', word]), alone: true },
  lset: { type: 'list', read: fixed(['the index', integer], ['the element', word]), alone: true },

  expire: time('the seconds'),
  pexpire: time('the milliseconds'),
  expireat: time('the seconds'),
  pexpireat: time('the milliseconds'),
  persist: { type: 'any', read: fixed() },

  xadd: { type: 'stream', read: readXadd },
  xdel: { type: 'stream', read: readIds },
  xtrim: { type: 'stream', read: readXtrim, alone: true },
  xack: { type: 'stream', read: readXack },

  pfadd: { type: 'string', read: many('element', 0) },
  publish: { type: 'none', read: fixed(['the channel', word], ['the message', word]) },
};
