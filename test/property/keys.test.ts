/** G9: no two inputs meet, whatever they contain. Thousands of nasty ones, and what they may not steer. */
import calculateSlot from 'cluster-key-slot';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { escapePart, recordKey } from '../../src/key.js';
import { makeDedup } from '../support/index.js';

const NASTY = [
  ...[
    '{',
    '}',
    '{}',
    '}{',
    '{a}',
    ':',
    '::',
    '%',
    '%3A',
    '%25',
    '#',
    '\0',
    '\n',
    '\r\n',
    ' ',
    '*',
    '?',
    '[a]',
    '\\',
    '"',
    "'",
  ],
  ...[
    '\ud800',
    '\udfff',
    '\udc00\ud800',
    '\ufffd',
    '😀',
    'é',
    'e\u0301',
    'ß',
    'SS',
    'NOSCRIPT',
    'TRYAGAIN',
    '__proto__',
    'once',
    'once:a',
  ],
  ...[
    'a',
    'A',
    'a:b',
    'b',
    'x'.repeat(128),
    'x'.repeat(129),
    'x'.repeat(500),
    '%'.repeat(43),
    'undefined',
    'null',
    '0',
  ],
];
const part = fc.oneof(
  fc.constantFrom(...NASTY),
  fc.array(fc.constantFrom(...NASTY), { minLength: 1, maxLength: 4 }).map((parts) => parts.join('')),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
  // The stored form of another key, as a key.
  fc.constantFrom(...NASTY).map((text) => recordKey('once', text, undefined)),
  fc.constantFrom(...NASTY).map(escapePart),
);
const input = fc.record({
  namespace: part,
  scope: fc.array(part, { maxLength: 3 }),
  key: part,
  slot: fc.option(fc.constantFrom('a', 'acct:42', 'once:a', '😀', ' ', '%7B'), { nil: undefined }),
});
type Input = typeof input extends fc.Arbitrary<infer T> ? T : never;

const redisKeyOf = ({ namespace, scope, key, slot }: Input) =>
  recordKey([namespace, ...scope].map(escapePart).join(':'), key, slot);
const identityOf = ({ namespace, scope, key, slot }: Input) => JSON.stringify([namespace, scope, key, slot ?? null]);

describe('two thousand nasty inputs', () => {
  test('never meet', () => {
    const inputs = fc.sample(input, { numRuns: 2_000, seed: 20_261_124 });
    const byRedisKey = new Map<string, string>();
    for (const one of inputs) {
      const [redisKey, identity] = [redisKeyOf(one), identityOf(one)];
      expect(byRedisKey.get(redisKey) ?? identity, redisKey).toBe(identity);
      byRedisKey.set(redisKey, identity);
    }
    expect(byRedisKey.size).toBeGreaterThan(1_500);
  });

  test('never meet in pairs that are made to be alike', () => {
    fc.assert(
      fc.property(part, part, part, (a, b, c) => {
        const alike: Input[] = [
          { namespace: a, scope: [b], key: c, slot: undefined },
          { namespace: `${a}:${b}`, scope: [], key: c, slot: undefined },
          { namespace: a, scope: [], key: `${b}:${c}`, slot: undefined },
          { namespace: a, scope: [b, c], key: a, slot: undefined },
          { namespace: a, scope: [`${b}:${c}`], key: a, slot: undefined },
          { namespace: a, scope: [], key: c, slot: undefined },
        ];
        const identities = new Set(alike.map(identityOf));
        expect(new Set(alike.map(redisKeyOf)).size).toBe(identities.size);
      }),
      { numRuns: 2_000 },
    );
  });

  test('steer no slot, leave no place of the library and no control character, and stay short', () => {
    fc.assert(
      fc.property(input, (one) => {
        const redisKey = redisKeyOf(one);
        const path = one.slot === undefined ? redisKey : redisKey.slice(`{${one.slot}}:`.length);
        expect(path).not.toMatch(/[{}\s\p{C}*?[\]\\"']|::/u);
        expect(redisKey.isWellFormed()).toBe(true);
        expect(path.length).toBeLessThanOrEqual((2 + one.scope.length) * 129);
        if (one.slot !== undefined) expect(calculateSlot(redisKey)).toBe(calculateSlot(one.slot));
      }),
      { numRuns: 2_000 },
    );
  });

  test('each run their own handler on a real Redis', async () => {
    const root = makeDedup({ namespace: `nasty-${Math.random()}`, maxKeyBytes: 8_192 });
    const inputs = new Map(fc.sample(input, { numRuns: 400, seed: 7 }).map((one) => [identityOf(one), one]));
    const call = ([identity, { namespace, scope, key, slot }]: [string, Input]) =>
      root.scope(namespace, ...scope).run(key, ({ key: told }) => ({ identity, told: told === key }), { slot });
    const first = await Promise.all([...inputs].map(call));
    const second = await Promise.all([...inputs].map(call));
    expect(first.every(({ status }) => status === 'executed')).toBe(true);
    expect(second.every(({ status }) => status === 'replayed')).toBe(true);
    expect(second.map(({ value }) => value)).toEqual([...inputs.keys()].map((identity) => ({ identity, told: true })));
  });
});

test('readable input stays readable', () => {
  expect(escapePart('order-42_a.b~c@d/e+f=g,h')).toBe('order-42_a.b~c@d/e+f=g,h');
  expect(escapePart('größe日本')).toBe('größe日本');
  expect(escapePart('a:b{c}%')).toBe('a%3Ab%7Bc%7D%25');
  expect(escapePart('\ud800')).toBe('%ED%A0%80');
  expect(escapePart('x'.repeat(129))).toMatch(/^#[\w-]{43}$/);
});
