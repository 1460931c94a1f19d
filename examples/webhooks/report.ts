/** What is shown: a bar while a run lasts, and at the end a table and what it says. */
import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import type { Delivered } from './delivery.js';
import { areExact, type Sums, total } from './tally.js';
import type { WayName } from './ways.js';

export interface Result extends Delivered {
  readonly way: WayName;
  readonly sums: Sums;
}

/** To the last sum, and nothing left that should not be. */
export function isExact({ sums, left = {} }: Result, expected: Sums): boolean {
  return areExact(sums, expected) && Object.values(left).every((count) => count === 0);
}

/** Drawn on stderr, and only where that is a terminal. */
export function progressBar(way: WayName, deliveries: number): { update(value: number): void; stop(): void } {
  const bar = new SingleBar({ format: `${way.padEnd(16)} [{bar}] {value}/{total} deliveries`, clearOnComplete: true });
  bar.start(deliveries, 0);
  return bar;
}

export function table(expected: Sums, results: readonly Result[]): string {
  const shown = new Table({
    head: ['', 'expected', ...results.map(({ way }) => way)],
    style: { head: [], border: [] },
  });
  const row = (title: string, wanted: string, cell: (result: Result) => string) => {
    const cells = [wanted, ...results.map(cell)];
    shown.push([title, ...cells.map((content) => ({ content, hAlign: 'right' as const }))]);
  };
  const sumRow = (title: string, sumOf: (sums: Sums) => number) => {
    const wanted = sumOf(expected);
    row(title, format(wanted), ({ sums }) => comparison(sumOf(sums), wanted));
  };
  const [busiest] = [...expected.events].sort(([, a], [, b]) => b - a)[0] as [string, number];
  sumRow('events counted, all repositories', ({ events }) => total(events));
  sumRow(`events counted, ${busiest}`, ({ events }) => events.get(busiest) ?? 0);
  sumRow('bytes summed, all repositories', ({ bytes }) => total(bytes));
  sumRow('entries in the ledger, a stream', ({ ledger }) => total(ledger));
  row('every sum of every repository', '', ({ sums }) => (areExact(sums, expected) ? 'exact' : 'WRONG'));
  for (const name of Object.keys(results[0]?.left ?? {})) {
    row(name, '0', ({ left }) => comparison(left?.[name] ?? 0, 0));
  }
  const webhooks = expected.ledger.size;
  row('workers killed in mid-handler', '', ({ killed }) => format(killed));
  row('handler runs begun', format(webhooks), ({ begun }) => format(begun));
  row('  repeated after a kill', '', ({ repeated }) => format(repeated));
  row('  repeated for a copy', '', ({ begun, repeated }) => format(begun - webhooks - repeated));
  row('deliveries answered without a run', '', ({ replayed }) => format(replayed));
  row('time', '', ({ tookMs }) => `${(tookMs / 1000).toFixed(2)} s`);
  return shown.toString();
}

/** The table in sentences. */
export function summary(expected: Sums, [checking, once]: readonly [Result, Result]): string {
  if (!isExact(once, expected)) {
    return 'redis-once is NOT exact. That must not happen: please report it, with the seed.';
  }
  const excess = total(checking.sums.events) - total(expected.events);
  const said = [
    `Check, then work counted ${format(excess)} events too many. A copy that came while the first was at work found no key.`,
    'redis-once is exact. A copy that came meanwhile waited, and got the stored result.',
  ];
  if (once.killed > 0) {
    said[0] += '\nWhat a run had written when it was killed stayed, and the run that repeated it wrote it again.';
    said[1] += `\n${once.repeated} runs were repeated after a kill: what the killed ones had written to \`tx\` left no trace.`;
  }
  return said.join('\n');
}

function comparison(sum: number, wanted: number): string {
  if (sum === wanted) return format(sum);
  return `${format(sum)} (${sum > wanted ? '+' : '-'}${format(Math.abs(sum - wanted))})`;
}

function format(count: number): string {
  return count.toLocaleString('en-US');
}
