/** Compression: what is compressed, and how much a record may make of itself. */
import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { headerOf } from '../../../src/codec-header.js';
import { compressed } from '../../../src/codecs/index.js';
import { isDedupError, json } from '../../../src/index.js';

const CONTEXT = { redisKey: 'k' };
const OVERHEAD = 4;
/** A JSON text of so many bytes. */
const text = (bytes: number) => 'a'.repeat(bytes - 2);

function bytesOf(codec: ReturnType<typeof compressed>, value: unknown): Buffer {
  return codec.encode(value, CONTEXT) as Buffer;
}

function expectCodecError(work: () => unknown, message: RegExp): void {
  expect(work).toThrow(message);
  expect(work).toThrow(expect.objectContaining({ code: 'CODEC' }));
}

describe('a result', () => {
  test('of no more bytes than `above` is stored as it is, behind the header', () => {
    const codec = compressed(json, { above: 100 });
    expect(bytesOf(codec, text(100)).subarray(OVERHEAD).toString()).toBe(JSON.stringify(text(100)));
    expect(bytesOf(codec, text(101)).length).toBeLessThan(30);
  });

  test('that would not become shorter is stored as it is', () => {
    const codec = compressed(json, { above: 0 });
    expect(bytesOf(codec, 'q').subarray(OVERHEAD).toString()).toBe('"q"');
  });

  test('of any length comes back, compressed or not', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 3_000 }), fc.nat(2_000), (value, above) => {
        const codec = compressed(json, { above });
        expect(codec.decode(bytesOf(codec, value.repeat(3)), CONTEXT)).toBe(value.repeat(3));
      }),
    );
  });

  test('keeps being read where `above` has changed', () => {
    const bytes = bytesOf(compressed(json, { above: 10 }), text(500));
    expect(compressed(json, { above: 1_000 }).decode(bytes, CONTEXT)).toBe(text(500));
  });
});

describe('`maxBytes`', () => {
  const codec = compressed(json, { above: 10, maxBytes: 1_000 });

  test('bounds what is written and what is read, to the byte', () => {
    expect(codec.decode(bytesOf(codec, text(1_000)), CONTEXT)).toBe(text(1_000));
    expectCodecError(() => codec.encode(text(1_001), CONTEXT), /at most 1000 bytes/);
    const longer = bytesOf(compressed(json, { above: 10 }), text(1_001));
    expectCodecError(() => codec.decode(longer, CONTEXT), /more than 1000 bytes/);
  });

  test('is not exceeded by a small record that stands for much: its memory is never taken', () => {
    const bomb = Buffer.concat([headerOf('compressed'), Buffer.of(1), deflateSync(Buffer.alloc(64 * 1024 * 1024))]);
    expect(bomb.length).toBeLessThan(100_000);
    const before = process.memoryUsage().arrayBuffers;
    expectCodecError(() => codec.decode(bomb, CONTEXT), /more than 1000 bytes/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024);
  });
});

test.each([
  ['cut off', (bytes: Buffer) => bytes.subarray(0, -1)],
  ['changed', (bytes: Buffer) => bytes.map((byte, at) => (at === bytes.length - 1 ? byte ^ 1 : byte))],
  ['of another mark', (bytes: Buffer) => bytes.fill(7, 3, 4)],
  ['without a mark', (bytes: Buffer) => bytes.subarray(0, 3)],
])('bytes that are %s are a CodecError', (_, damage) => {
  const codec = compressed(json, { above: 10 });
  const damaged = Buffer.from(damage(Buffer.from(bytesOf(codec, text(500)))));
  expectCodecError(() => codec.decode(damaged, CONTEXT), /Expected compressed bytes/);
});

test.each([[{ above: -1 }], [{ above: 1.5 }], [{ maxBytes: 0 }], [{ level: 9 }], ['1kb']])(
  '%j is refused',
  (options) => {
    try {
      compressed(json, options as never);
    } catch (error) {
      if (isDedupError(error, 'INVALID_OPTION')) return;
      throw error;
    }
    expect.fail('Expected an InvalidOptionError');
  },
);
