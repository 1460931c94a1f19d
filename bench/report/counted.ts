/** Tables of what is counted or watched, not timed: the wire, memory, who dedupes, who survives a crash. */
import { median } from '../measure/statistics.js';
import type { CrashResult, Run } from './results.js';
import { duration, figure, ranged, type TableData } from './table.js';
import { overRuns } from './targets.js';

type Runs = readonly [Run, ...Run[]];

export function wire([{ wire }]: Runs): TableData {
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

export function memory(runs: Runs): TableData {
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

export function dedupes([{ dedupes }]: Runs): TableData {
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

export function crash(runs: Runs): TableData {
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
