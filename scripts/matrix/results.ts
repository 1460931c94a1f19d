/** What runs came to, as data: docs/compatibility.json, from which the page's tables are made. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Cell, nameOf } from './cells.js';

export interface SuiteResult {
  readonly passed: number;
  /** Tests, and files that did not load. */
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly string[];
  readonly tookS: number;
  /** The day, as 2026-01-31. */
  readonly on: string;
}

/** What a cell was run on, as each tells it of itself. */
export interface Found {
  readonly server: string;
  readonly origin: string;
  readonly node: string;
  /** Versions by the names that package.json gives. */
  readonly packages: Readonly<Record<string, string>>;
}

export type CellResult = Cell &
  ({ readonly found: Found; readonly suites: Readonly<Record<string, SuiteResult>> } | { readonly notHad: string });

/** What vitest's JSON reporter writes, as far as it is read. */
export interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

/** @param report nothing where there is none: the run died before its end */
export function tally(
  report: Report | undefined,
  exitCode: number | null,
): Pick<SuiteResult, 'passed' | 'failed' | 'skipped' | 'failures'> {
  const { numPassedTests: passed = 0, numPendingTests: skipped = 0, testResults = [] } = report ?? {};
  const failures = testResults.flatMap(({ name, status, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === 'failed').map(({ fullName }) => fullName);
    return failed.length === 0 && status === 'failed'
      ? [`${name.replace(/^.*\/test\//, 'test/')} did not load`]
      : failed;
  });
  // Whatever else it is that ended it, such as an error that nobody caught: what did not end well has not passed.
  if (failures.length === 0 && (exitCode !== 0 || passed === 0)) failures.push(`vitest ended with ${exitCode}`);
  return { passed, failed: failures.length, skipped, failures };
}

/** Every suite of it has passed. */
export function hasPassed(result: CellResult): boolean {
  return 'found' in result && Object.values(result.suites).every(({ failed }) => failed === 0);
}

/**
 * The cells with one more result. Suites that were run before stay, if they were run on the very same; a cell that cannot
 * be had takes nothing away.
 */
export function withResult(cells: readonly CellResult[], result: CellResult): CellResult[] {
  const at = cells.findIndex((cell) => nameOf(cell) === nameOf(result));
  const earlier = cells[at];
  if (!earlier) return [...cells, result];
  return cells.with(at, merged(earlier, result));
}

function merged(earlier: CellResult, result: CellResult): CellResult {
  if (!('found' in earlier)) return result;
  if (!('found' in result)) return earlier;
  const isSame = JSON.stringify(earlier.found) === JSON.stringify(result.found);
  return isSame ? { ...result, suites: { ...earlier.suites, ...result.suites } } : result;
}

const FILE = new URL('../../docs/compatibility.json', import.meta.url);

export function keptResults(): CellResult[] {
  return JSON.parse(readFileSync(FILE, 'utf8')) as CellResult[];
}

export function keepResults(cells: readonly CellResult[]): void {
  writeFileSync(FILE, `${JSON.stringify(cells, null, 2)}\n`);
}
