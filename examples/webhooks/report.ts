/** What is shown: a bar while a run lasts, and at the end a table and what it says. */
import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import type { Runs } from './tally.js';
import type { WayName } from './ways.js';

export interface Result extends Runs {
  readonly way: WayName;
  readonly deliveries: number;
  readonly arrivals: number;
  readonly killed: number;
  readonly deliveredAgain: number;
  readonly replayed: number;
  readonly events: number;
  readonly tookMs: number;
}

/** Drawn on stderr, and only where that is a terminal. */
export function progressBar(way: WayName, total: number): { update(value: number): void; stop(): void } {
  const bar = new SingleBar({ format: `${way.padEnd(16)} [{bar}] {value}/{total} arrivals`, clearOnComplete: true });
  bar.start(total, 0);
  return bar;
}

export function table(results: readonly Result[], kill: boolean): string {
  const shown = new Table({ head: ['', ...results.map(({ way }) => way)], style: { head: [], border: [] } });
  const row = (title: string, cell: (result: Result) => number | string) => {
    shown.push([title, ...results.map((result) => ({ content: cell(result), hAlign: 'right' as const }))]);
  };
  row('deliveries (distinct)', ({ deliveries }) => deliveries);
  row('arrivals', ({ arrivals }) => arrivals);
  if (kill) {
    row('workers killed', ({ killed }) => killed);
    row('arrivals delivered again', ({ deliveredAgain }) => deliveredAgain);
  }
  row(kill ? 'handler runs begun' : 'handler runs', ({ begun }) => begun);
  if (kill) {
    row('handler runs finished', ({ finished }) => finished);
    row('work done, then killed, then done again', ({ repeated }) => repeated);
  }
  row('duplicates handled twice', ({ handledTwice }) => handledTwice);
  row('replays served (copies not handled)', ({ replayed }) => replayed);
  row('events in the tally', ({ events }) => events);
  row('time', ({ tookMs }) => `${(tookMs / 1000).toFixed(2)} s`);
  return shown.toString();
}

/** The table in sentences. */
export function summary([checking, once]: readonly [Result, Result], kill: boolean): string {
  const said = [
    `Check, then work handled ${checking.handledTwice} duplicates twice: they came while the first copy was at work and ` +
      'its key not yet set.',
    once.handledTwice === 0
      ? 'redis-once handled none twice: a copy that comes meanwhile waits, and gets the stored result.'
      : `redis-once handled ${once.handledTwice} twice. That must not happen: please report it, with the seed.`,
  ];
  if (kill) {
    said.push(
      `A run that a kill cuts off is begun again, either way: redis-once began ${once.begun} for ${once.deliveries} ` +
        `deliveries. Kills between a run's work and the record of it: ${once.repeated}; that much work was done twice.`,
    );
  }
  return said.join('\n');
}
