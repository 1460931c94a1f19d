/** What `list` prints is what `inspect` and `forget` take, whatever a key, scope or slot contains. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Address, addressOf, argumentsOf, shellWords } from '../../src/cli/address.js';
import { printable, toJson } from '../../src/cli/text.js';
import { escapePart, readRecordKey, recordKey } from '../../src/key.js';

const NASTY = [
  ...['{', '}', ':', '::', '%', '%3A', '#', '\0', '\n', '\u001b[31m', '\u009b', '\u202e', '\u2028', "'", '"', '$(x)'],
  ...['\ud800', '\udfff', '\ufffd', '😀', 'e\u0301', '日本', ' ', '-', '--', '--scope', '-x', '~', '=', '!', '*', '\\'],
  ...['a', 'once', 'once:a', 'order:42', 'x'.repeat(128), 'x'.repeat(129), 'x'.repeat(500), `#${'x'.repeat(43)}`],
];
const text = fc.oneof(
  fc.constantFrom(...NASTY),
  fc.array(fc.oneof(fc.constantFrom(...NASTY), fc.string()), { minLength: 1, maxLength: 4 }).map((all) => all.join('')),
);
/** Any text at all, lone surrogates included. */
const utf16 = fc.array(fc.nat({ max: 0xffff })).map((units) => String.fromCharCode(...units));
const part = text.filter((value) => value !== '' && value.length < 1_000);
const tag = part.filter((value) => /^[^{}]{1,512}$/s.test(value) && value.isWellFormed());
const named = fc.record({
  namespace: fc.constantFrom('once', 'a:b', 'n\n', 'x'.repeat(200)),
  scope: fc.array(part, { maxLength: 2 }),
  slot: fc.option(tag, { nil: undefined }),
  key: part,
});

/** The address that the printed arguments name. */
function read(words: readonly string[], namespace: string): Address {
  const scope: string[] = [];
  let slot: string | undefined;
  let redisKey = false;
  let key = '';
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] as string;
    if (word === '--scope') scope.push(words[++at] as string);
    else if (word === '--slot') slot = words[++at];
    else if (word === '--redis-key') redisKey = true;
    else key = word;
  }
  return addressOf(key, { namespace, scope, slot, redisKey });
}

test('a record’s Redis key is read back into the names that it was made of, where they are not hashed', () => {
  const hashed = (name: string) => escapePart(name).startsWith('#');
  fc.assert(
    fc.property(named, ({ namespace, scope, slot, key }) => {
      const made = recordKey([namespace, ...scope].map(escapePart).join(':'), key, slot);
      expect(readRecordKey(made, escapePart(namespace))).toEqual({
        slot: slot ?? null,
        scope: scope.map((segment) => (hashed(segment) ? null : segment)),
        key: hashed(key) ? null : key,
      });
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  'once::hints',
  'once::seen:events',
  '{7}:once::seen:events:0',
  'once:a::check:b',
  'once',
  'once:',
  'other:a',
  'xonce:a',
  'once:A B',
  'once:%3a',
  'once:%41',
  'once:#short',
  'once:\ufffd',
  '{a}:{b}:once:k',
  `once:${'x'.repeat(129)}`,
])('%j is no record’s key in the namespace `once`', (redisKey) => {
  expect(readRecordKey(redisKey, 'once')).toBeUndefined();
});

test('the arguments that name a record name that very record, and all of them can be shown', () => {
  fc.assert(
    fc.property(named, ({ namespace, scope, slot, key }) => {
      const { redisKey } = addressOf(key, { namespace, scope, slot });
      const found = { redisKey, names: readRecordKey(redisKey, escapePart(namespace)) } as Address;
      const words = argumentsOf(found);
      expect(read(words, namespace).redisKey).toBe(redisKey);
      for (const word of words) {
        expect(printable(word)).toBe(word);
        expect(word.startsWith('-')).toBe(['--scope', '--slot', '--redis-key'].includes(word));
      }
    }),
    { numRuns: 2_000 },
  );
});

test('a shell reads the words back as they were', () => {
  const words = fc.sample(named, { numRuns: 300, seed: 1 }).flatMap(({ namespace, scope, slot, key }) => {
    const { redisKey } = addressOf(key, { namespace, scope, slot });
    return argumentsOf({ redisKey, names: readRecordKey(redisKey, escapePart(namespace)) } as Address);
  });
  const told = execFileSync('/bin/sh', ['-c', `printf '%s\\0' ${shellWords(words)}`], { encoding: 'utf8' });
  expect(told.split('\0').slice(0, -1)).toEqual(words);
});

describe('texts', () => {
  test('for people have nothing that a terminal obeys', () => {
    expect(printable('a\u001b[2J\n\u202e\u009b\ud800')).toBe('a\\u{1b}[2J\\u{a}\\u{202e}\\u{9b}\\u{d800}');
  });

  test('as JSON are exact and have nothing that a terminal obeys', () => {
    fc.assert(
      fc.property(fc.oneof(text, utf16), (value) => {
        const json = toJson({ [value]: value });
        expect(json.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
        expect(JSON.parse(json)).toEqual({ [value]: value });
      }),
    );
  });
});
