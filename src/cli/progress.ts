/** How far a walk over all keys has come: a bar on stderr, where that is a terminal. */
import { SingleBar } from 'cli-progress';
import type { Io } from './io.js';

export interface Progress {
  update(passed: number, all: number | undefined): void;
  stop(): void;
}

const LONGEST_BAR = 30;
/** Of a line, what is not the bar. */
const WORDS = 40;

export function progressOn({ stderr }: Io): Progress {
  if (!stderr.isTTY) return { update: () => {}, stop: () => {} };
  const barsize = Math.max(5, Math.min(LONGEST_BAR, (stderr.columns || 80) - WORDS));
  const bar = new SingleBar({
    stream: stderr,
    format: '[{bar}] {value} of {total} keys looked at',
    formatValue: (value, _, type) =>
      type === 'value' || type === 'total' ? value.toLocaleString('en-US') : `${value}`,
    barsize,
    clearOnComplete: true,
  });
  let begun = false;
  return {
    update: (passed, all) => {
      if (all === undefined) return;
      if (!begun) bar.start(all, 0);
      begun = true;
      bar.update(passed);
    },
    stop: () => {
      if (begun) bar.stop();
    },
  };
}
