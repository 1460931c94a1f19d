/** The tables of one run, or of several: then each figure is the median of the runs, with the lowest and the highest. */
import { sizeName } from '../cases/work.js';
import { median, ratios } from '../measure/statistics.js';
import type { CrashResult, Run } from './results.js';
import { duration, figure, ranged, type TableData } from './table.js';
import { cellOf, isMet, overRuns, rowOf, TARGETS } from './targets.js';

export function allTables(runs: readonly [Run, ...Run[]]): TableData[] {
  return [
    targets(runs),
    ...sizesOf(runs[0]).flatMap((size) => [calls(runs, 'first', size), calls(runs, 'duplicate', size)]),
    applied(runs),
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

function wire([{ wire }]: Runs): TableData {
  const rows = wire.map(({ name, what, commands, writes, roundTrips }) => [
    `${name}, ${what === 'first' ? 'first call' : 'duplicate'}`,
    commands.join(', '),
    String(writes),
    String(roundTrips),
  ]);
  return {
    title: 'On the wire',
    note: 'What one call sends when no other is under way, counted by a proxy.',
    head: ['', 'commands', 'writes to the socket', 'round trips'],
    rows,
  };
}

function memory(runs: Runs): TableData {
  const rows = runs[0].memory.map(({ name, keyBytes }) => {
    const all = runs.flatMap((run) => run.memory.filter((one) => one.name === name));
    const told = (part: 'bytes' | 'grownBytes') => ranged(overRuns(all.map((one) => one[part])));
    return [name, String(keyBytes), told('bytes'), told('grownBytes')];
  });
  const seen = runs.map(({ seenMemory }) => seenMemory).filter((one) => one !== null);
  if (seen.length > 0)
    rows.push(['SeenSet, an id', '–', '–', ranged(overRuns(seen.map(({ bytesPerId }) => bytesPerId)))]);
  return {
    title: 'Bytes per completed record',
    note: 'Of a result that is stored in 22 bytes: by MEMORY USAGE, and what the memory of the server grew by, its tables of keys included.',
    head: ['', 'key', 'MEMORY USAGE', 'growth'],
    rows,
  };
}

function dedupes([{ dedupes }]: Runs): TableData {
  const rows = dedupes.map(({ name, claims, inSequence, atTheSameTime, refusedShare }) => [
    name,
    claims,
    figure(inSequence),
    figure(atTheSameTime),
    `${Math.round(refusedShare * 100)} %`,
  ]);
  return {
    title: 'Runs of the work per key',
    note: 'Of 8 copies, on 4 connections; 1 is right. A run of the benchmark fails where one that claims to dedupe does not. Refused: the share of the copies at the same time that were told to come again.',
    head: ['', 'claims to dedupe', 'in sequence', 'at the same time', 'refused'],
    rows,
  };
}

function crash(runs: Runs): TableData {
  const { holdMs, watchedMs, rows: first } = runs[0].crash;
  const names = [...new Set(first.map(({ name }) => name))];
  const rows = names.map((name) => [
    name,
    ...(['before the work', 'after the work'] as const).map((killed) => {
      const found = runs.flatMap(({ crash }) => crash.rows.filter((row) => row.name === name && row.killed === killed));
      return found.length > 0 ? fate(found) : 'no such moment';
    }),
  ]);
  return {
    title: 'The same crash for all',
    note: `A worker is killed (SIGKILL) in the middle of a call: before its work, or after it and before it is recorded. The next caller comes at once, and again where it is refused; it is watched for ${duration(watchedMs)}. Leases, locks and the time that Powertools is told to be left are ${duration(holdMs)}.`,
    head: ['', 'killed before the work', 'killed after the work'],
    rows,
  };
}

/** What became of the work's effect, and of the next caller, in all runs. */
function fate(found: readonly CrashResult[]): string {
  const effects = Math.max(...found.map(({ effects }) => effects));
  const effect = ['no effect', 'effect once', 'effect twice'][effects] ?? `effect ${effects} times`;
  const blocked = found.find(({ answeredMs }) => answeredMs === null);
  if (!blocked) {
    const after = duration(median(found.map(({ answeredMs }) => answeredMs ?? 0)));
    return effects === 0 ? `lost: no effect, told after ${after} that it was done` : `${effect}, result after ${after}`;
  }
  const until =
    blocked.standsMs === null ? '' : `: the dead one's record stands for ${duration(blocked.standsMs)} more`;
  return `${effect}, no result${until}`;
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
