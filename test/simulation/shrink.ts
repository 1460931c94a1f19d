/** The least of a history that still fails. */
import type { Step } from './history.js';
import type { Violation } from './violation.js';

const MOST_PLAYS = 600;

/**
 * @param violation what it fails by
 * @param fails plays a part of it
 */
export async function shrink(
  history: readonly Step[],
  violation: Violation,
  lastRound: number,
  fails: (part: readonly Step[]) => Promise<boolean>,
): Promise<readonly Step[]> {
  let plays = 0;
  const stillFails = async (part: readonly Step[]): Promise<boolean> => {
    plays += 1;
    return plays <= MOST_PLAYS && fails(part);
  };
  let least = history.filter(({ at }) => at <= lastRound);
  // Most failures are of one key alone.
  const ofKey = least.filter((step) => !('key' in step) || step.key === violation.key);
  if (await stillFails(ofKey)) least = ofKey;
  let size = least.length;
  let before: number;
  do {
    before = least.length;
    size = Math.ceil(size / 2);
    for (let from = 0; from < least.length; ) {
      const rest = [...least.slice(0, from), ...least.slice(from + size)];
      if (await stillFails(rest)) least = rest;
      else from += size;
    }
  } while (size > 1 || least.length < before);
  for (const [index, step] of least.entries()) {
    if (!('fate' in step) || step.fate === 'pass') continue;
    const { until: _, ...rest } = step;
    const plainer = least.with(index, { ...rest, fate: 'pass' });
    if (await stillFails(plainer)) least = plainer;
  }
  return least;
}
