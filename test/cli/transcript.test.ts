/** What docs/cli.md shows is what the commands print. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { shapeOf, transcripts, withTranscripts } from '../../scripts/cli-transcript.js';

const PAGE = new URL('../../docs/cli.md', import.meta.url);

test('the transcripts of docs/cli.md are those of a fresh run, but for figures: npm run docs:cli', async () => {
  const page = readFileSync(PAGE, 'utf8');
  expect(withTranscripts(page, await transcripts())).toBe(page);
});

test('figures alone make no other transcript, and words do', () => {
  const told =
    'failed  12 s  1  1764016496000000  shop:a\nok  memory  1 MiB used: 99 % free\nRedis 7.0.15 at 127.0.0.1:6379';
  expect(shapeOf(told)).toBe(shapeOf(told.replace('12 s', '2 m 5 s').replace('99 %', '7 %').replace('496', '777')));
  expect(shapeOf(told)).toBe(shapeOf(told.replace('Redis 7.0.15', 'Valkey 8.1.1')));
  for (const [word, other] of [
    ['failed', 'broken'],
    ['shop:a', 'shop:b'],
    ['ok', 'danger'],
    ['  1  ', '  2  '],
  ] as const) {
    expect(shapeOf(told)).not.toBe(shapeOf(told.replace(word, other)));
  }
});
