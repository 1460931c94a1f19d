/** The page on compatibility says what the kept runs say, and a run is told as it was. */
import { describe, expect, test } from 'vitest';
import { type Cell, cellsOf, nameOf, suitesOf } from '../../scripts/matrix/cells.js';
import { compatibilitySection, currentPage, pageWith, rowOf } from '../../scripts/matrix/page.js';
import {
  type CellResult,
  hasPassed,
  keptResults,
  type Report,
  type SuiteResult,
  tally,
  withResult,
} from '../../scripts/matrix/results.js';

const CELL: Cell = { server: 'redis-8.6', node: '24', ioredis: '5', bullmq: '6' };
const FOUND = {
  server: 'Redis 8.6.3',
  origin: 'a cache folder',
  node: '24.1.0',
  packages: { ioredis: '6.0.0', ioredis5: '5.11.1', bullmq: '6.7.0', express: '5.3.0', express4: '4.22.3' },
};

function suiteOf(passed: number, ...failures: string[]): SuiteResult {
  return { passed, failed: failures.length, skipped: 0, failures, tookS: 60, on: '2026-01-02' };
}

function resultOf(suites: Record<string, SuiteResult>, found = FOUND): CellResult {
  return { ...CELL, found, suites };
}

test('the tables are those of the kept runs: npm run test:matrix -- --page', () => {
  expect(pageWith(keptResults())).toBe(currentPage());
});

describe('cells', () => {
  test('are, where nothing is asked for, the base with each other server, Node and client', () => {
    const cells = cellsOf({}, ['20', '22', '24']);
    const [base, ...others] = cells as [Cell, ...Cell[]];
    expect(base).toEqual({ server: 'redis-7.0', node: '20', ioredis: '6', bullmq: '6' });
    const differences = others.map((cell) =>
      (Object.keys(cell) as (keyof Cell)[]).filter((kind) => cell[kind] !== base[kind]).map((kind) => cell[kind]),
    );
    expect(differences.flat()).toEqual(
      expect.arrayContaining([
        'redis-8.0',
        'redis-8.6',
        'valkey-8.0',
        'valkey-8.1',
        'valkey-9.1',
        '22',
        '24',
        '5',
        '5',
      ]),
    );
    for (const difference of differences) expect(difference).toHaveLength(1);
    expect(new Set(cells.map(nameOf)).size).toBe(cells.length);
  });

  test('are, where some were asked for, each with each', () => {
    const asked = { server: ['redis-8.6', 'redis:7.2-alpine'], ioredis: ['5', '6'] };
    expect(cellsOf(asked, ['20']).map(nameOf)).toEqual([
      'redis-8.6, Node 20, ioredis 5, BullMQ 6',
      'redis-8.6, Node 20, ioredis 6, BullMQ 6',
      'redis:7.2-alpine, Node 20, ioredis 5, BullMQ 6',
      'redis:7.2-alpine, Node 20, ioredis 6, BullMQ 6',
    ]);
    expect(() => cellsOf({ ioredis: ['4'] }, ['20'])).toThrow('version 5 or 6');
  });

  test('have all suites, but for those of the package and the docs where another server or client could change nothing', () => {
    const base: Cell = { server: 'redis-7.0', node: '24', ioredis: '6', bullmq: '6' };
    expect(suitesOf(base)).toEqual(expect.arrayContaining(['fault', 'integration', 'lua', 'package', 'simulation']));
    expect(suitesOf(CELL)).toEqual(suitesOf(base).filter((suite) => suite !== 'package' && suite !== 'docs'));
  });
});

describe('a run', () => {
  const report = (...statuses: string[]): Report => ({
    numPassedTests: statuses.filter((status) => status === 'passed').length,
    numFailedTests: statuses.filter((status) => status === 'failed').length,
    numPendingTests: 0,
    testResults: [
      {
        name: '/somewhere/test/lua/a.test.ts',
        status: statuses.includes('failed') ? 'failed' : 'passed',
        assertionResults: statuses.map((status, index) => ({ status, fullName: `test ${index}` })),
      },
    ],
  });

  test('passes where every test did and vitest ended well', () => {
    expect(tally(report('passed', 'passed'), 0)).toEqual({ passed: 2, failed: 0, skipped: 0, failures: [] });
  });

  test.each([
    ['with a test that failed', report('passed', 'failed'), 1, 'test 1'],
    ['that ended badly though every test passed', report('passed'), 1, 'vitest ended with 1'],
    ['that was killed', undefined, null, 'vitest ended with null'],
    ['without a test', report(), 0, 'vitest ended with 0'],
    [
      'with a file that did not load',
      { ...report('passed'), testResults: [{ name: '/x/test/lua/b.test.ts', status: 'failed', assertionResults: [] }] },
      1,
      'test/lua/b.test.ts did not load',
    ],
  ] as [string, Report | undefined, number | null, string][])('%s fails', (_, told, exitCode, failure) => {
    const tallied = tally(told, exitCode);
    expect(tallied).toMatchObject({ failed: 1, failures: [failure] });
    expect(hasPassed(resultOf({ lua: { ...suiteOf(1), ...tallied }, unit: suiteOf(1) }))).toBe(false);
  });

  test('on a server that could not be had has not passed, and is told as that', () => {
    const result: CellResult = { ...CELL, notHad: 'no Docker engine answers' };
    expect(hasPassed(result)).toBe(false);
    expect(rowOf(result).join(' ')).toBe('redis-8.6  24 5 6 not had: no Docker engine answers    ');
  });
});

describe('results', () => {
  test('are summed, with what was not run and which tests failed', () => {
    const section = compatibilitySection([resultOf({ lua: suiteOf(1_200), fault: suiteOf(30, 'a call is lost') })]);
    expect(section).toContain(
      '| Redis 8.6.3 | a cache folder | 24.1.0 | 5.11.1 | 6.7.0 | 1,230 | 1 | cli, examples, http, integration, property, simulation, unit | 2.0 min | 2026-01-02 |',
    );
    expect(section).toContain('Express 5.3.0 and 4.22.3');
    expect(section).toContain('- Redis 8.6.3, Node 24.1.0, fault: a call is lost');
  });

  test('of a part join those of the same server, Node and packages, and replace those of others', () => {
    const kept = withResult([], resultOf({ lua: suiteOf(1), unit: suiteOf(1) }));
    expect(withResult(kept, resultOf({ lua: suiteOf(2) }))).toEqual([resultOf({ lua: suiteOf(2), unit: suiteOf(1) })]);
    const newer = resultOf({ lua: suiteOf(3) }, { ...FOUND, server: 'Redis 8.6.4' });
    expect(withResult(kept, newer)).toEqual([newer]);
  });

  test('of a server that could be had once are not lost when it cannot be had', () => {
    const notHad: CellResult = { ...CELL, notHad: 'gone' };
    const kept = withResult(withResult([], notHad), resultOf({ lua: suiteOf(1) }));
    expect(withResult(kept, notHad)).toEqual([resultOf({ lua: suiteOf(1) })]);
  });
});
