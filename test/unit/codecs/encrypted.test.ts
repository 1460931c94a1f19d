/** Encryption: whatever is done to a record, to its key or to its place, it is opened as it was written or not at all. */
import { createSecretKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { headerOf } from '../../../src/codec-header.js';
import { type EncryptionOptions, encrypted } from '../../../src/codecs/index.js';
import { type Codec, isDedupError, json } from '../../../src/index.js';

const [OLD, NEW] = [randomBytes(32), randomBytes(32)];
const HERE = { redisKey: 'orders:o1' };
const codec = encrypted(json, { current: 'old', keys: { old: OLD } });

function written(by: Codec = codec, value: unknown = { card: '4242' }): Buffer {
  return by.encode(value, HERE) as Buffer;
}

/** It cannot be opened, and nothing more is told. */
function expectShut(bytes: Buffer, by: Codec = codec, context = HERE): void {
  try {
    by.decode(bytes, context);
  } catch (error) {
    if (!isDedupError(error, 'CODEC')) throw error;
    expect(error.cause).toBeUndefined();
    return;
  }
  expect.fail('Expected a CodecError, got a value');
}

test('what is stored shows nothing of the result, and is never twice the same', () => {
  const texts = Array.from({ length: 200 }, () => written().toString('latin1'));
  expect(new Set(texts).size).toBe(200);
  // The header, the id and its length come before 12 bytes of nonce: these too never come twice.
  expect(new Set(texts.map((text) => text.slice(7, 19))).size).toBe(200);
  for (const text of texts) expect(text).not.toContain('4242');
});

test('a result in another record, under another key, is not opened', () => {
  expect(codec.decode(written(), HERE)).toEqual({ card: '4242' });
  for (const redisKey of ['orders:o2', 'orders:o1 ', '', 'Orders:o1']) expectShut(written(), codec, { redisKey });
});

test('a result with any one bit changed is not opened', () => {
  const bytes = written();
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
    expectShut(changed);
  }
});

test('a result that is cut off anywhere, or has more at its end, is not opened', () => {
  const bytes = written();
  for (let length = 0; length < bytes.length; length += 1) expectShut(bytes.subarray(0, length));
  expectShut(Buffer.concat([bytes, Buffer.of(0)]));
});

test('a part of the id cannot be taken for a part of the record’s key', () => {
  const same = encrypted(json, { current: 'ab', keys: { ab: OLD, a: OLD } });
  const bytes = same.encode(1, { redisKey: 'c' }) as Buffer;
  const moved = Buffer.concat([headerOf('encrypted'), Buffer.of(1), Buffer.from('a'), bytes.subarray(6)]);
  expectShut(moved, same, { redisKey: 'bc' });
});

describe('keys', () => {
  const rotated = encrypted(json, { current: 'new', keys: { new: NEW, old: OLD } });

  test('that were current before still read; the current one writes', () => {
    expect(rotated.decode(written(codec), HERE)).toEqual({ card: '4242' });
    expect(rotated.decode(written(rotated), HERE)).toEqual({ card: '4242' });
    expect(() => codec.decode(written(rotated), HERE)).toThrow(/one of the keys given, found one by `new`/);
  });

  test('of the same id and other bytes do not open it', () => {
    expectShut(written(), encrypted(json, { current: 'old', keys: { old: NEW } }));
  });

  test('are not opened by another id of the same bytes', () => {
    const bytes = written();
    bytes.write('odd', 4);
    expectShut(bytes, encrypted(json, { current: 'odd', keys: { odd: OLD } }));
  });

  test('are copied: one that is wiped afterwards keeps working', () => {
    const key = Buffer.from(OLD);
    const own = encrypted(json, { current: 'old', keys: { old: key } });
    key.fill(0);
    expect(own.decode(written(), HERE)).toEqual({ card: '4242' });
  });

  test('are shown by no error and no inspection', () => {
    const hex = OLD.toString('hex');
    expect(inspect(rotated, { depth: 10, showHidden: true })).not.toContain(hex.slice(0, 16));
    for (const wrong of [hex, hex.slice(0, 32), Buffer.from(hex)]) {
      const error = refusalOf({ current: 'a', keys: { a: wrong as Buffer } });
      expect(inspect(error, { depth: 10 })).not.toContain(hex.slice(0, 16));
    }
    expect(inspect(refusalOf(hex as never), { depth: 10 })).not.toContain(hex.slice(0, 16));
  });

  test.each<[string, unknown]>([
    ['no options', undefined],
    ['no keys', { current: 'a' }],
    ['a current one that is none of them', { current: 'b', keys: { a: OLD } }],
    ['one of 16 bytes', { current: 'a', keys: { a: randomBytes(16) } }],
    ['a text', { current: 'a', keys: { a: 'x'.repeat(32) } }],
    ['a public key', { current: 'a', keys: { a: generateKeyPairSync('ed25519').publicKey } }],
    ['a KeyObject of 16 bytes', { current: 'a', keys: { a: createSecretKey(randomBytes(16)) } }],
    ['an id with a space', { current: 'a b', keys: { 'a b': OLD } }],
    ['an id that is empty', { current: '', keys: { '': OLD } }],
    ['an id of 65 characters', { current: 'a'.repeat(65), keys: { ['a'.repeat(65)]: OLD } }],
    ['an option that there is not', { current: 'a', keys: { a: OLD }, algorithm: 'aes-128-gcm' }],
  ])('that are %s are refused', (_, options) => {
    expect(refusalOf(options as EncryptionOptions)).toMatchObject({ code: 'INVALID_OPTION' });
  });

  function refusalOf(options: EncryptionOptions): unknown {
    try {
      encrypted(json, options);
    } catch (error) {
      if (isDedupError(error)) return error;
      throw error;
    }
    return expect.fail('Expected an InvalidOptionError');
  }
});
