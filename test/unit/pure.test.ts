/** The pure files: durations, fingerprints, the JSON codec, failures, signals, flights. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Flights } from '../../src/call/flight.js';
import { json } from '../../src/codec.js';
import { formatMs, parseDuration } from '../../src/duration.js';
import { readFailure, writeFailure } from '../../src/failure.js';
import { fingerprintOf } from '../../src/fingerprint.js';
import { onAbort } from '../../src/signals.js';
import { newToken } from '../../src/token.js';

describe('a duration', () => {
  test.each([
    [0, 0],
    [250, 250],
    ['250ms', 250],
    ['30s', 30_000],
    ['5m', 300_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['0s', 0],
  ])('%j is %i ms', (value, ms) => expect(parseDuration(value)).toBe(ms));

  test.each([
    -1,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 53,
    '',
    '5',
    's',
    '1.5s',
    '-1s',
    ' 1s',
    '1s ',
    '1 s',
    '1w',
    '1S',
    '9999999999999999d',
    null,
    true,
    {},
  ])('%j is none', (value) => expect(parseDuration(value)).toBeUndefined());

  test.each([
    [1_000, '1 s'],
    [90_000, '90 s'],
    [3_600_000, '1 h'],
    [0, '0 ms'],
    [1_500, '1500 ms'],
    [604_800_000, '7 d'],
  ])('%i ms is told as %s', (ms, text) => expect(formatMs(ms)).toBe(text));
});

describe('a fingerprint', () => {
  const of = (value: unknown) => Buffer.from(fingerprintOf(value, 'k')).toString('hex');

  test('does not depend on the order of object keys, at any depth, and does on everything else', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        const reversed = JSON.parse(JSON.stringify(a), (_, part) =>
          part && typeof part === 'object' && !Array.isArray(part)
            ? Object.fromEntries(Object.entries(part).reverse())
            : part,
        );
        expect(of(reversed)).toBe(of(a));
        expect(of([a, b]) === of([b, a])).toBe(of(a) === of(b));
      }),
    );
  });

  test('is 128 bits, and none at all of undefined', () => {
    expect(fingerprintOf({ a: 1 }, 'k')).toHaveLength(16);
    expect(fingerprintOf(undefined, 'k')).toHaveLength(0);
    expect(of(null)).not.toBe(of(0));
    expect(of('1')).not.toBe(of(1));
  });

  test('names no payload where it is refused', () => {
    const cycle: Record<string, unknown> = { secret: 'hunter2' };
    cycle.self = cycle;
    for (const value of [cycle, { secret: 'hunter2', f: () => 1 }, { secret: 'hunter2', m: new Set() }]) {
      expect(() => of(value)).toThrow(/^Expected `fingerprint` to be a JSON value, got (?!.*hunter2)/);
    }
  });
});

test('the JSON codec gives back the JSON form of every value, and undefined', () => {
  const round = (value: unknown) => json.decode(Buffer.from(json.encode(value, { redisKey: 'k' })), { redisKey: 'k' });
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(round(value)).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
  expect(round(undefined)).toBeUndefined();
  expect(round('')).toBe('');
});

test('a stored failure keeps name, message and code, whatever was thrown', () => {
  fc.assert(
    fc.property(fc.anything(), (thrown) => {
      const failure = readFailure(Buffer.from(writeFailure(thrown)));
      expect(typeof failure.name).toBe('string');
      expect(typeof failure.message).toBe('string');
      expect(Object.keys(failure).every((name) => ['name', 'message', 'code'].includes(name))).toBe(true);
    }),
  );
  expect(JSON.parse(writeFailure(new Error('x'.repeat(100_000)))).message).toHaveLength(8_192);
});

test('tokens are 16 characters of a byte each, and do not repeat', () => {
  const tokens = Array.from({ length: 2_000 }, newToken);
  expect(new Set(tokens.flatMap((token) => [token.length, Buffer.byteLength(token)]))).toEqual(new Set([16]));
  expect(new Set(tokens.join('')).size).toBe(128);
  expect(new Set(tokens).size).toBe(2_000);
});

describe('a signal that many listen to', () => {
  test('tells each once, with its reason, at once where it has aborted', () => {
    const controller = new AbortController();
    const told: unknown[] = [];
    const listener = (reason: unknown) => told.push(reason);
    onAbort(controller.signal, listener);
    onAbort(controller.signal, listener);
    const off = onAbort(controller.signal, () => expect.fail('taken away'));
    off();
    off();
    controller.abort('why');
    onAbort(controller.signal, listener);
    onAbort(undefined, listener)();
    expect(told).toEqual(['why', 'why', 'why']);
  });
});

describe('a flight', () => {
  test('gives its answer to all who follow, and is over', async () => {
    const flights = new Flights<string>();
    const flight = flights.open('id');
    const seats = [flight.follow(), flight.follow()];
    flights.close('id', flight, 'answer');
    for (const seat of seats) expect(await seat.verdict).toEqual({ kind: 'answer', answer: 'answer' });
    expect(flights.get('id')).toBeUndefined();
  });

  test('is led on by the first in line that is still there', async () => {
    const flights = new Flights<string>();
    const flight = flights.open('id');
    const [gone, next, last] = [flight.follow(), flight.follow(), flight.follow()];
    gone.leave();
    flights.close('id', flight, undefined);
    expect(await next.verdict).toEqual({ kind: 'lead' });
    expect(flights.get('id')).toBe(flight);
    flights.close('id', flight, 'answer');
    expect(await last.verdict).toEqual({ kind: 'answer', answer: 'answer' });
  });
});
