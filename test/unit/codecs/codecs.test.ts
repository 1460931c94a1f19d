/** What the codecs keep, and that none reads what another wrote. */
import { createSecretKey, randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { Packr } from 'msgpackr';
import superjson from 'superjson';
import { describe, expect, test } from 'vitest';
import { headerOf } from '../../../src/codec-header.js';
import { compressed, encrypted, messagePack, rich } from '../../../src/codecs/index.js';
import { type Codec, isDedupError, json } from '../../../src/index.js';

const CONTEXT = { redisKey: 'orders:o1' };
const KEYS = { current: 'k1', keys: { k1: randomBytes(32) } };
const packr = new Packr({ moreTypes: true });

const RICH = rich(superjson);
const PACKED = messagePack(packr);
const CODECS: Record<string, Codec> = {
  json,
  rich: RICH,
  messagePack: PACKED,
  compressed: compressed(json),
  encrypted: encrypted(json, KEYS),
};
const LAYERED: Record<string, Codec> = {
  rich: RICH,
  messagePack: PACKED,
  'compressed(rich)': compressed(RICH, { above: 0 }),
  'encrypted(compressed(rich))': encrypted(compressed(RICH, { above: 16 }), KEYS),
  'encrypted(messagePack)': encrypted(PACKED, KEYS),
};

/** The bytes as a record has them. */
function bytesOf(codec: Codec, value: unknown, context = CONTEXT): Buffer {
  return Buffer.from(codec.encode(value, context) as string);
}

function roundTrip(codec: Codec, value: unknown): unknown {
  return codec.decode(bytesOf(codec, value), CONTEXT);
}

/** The work fails with a CodecError. Returns what it and its causes say. */
function codecErrorOf(work: () => unknown): string {
  try {
    const value = work();
    return expect.fail(`Expected a CodecError, got a value: ${String(value)}`);
  } catch (error) {
    if (!isDedupError(error, 'CODEC')) throw error;
    return [error, error.cause].map(String).join('\n');
  }
}

/** No property may be named so: superjson refuses it, as it should. */
const key = fc.string().filter((name) => !['__proto__', 'constructor', 'prototype', 'toJSON'].includes(name));
const settings = { key, maxDepth: 3, withBigInt: true, withDate: true, withMap: true, withSet: true };

describe('a value comes back as it was', () => {
  const ofRich = fc.anything(settings).filter((value) => !hasInvalidDate(value));
  // MessagePack has no -0, and its strings are UTF-8.
  const ofMessagePack = fc
    .anything({ ...settings, key: key.filter((name) => name.isWellFormed()) })
    .filter((value) => !hasInvalidDate(value) && !has(value, (part) => Object.is(part, -0)));

  test.each(Object.entries(LAYERED))('by %s, of any type that it is said to keep', (name, codec) => {
    fc.assert(
      fc.property(/messagePack/.test(name) ? ofMessagePack : ofRich, (value) => {
        expect(isDeepStrictEqual(roundTrip(codec, value), value)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test.each(Object.entries({ ...CODECS, ...LAYERED }))(
    'by %s: undefined, null, false, 0 and the empty string',
    (_, codec) => {
      for (const value of [undefined, null, false, 0, '']) expect(roundTrip(codec, value)).toBe(value);
    },
  );

  test.each([
    ['a Date', new Date(0)],
    ['a Map', new Map([['a', new Set([1n])]])],
    ['a BigInt beyond 64 bits', 2n ** 200n],
    ['NaN', Number.NaN],
    ['an infinity', Number.NEGATIVE_INFINITY],
    ['undefined in an object', { a: undefined }],
    ['a typed array', { bytes: new Uint8Array([1, 2, 3]) }],
  ])('%s, by rich and by messagePack', (_, value) => {
    expect(roundTrip(RICH, value)).toStrictEqual(value);
    expect(roundTrip(PACKED, value)).toStrictEqual(value);
  });

  test('-0 by rich, a Buffer by messagePack', () => {
    expect(roundTrip(RICH, { zero: -0 })).toStrictEqual({ zero: -0 });
    expect(roundTrip(PACKED, Buffer.from('abc'))).toStrictEqual(Buffer.from('abc'));
  });
});

describe('bytes of another codec', () => {
  const pairs = Object.keys(CODECS).flatMap((writer) =>
    Object.keys(CODECS).flatMap((reader) => (writer === reader ? [] : [[writer, reader] as const])),
  );

  test.each(pairs)('those of %s are told by %s, and not read', (writer, reader) => {
    const bytes = bytesOf(CODECS[writer] as Codec, { a: [1, 'text'] });
    const told = codecErrorOf(() => CODECS[reader]?.decode(bytes, CONTEXT));
    expect(told).toContain(`Expected the bytes of \`${reader}\``);
    expect(told).toContain(`found those of ${writer === 'json' ? 'a codec without a header' : `\`${writer}\``}`);
  });

  test('are never JSON: no text begins with the first byte of the others', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(0x10ffff)).map((points) => String.fromCodePoint(...points)),
        fc.constantFrom('rich', 'messagePack', 'compressed', 'encrypted'),
        (text, name) => {
          const [first] = headerOf(name as 'rich');
          expect(Buffer.from(text).includes(first as number)).toBe(false);
          codecErrorOf(() => json.decode(Buffer.concat([headerOf(name as 'rich'), Buffer.from(text)]), CONTEXT));
        },
      ),
    );
  });

  test('of a later version, and no bytes at all, are told as well', () => {
    const bytes = bytesOf(RICH, 1);
    bytes[2] = 2;
    expect(codecErrorOf(() => RICH.decode(bytes, CONTEXT))).toContain('found those of `rich`, version 2');
    expect(codecErrorOf(() => RICH.decode(Buffer.alloc(0), CONTEXT))).toContain('found none');
  });

  test('that are nobody’s are a CodecError in every codec with a header, whatever follows the header', () => {
    for (const [name, codec] of Object.entries(CODECS)) {
      if (name === 'json' || name === 'rich' || name === 'messagePack') continue;
      fc.assert(
        fc.property(fc.uint8Array(), (tail) => {
          const error = thrownBy(() => codec.decode(Buffer.concat([headerOf(name as 'rich'), tail]), CONTEXT));
          expect(error === undefined || isDedupError(error, 'CODEC')).toBe(true);
          if (name === 'encrypted') expect(error).toBeDefined();
        }),
      );
    }
  });
});

describe('no error shows what is stored', () => {
  const SECRET = 'hunter2';

  test.each([
    ['json', () => json.decode(Buffer.from(SECRET), CONTEXT)],
    ['rich', () => RICH.decode(Buffer.concat([headerOf('rich'), Buffer.from(SECRET)]), CONTEXT)],
    ['rich, of a type that it cannot read', () => RICH.decode(bytesOf(RICH, Buffer.from(SECRET)), CONTEXT)],
    ['messagePack', () => PACKED.decode(Buffer.concat([bytesOf(PACKED, SECRET), Buffer.from(SECRET)]), CONTEXT)],
    [
      'compressed',
      () => compressed(json).decode(Buffer.concat([headerOf('compressed'), Buffer.from(`\x00${SECRET}`)]), CONTEXT),
    ],
    [
      'messagePack, writing',
      () => messagePack(new Packr()).encode(2n ** 70n + BigInt(Buffer.from(SECRET)[0] as number), CONTEXT),
    ],
  ])('of %s', (_, work) => {
    const told = codecErrorOf(work);
    expect(told).not.toContain(SECRET.slice(0, 3));
    expect(told).not.toMatch(/\d{8}/);
  });
});

describe('a library', () => {
  test.each([
    ['JSON', () => rich(JSON as never)],
    ['nothing', () => rich(undefined as never)],
    ['JSON', () => messagePack(JSON as never)],
    ['superjson', () => messagePack(superjson as never)],
  ])('that is %s is refused', (_, make) => {
    expect(thrownBy(make)).toMatchObject({ code: 'INVALID_OPTION' });
  });

  test.each([
    ['kept in memory', new Packr({ structures: [] })],
    ['kept elsewhere', new Packr({ getStructures: () => [], saveStructures: () => true })],
  ])('whose names of properties are %s is refused: nobody else could read the bytes', (_, library) => {
    expect(thrownBy(() => messagePack(library))).toMatchObject({ code: 'INVALID_OPTION' });
  });

  test('that writes for another process is taken: a Packr of its own reads it', () => {
    const bytes = bytesOf(PACKED, { a: [{ b: 1 }, { b: 2 }] });
    expect(messagePack(new Packr()).decode(bytes, CONTEXT)).toEqual({ a: [{ b: 1 }, { b: 2 }] });
  });
});

describe('a layer', () => {
  test('around something that is no codec is refused', () => {
    expect(thrownBy(() => compressed({} as Codec))).toMatchObject({ code: 'INVALID_OPTION' });
    expect(thrownBy(() => encrypted(undefined as unknown as Codec, KEYS))).toMatchObject({ code: 'INVALID_OPTION' });
  });

  test('around a codec that encodes to neither text nor bytes is a CodecError', () => {
    const odd = { encode: () => 5 as unknown as string, decode: () => 5 };
    codecErrorOf(() => compressed(odd).encode(1, CONTEXT));
  });

  test('is told the record’s key, and tells it to the codec within', () => {
    const told: string[] = [];
    const inner: Codec = {
      encode: (value, { redisKey }) => `${told.push(redisKey)}${value}`,
      decode: (bytes, { redisKey }) => `${told.push(redisKey)}${bytes}`,
    };
    expect(roundTrip(encrypted(compressed(inner), KEYS), 'x')).toBe('21x');
    expect(told).toEqual(['orders:o1', 'orders:o1']);
  });

  test('takes a KeyObject for a key', () => {
    const one = encrypted(json, KEYS);
    const other = encrypted(json, { current: 'k1', keys: { k1: createSecretKey(KEYS.keys.k1) } });
    expect(other.decode(bytesOf(one, 'x'), CONTEXT)).toBe('x');
  });
});

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Has the value a part, at any depth, that is so? */
function has(value: unknown, is: (part: unknown) => boolean): boolean {
  if (is(value)) return true;
  if (value instanceof Map) return [...value].some((part) => has(part, is));
  if (value instanceof Set || Array.isArray(value)) return [...value].some((part) => has(part, is));
  return typeof value === 'object' && value !== null && Object.values(value).some((part) => has(part, is));
}

function hasInvalidDate(value: unknown): boolean {
  return has(value, (part) => part instanceof Date && Number.isNaN(part.getTime()));
}
