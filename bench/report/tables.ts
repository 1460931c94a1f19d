/** The tables of one run, or of several: then each figure is the median of the runs, with the lowest and the highest. */
import { sizeName } from '../cases/work.js';
import { median, ratios } from '../measure/statistics.js';
import { crash, dedupes, memory, wire } from './counted.js';
import type { Run } from './results.js';
import { figure, ranged, type TableData } from './table.js';
import { cellOf, isMet, overRuns, rowOf, TARGETS } from './targets.js';

export function allTables(runs: readonly [Run, ...Run[]]): TableData[] {
  return [
    targets(runs),
    ...sizesOf(runs[0]).flatMap((size) => [calls(runs, 'first', size), calls(runs, 'duplicate', size)]),
    applied(runs),
    bursts(runs),
    contended(runs),
    wire(runs),
    memory(runs),
    dedupes(runs),
    crash(runs),
    ...(runs[0].cells.some(({ family }) => family === 'seen') ? [seen(runs)] : []),
  ];
}

type Runs = readonly [Run, ...Run[]];

function targets(runs: Runs): TableData {
  const rows = TARGETS.map((target) => {
    const values = runs.map((run) => target.measured(run));
    const measured = values.filter((value) => value !== null);
    const met = measured.filter(({ median }) => isMet(target, median)).length;
    const { unit } = target;
    const told = values.map((value) => {
      if (!value) return 'not measured';
      const [q1, q3] = value.quartiles ?? [];
      return `${figure(value.median)}${q1 && q3 ? ` (${figure(q1)}–${figure(q3)})` : ''}`;
    });
    const verdict =
      measured.length === 0 ? '–' : met === measured.length ? 'met' : met === 0 ? 'missed' : `met in ${met}`;
    const middle = measured.length > 0 ? ranged(overRuns(measured.map(({ median }) => median))) : 'not measured';
    return [
      target.name,
      `${target.sense} ${target.wanted} ${unit}`,
      ...(runs.length > 1 ? [middle] : []),
      ...told,
      verdict,
    ];
  });
  const columns = runs.length > 1 ? ['median of runs (range)', ...runs.map((_, at) => `run ${at + 1}`)] : ['measured'];
  return {
    title: 'Targets',
    note: 'Ratios are medians of the rounds of a run, with the first and third quartile.',
    head: ['', 'wanted', ...columns, ''],
    rows,
  };
}

function calls(runs: Runs, family: 'first' | 'duplicate', size: number): TableData {
  const concurrencies = concurrenciesOf(runs[0], family);
  const names = rowNames(runs[0], family, concurrencies[0] as number, size);
  const cpuAt = concurrencies.includes(64) ? 64 : (concurrencies.at(-1) as number);
  const rows = names.map((name) => [
    name,
    ...concurrencies.map((concurrency) => {
      const rowsOf = runs.map((run) => {
        const cell = cellOf(run, family, concurrency, size);
        return { own: rowOf(cell, name)?.rates ?? [], ours: rowOf(cell, 'redis-once')?.rates ?? [] };
      });
      const rate = figure(median(rowsOf.map(({ own }) => median(own))));
      if (name === 'redis-once') return rate;
      return `${rate}; ${ranged(overRuns(rowsOf.map(({ own, ours }) => median(ratios(ours, own)))), 'x')}`;
    }),
    ...(['clientMicrosPerKey', 'serverMicrosPerKey'] as const).map((part) =>
      figure(median(runs.map((run) => rowOf(cellOf(run, family, cpuAt, size), name)?.[part] ?? Number.NaN))),
    ),
  ]);
  return {
    title: `${family === 'first' ? 'First calls' : 'Duplicates'}, results of ${sizeName(size)}`,
    note: `Calls per second by calls at once, and how many times as many redis-once makes. CPU in µs per call, ${cpuAt} at once.`,
    head: ['', ...concurrencies.map(String), 'client CPU', 'server CPU'],
    rows,
  };
}

function applied(runs: Runs): TableData {
  return rated(
    runs,
    'apply',
    'apply',
    'One INCRBY a key; keys per second by calls at once, and commands sent per key.',
  );
}

function seen(runs: Runs): TableData {
  return rated(runs, 'seen', 'Seen ids', 'New ids per second by calls at once, and commands sent per id.');
}

function rated(runs: Runs, family: 'apply' | 'seen', title: string, note: string): TableData {
  const concurrencies = concurrenciesOf(runs[0], family);
  const names = [...new Set(concurrencies.flatMap((concurrency) => rowNames(runs[0], family, concurrency)))];
  const rows = names.map((name) => [
    name,
    ...concurrencies.map((concurrency) => {
      const found = runs.map((run) => rowOf(cellOf(run, family, concurrency), name));
      const [first] = found;
      if (!first) return '–';
      const rates = found.map((row) => median(row?.rates ?? []));
      const commands = median(found.map((row) => row?.commandsPerKey ?? Number.NaN));
      return `${ranged(overRuns(rates))}; ${figure(commands)}`;
    }),
  ]);
  return { title, note, head: ['', ...concurrencies.map(String)], rows };
}

function bursts(runs: Runs): TableData {
  const [concurrency = 0] = concurrenciesOf(runs[0], 'burst');
  const rows = rowNames(runs[0], 'burst', concurrency).map((name) => {
    const found = runs.map((run) => rowOf(cellOf(run, 'burst', concurrency), name));
    const told = (part: 'commandMicrosPerKey' | 'clientMicrosPerKey' | 'commandsPerKey') =>
      ranged(overRuns(found.map((row) => row?.[part] ?? Number.NaN)));
    return [name, told('commandMicrosPerKey'), told('clientMicrosPerKey'), told('commandsPerKey')];
  });
  return {
    title: `In lists of ${concurrency}`,
    note: `As many calls of one tick. The server's time for its commands (commandstats) and the client's CPU, in µs a key; commands sent per key: 1/${concurrency} is ${figure(1 / concurrency)}.`,
    head: ['', 'server time', 'client CPU', 'commands'],
    rows,
  };
}

function contended(runs: Runs): TableData {
  const callers = concurrenciesOf(runs[0], 'contended');
  const rows = rowNames(runs[0], 'contended', callers[0] as number).map((name) => [
    name,
    ...callers.map((count) => {
      const ms = runs.map((run) => (count * 1_000) / median(rowOf(cellOf(run, 'contended', count), name)?.rates ?? []));
      return ranged(overRuns(ms));
    }),
  ]);
  return {
    title: 'One key, many callers at once',
    note: 'Milliseconds until all have the result, by callers, of work that takes 5 ms. Who is refused comes again after 5 ms.',
    head: ['', ...callers.map(String)],
    rows,
  };
}

function sizesOf({ cells }: Run): number[] {
  return [...new Set(cells.filter(({ family }) => family === 'first').map(({ resultBytes }) => resultBytes))];
}

export function concurrenciesOf({ cells }: Run, family: string): number[] {
  return [...new Set(cells.filter((cell) => cell.family === family).map(({ concurrency }) => concurrency))];
}

export function rowNames(
  run: Run,
  family: Run['cells'][number]['family'],
  concurrency: number,
  size?: number,
): string[] {
  return cellOf(run, family, concurrency, size)?.rows.map(({ name }) => name) ?? [];
}
