/** `npm run bench`: one whole run, its tables here and in a file, its figures as data, its charts as SVG. */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { drawCharts } from './report/charts.js';
import { growthTable } from './report/growth.js';
import type { Run } from './report/results.js';
import { KEPT } from './report/section.js';
import { type TableData, toMarkdown } from './report/table.js';
import { allTables } from './report/tables.js';
import { runAll } from './run.js';

const USAGE = `Usage: npm run bench -- [--quick | --keep]

Measures redis-once beside its peers and the least that Redis could do, on a server of its own. Tables, data and charts go
to bench/results/latest.

  --quick   few rounds and the least of every case, to see that all works: its figures mean nothing
  --keep    keep the data in bench/results/runs as well, for docs/performance.md (npm run bench:docs)
  --help    show this`;

const LATEST = fileURLToPath(new URL('./results/latest', import.meta.url));

class UsageError extends Error {}

try {
  const { quick, keep, help } = readArguments();
  if (help) console.log(USAGE);
  else await bench(quick, keep);
} catch (error) {
  console.error(error instanceof UsageError ? error.message : error);
  // Not by `exitCode`: what failed may have left connections open.
  process.exit(error instanceof UsageError ? 2 : 1);
}

function readArguments() {
  const flag = { type: 'boolean', default: false } as const;
  try {
    const { values } = parseArgs({ options: { quick: flag, keep: flag, help: flag } });
    if (!values.quick || !values.keep) return values;
  } catch (error) {
    // Its first sentence says what is wrong, the rest how it might have been meant.
    throw new UsageError(`${(error as Error).message.split('. ')[0]}: \`--help\` shows what there is.`);
  }
  throw new UsageError('Expected `--quick` or `--keep`, got both: a quick run is none to keep.');
}

async function bench(quick: boolean, keep: boolean): Promise<void> {
  const run = await runAll(`npm run bench${quick ? ' -- --quick' : ''}`, quick);
  rmSync(LATEST, { recursive: true, force: true });
  mkdirSync(LATEST, { recursive: true });
  writeFileSync(`${LATEST}/run.json`, toJson(run));
  const tables = [...allTables([run]), growthTable([run])];
  writeFileSync(`${LATEST}/tables.md`, `${tables.map(toMarkdown).join('\n\n')}\n`);
  drawCharts([run], LATEST);
  // The targets last: that is where one looks.
  for (const table of [...tables.slice(1), ...tables.slice(0, 1)]) print(table);
  console.log(
    `${run.server}, ${run.machine.cores} cores of ${run.machine.cpu}, ${run.tookS} s. In bench/results/latest:`,
  );
  console.log('run.json, tables.md and the charts.');
  if (keep) {
    mkdirSync(KEPT, { recursive: true });
    copyFileSync(`${LATEST}/run.json`, `${KEPT}${run.startedAt.replaceAll(':', '-')}.json`);
  }
}

/** Rates of rounds on one line. */
function toJson(run: Run): string {
  const text = JSON.stringify(run, null, 2);
  return `${text.replace(/\[[\s\d.,e+-]+\]/g, (list) => list.replace(/\s+/g, ' '))}\n`;
}

function print({ title, note, head, rows }: TableData): void {
  const table = new Table({ head: [...head], style: { head: [], border: [] } });
  for (const [first = '', ...others] of rows) {
    table.push([first, ...others.map((content) => ({ content, hAlign: 'right' as const }))]);
  }
  console.log(`\n${title}. ${note}\n${table.toString()}`);
}
