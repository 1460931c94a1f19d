/** The parts of pages that are made from kept runs, so that no page has a figure that was typed by hand. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { growthTable } from './growth.js';
import type { Run } from './results.js';
import { toMarkdown } from './table.js';
import { allTables } from './tables.js';

export const KEPT = fileURLToPath(new URL('../results/runs/', import.meta.url));

/** Without their ending, in the order that pages show them. */
export const CHARTS = {
  'first-calls': 'First calls per second, by calls at once',
  duplicates: 'Duplicates per second, by calls at once',
  cpu: 'CPU of client and server per first call, 64 at once',
  sizes: 'First calls per second, by size of the result, 64 at once',
  apply: 'Keys per second with one INCRBY each, by calls at once',
  contended: 'Milliseconds until all callers of one key have the result',
  memory: 'Bytes per completed record',
  'growth-keys': 'Cost by keys that are stored',
  'growth-waiters': 'Cost by callers that wait for one key',
  'growth-result': 'Cost by size of the result',
  'growth-effects': 'Cost by effects of a commit',
} as const;

export type ChartName = keyof typeof CHARTS;

/** @throws Error where they are not of one machine, server and set of versions: then they are no spread */
export function keptRuns(): Run[] {
  const files = readdirSync(KEPT).filter((name) => name.endsWith('.json'));
  const runs = files.sort().map((name) => JSON.parse(readFileSync(`${KEPT}${name}`, 'utf8')) as Run);
  const places = runs.map(({ machine, server, versions }) => JSON.stringify({ machine, server, versions }));
  if (new Set(places).size > 1) throw new Error('The kept runs are not of one machine, server and set of versions.');
  return runs;
}

/** What stands in docs/performance.md, whose charts are in `charts`, seen from there. */
export function performanceSection(runs: readonly Run[], charts: string): string {
  const [first, ...others] = runs;
  if (!first) return 'No run is kept yet.';
  const all = [first, ...others] as const;
  const pictures = (Object.keys(CHARTS) as ChartName[]).map((name) => `![${CHARTS[name]}](${charts}/${name}.svg)`);
  return [
    circumstances(all),
    ...allTables(all).map(toMarkdown),
    toMarkdown(growthTable(all)),
    '### Charts',
    ...pictures,
  ].join('\n\n');
}

/** What stands in the README. */
export function readmeSection(runs: readonly Run[], charts: string): string {
  const [first] = runs;
  if (!first) return '';
  return `![${CHARTS['first-calls']}](${charts}/first-calls.svg)\n\n${first.server}, ${first.machine.cores} cores of ${first.machine.cpu}, Node ${first.machine.node}; median of ${runs.length} runs.`;
}

function circumstances(runs: readonly [Run, ...Run[]]): string {
  const [{ command, machine, server, versions, pace }] = runs;
  const dates = [...new Set(runs.map(({ startedAt }) => startedAt.slice(0, 10)))].join(', ');
  const took = runs.map(({ tookS }) => `${figureOfMinutes(tookS)}`).join(', ');
  return [
    `${runs.length} whole runs of \`${command}\` (${dates}), which took ${took} minutes. ${server}, ${machine.cores} cores of`,
    `${machine.cpu}, ${machine.memoryGB} GB, Node ${machine.node}. ${pace.rounds} rounds of ${pace.turnMs} ms a turn. Versions:`,
    `${Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ')}.`,
  ].join('\n');
}

function figureOfMinutes(seconds: number): string {
  return (seconds / 60).toFixed(1);
}

/** The page with what stands between the marks of that name replaced. */
export function replaceBetweenMarks(page: string, name: string, text: string): string {
  const begin = new RegExp(`<!-- ${name}: made by \`[^\`]+\` -->`).exec(page);
  const to = page.indexOf(`<!-- /${name} -->`);
  if (!begin || to < begin.index) throw new Error(`The page has no marks of ${name}.`);
  return `${page.slice(0, begin.index + begin[0].length)}\n${text === '' ? '' : `\n${text}\n\n`}${page.slice(to)}`;
}
