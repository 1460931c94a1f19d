/** Figures in the documentation are those of the runs that are kept, and how they are told. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { lineThrough, ratios, type Spread, spread, told } from '../../bench/measure/statistics.js';
import type { Run } from '../../bench/report/results.js';
import {
  CHARTS,
  keptRuns,
  performanceSection,
  readmeSection,
  replaceBetweenMarks,
} from '../../bench/report/section.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A run in which each contender makes so many calls a second, round by round. */
function runOf(ours: readonly number[], floor: readonly number[]): Run {
  const row = (name: string, rates: readonly number[]) => ({
    name,
    kind: 'ours' as const,
    rates,
    clientMicrosPerKey: 11,
    serverMicrosPerKey: 7,
    commandMicrosPerKey: null,
    commandsPerKey: null,
  });
  const crashed = { refusals: 0, standsMs: null, answeredMs: 30_000 };
  return {
    command: 'npm run bench',
    startedAt: '2026-01-02T03:04:05.678Z',
    tookS: 600,
    quick: false,
    machine: { cpu: 'a processor', cores: 2, memoryGB: 8, node: 'v20.0.0' },
    server: 'Redis 7.0.15',
    versions: { 'redis-once': '0.1.0' },
    pace: { rounds: ours.length, turnMs: 150 },
    cells: (['first', 'duplicate', 'burst'] as const).map((family) => ({
      family,
      name: family,
      resultBytes: 20,
      concurrency: 64,
      rows: [row('redis-once', ours), row('SET NX + SET XX', floor)],
    })),
    dedupes: [],
    wire: [],
    memory: [
      { name: 'redis-once', keyBytes: 19, keysPerRecord: 1, bytes: 130, grownBytes: 160 },
      { name: 'SET NX + SET XX', keyBytes: 19, keysPerRecord: 1, bytes: 100, grownBytes: 150 },
    ],
    seenMemory: null,
    crash: {
      holdMs: 30_000,
      watchedMs: 45_000,
      rows: [
        { name: 'one that repeats', killed: 'after the work', effects: 2, ...crashed },
        { name: 'one that loses', killed: 'before the work', effects: 0, ...crashed },
        {
          name: 'one that blocks',
          killed: 'before the work',
          effects: 0,
          ...crashed,
          answeredMs: null,
          standsMs: 36e5,
        },
      ],
    },
    growth: [
      { name: 'effects', points: [0, 1, 2].map((x) => ({ x, y: { 'a call': 10 + 3 * x } })) },
      { name: 'keys', points: [1e4, 1e5, 1e6].map((x) => ({ x, y: { 'a call': 5 + Math.log10(x) } })) },
    ],
  };
}

describe('the figures', () => {
  test.each([
    ['docs/performance.md', performanceSection(keptRuns(), 'charts')],
    ['README.md', readmeSection(keptRuns(), 'docs/charts')],
  ])('in %s are those of the runs that are kept: npm run bench:docs', (path, text) => {
    const page = readFileSync(join(ROOT, path), 'utf8');
    expect(replaceBetweenMarks(page, 'figures', text)).toBe(page);
  });

  test('of kept runs have their charts', () => {
    const missing = Object.keys(CHARTS).filter((name) => !existsSync(join(ROOT, `docs/charts/${name}.svg`)));
    expect(missing).toEqual(keptRuns().length > 0 ? [] : Object.keys(CHARTS));
  });

  test('are ratios of the turns of one round, not of the medians', () => {
    // A round that met a busy machine is slow for both.
    expect(spread(ratios([200, 20, 180], [100, 10, 90])).median).toBe(2);
    expect(performanceSection([runOf([200, 20, 180], [100, 10, 90])], 'charts')).toContain(
      '| once(), 64 at once, over SET NX + SET XX | at least 1.8 x | 2 (2–2) | met |',
    );
  });

  test('of several runs are told with their range, and a target that some of them miss is not called met', () => {
    const section = performanceSection([runOf([150], [100]), runOf([190], [100]), runOf([210], [100])], 'charts');
    expect(section).toContain(
      '| at least 1.8 x | 1.9 (1.5–2.1) | 1.5 (1.5–1.5) | 1.9 (1.9–1.9) | 2.1 (2.1–2.1) | met in 2 |',
    );
    expect(section).toContain('over SET NX + SET XX | at most 1.2 x | 1.3 | 1.3 | 1.3 | 1.3 | missed |');
    expect(section).toContain('| SeenSet, bytes per id | at most 12 bytes | not measured |');
  });

  test('tell of a crash who repeats, who loses and who blocks', () => {
    const section = performanceSection([runOf([1], [1])], 'charts');
    expect(section).toContain('| one that repeats | no such moment | effect twice, result after 30 s |');
    expect(section).toContain(
      '| one that loses | lost: no effect, told after 30 s that it was done | no such moment |',
    );
    expect(section).toContain("| one that blocks | no effect, no result: the dead one's record stands for 1 h more |");
  });

  test('of growth are slopes: per effect, and for each tenfold of keys', () => {
    expect(
      lineThrough([
        [0, 10],
        [1, 13],
        [2, 16],
      ]),
    ).toEqual({ slope: 3, base: 10, r2: 1 });
    const section = performanceSection([runOf([1], [1])], 'charts');
    expect(section).toContain('| Effects of a commit | a call | 3 µs per effect | 1 |');
    expect(section).toContain('| Keys that are stored | a call | 1 µs for each tenfold | 1 |');
  });
});

test('what telemetry costs is told as it was measured', () => {
  const measured = JSON.parse(readFileSync(join(ROOT, 'bench/results/telemetry-overhead.json'), 'utf8')) as {
    rows: { load: string; way: string; micros: Spread; ratio: Spread }[];
  };
  const page = readFileSync(join(ROOT, 'docs/telemetry.md'), 'utf8');
  expect(measured.rows.length).toBeGreaterThan(0);
  for (const { load, way, micros, ratio } of measured.rows) {
    expect(page).toContain(`| ${load} | ${way} | ${told(micros)} | ${told(ratio, 2)} |`);
  }
});

test('what HTTP costs is told as it was measured', () => {
  const measured = JSON.parse(readFileSync(join(ROOT, 'bench/results/http-overhead.json'), 'utf8')) as {
    rows: { name: string; bareMicros: Spread; firstAdds: Spread; copyAdds: Spread }[];
  };
  const page = readFileSync(join(ROOT, 'docs/performance.md'), 'utf8');
  for (const { name, bareMicros, firstAdds, copyAdds } of measured.rows) {
    expect(page).toContain(
      `| ${[name, ...[bareMicros, firstAdds, copyAdds].map((each) => told(each, 0))].join(' | ')} |`,
    );
  }
});
