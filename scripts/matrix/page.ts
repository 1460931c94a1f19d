/** The tables that are made from kept results: of docs/compatibility.md, and of the end of a run. */
import { readFileSync, writeFileSync } from 'node:fs';
import { replaceBetweenMarks } from '../../bench/report/section.js';
import { suitesOf } from './cells.js';
import type { CellResult } from './results.js';

const PAGE = new URL('../../docs/compatibility.md', import.meta.url);

export const HEAD = ['server', 'from', 'Node', 'ioredis', 'BullMQ', 'passed', 'failed', 'not run', 'took', 'on'];

export function rowOf(cell: CellResult): string[] {
  if (!('found' in cell)) {
    return [cell.server, '', cell.node, cell.ioredis, cell.bullmq, `not had: ${cell.notHad}`, '', '', '', ''];
  }
  const { server, origin, node, packages } = cell.found;
  const results = Object.values(cell.suites);
  const sum = (of: (result: (typeof results)[number]) => number) => results.reduce((total, one) => total + of(one), 0);
  const skipped = sum((result) => result.skipped);
  const days = [...new Set(results.map(({ on }) => on))].sort();
  return [
    server,
    origin,
    node,
    packages[cell.ioredis === '5' ? 'ioredis5' : 'ioredis'] ?? '',
    packages[cell.bullmq === '5' ? 'bullmq5' : 'bullmq'] ?? '',
    `${count(sum((result) => result.passed))}${skipped > 0 ? `, ${count(skipped)} skipped` : ''}`,
    count(sum((result) => result.failed)),
    suitesOf(cell)
      .filter((suite) => !(suite in cell.suites))
      .join(', '),
    duration(sum(({ tookS }) => tookS)),
    days.join(', '),
  ];
}

/** What stands in docs/compatibility.md. */
export function compatibilitySection(cells: readonly CellResult[]): string {
  const table = [HEAD, HEAD.map(() => '---'), ...cells.map(rowOf)].map((row) => `| ${row.join(' | ')} |`).join('\n');
  const failures = cells.flatMap((cell) =>
    'found' in cell
      ? Object.entries(cell.suites).flatMap(([suite, { failures }]) =>
          failures.map((name) => `- ${cell.found.server}, Node ${cell.found.node}, ${suite}: ${name}`),
        )
      : [],
  );
  return [
    table,
    `Frameworks in these runs: ${frameworks(cells)}.`,
    ...(failures.length > 0 ? ['Failed:', failures.join('\n')] : []),
  ].join('\n\n');
}

const FRAMEWORKS = {
  Express: ['express', 'express4'],
  Fastify: ['fastify'],
  Hono: ['hono'],
  TypeScript: ['typescript'],
};

function frameworks(cells: readonly CellResult[]): string {
  return Object.entries(FRAMEWORKS)
    .map(([title, names]) => {
      const versions = cells.flatMap((cell) => ('found' in cell ? names.map((name) => cell.found.packages[name]) : []));
      return `${title} ${[...new Set(versions)].join(' and ')}`;
    })
    .join(', ');
}

/** The page as it would be with these results in it. */
export function pageWith(cells: readonly CellResult[]): string {
  return replaceBetweenMarks(currentPage(), 'runs', compatibilitySection(cells));
}

export function currentPage(): string {
  return readFileSync(PAGE, 'utf8');
}

export function writePage(cells: readonly CellResult[]): void {
  writeFileSync(PAGE, pageWith(cells));
}

function count(number: number): string {
  return number.toLocaleString('en');
}

function duration(seconds: number): string {
  return seconds < 120 ? `${seconds} s` : `${(seconds / 60).toFixed(1)} min`;
}
