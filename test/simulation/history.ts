/** A history as data: what is done in which round, with what fate. Drawn from a seed; any part of it can be played. */
import { seededRandom } from '../support/random.js';

/** What becomes of a message on its way. */
export type Fate =
  | 'pass'
  /** It arrives; its answer does not. */
  | 'deaf'
  /** It never arrives, and its caller cannot know. */
  | 'lost'
  /** It arrives in a later round, when its caller has given up waiting. */
  | 'late'
  /** It arrives and is answered, and a copy arrives in a later round. */
  | 'twice'
  /** It arrives twice, and the second copy is answered after the connection dropped. */
  | 'resent'
  /** It surely never left. */
  | 'unsent'
  /** The server refuses its whole list, for a reason that passes. */
  | 'busy'
  /** The server refuses its whole list, for a reason that may be that of one entry. */
  | 'refused';

interface Sent {
  readonly at: number;
  readonly key: number;
  readonly fate: Fate;
  /** The round in which a late copy arrives. */
  readonly until?: number;
}

export type Step =
  | { readonly at: number; readonly do: 'clock'; readonly byMs: number }
  | { readonly at: number; readonly do: 'flush' }
  /** The caller does what comes next for it; where it has a choice, the roll decides. */
  | (Sent & { readonly do: 'go'; readonly caller: number; readonly roll: number })
  | (Sent & { readonly do: 'forget'; readonly force: boolean })
  | (Sent & { readonly do: 'inspect' })
  | { readonly at: number; readonly key: number; readonly do: 'die'; readonly caller: number }
  | {
      readonly at: number;
      readonly key: number;
      readonly do: 'freeze';
      readonly caller: number;
      readonly until: number;
    }
  /** Somebody else changes the data that conditions speak of. */
  | { readonly at: number; readonly key: number; readonly do: 'version' | 'flag' }
  /** The record becomes one whose writes broke off. */
  | { readonly at: number; readonly key: number; readonly do: 'break' };

export type KeyStep = Extract<Step, { key: number }>;

/** The callers of a key, as often as they come to act: a slow one is overtaken. */
const CALLERS = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3];

/** What becomes of messages, by weight. */
const WEIGHTS: Readonly<Record<Fate, number>> = {
  pass: 60,
  deaf: 9,
  late: 9,
  twice: 9,
  lost: 4,
  resent: 4,
  unsent: 2,
  busy: 2,
  refused: 1,
};
const FATES = (Object.keys(WEIGHTS) as Fate[]).flatMap((fate) => Array.from({ length: WEIGHTS[fate] }, () => fate));

const KEYS = 150;
const ROUNDS = 120;

export function drawHistory(seed: number, keys = KEYS, rounds = ROUNDS): Step[] {
  const random = seededRandom(seed);
  const below = (count: number) => Math.floor(random() * count);
  const sent = (at: number, key: number): Sent => {
    const fate = FATES[below(FATES.length)] as Fate;
    if (fate !== 'late' && fate !== 'twice') return { at, key, fate };
    return { at, key, fate, until: at + 1 + below(below(4) === 0 ? 60 : 6) };
  };
  const steps: Step[] = [];
  for (let at = 0; at < rounds; at += 1) {
    steps.push({ at, do: 'clock', byMs: drawClock(below) });
    if (below(30) === 0) steps.push({ at, do: 'flush' });
    for (let key = 0; key < keys; key += 1) {
      const what = below(1000);
      // A quarter of the keys is seldom forgotten, and sees many attempts.
      const forgets = key % 4 === 0 ? 10 : 110;
      const caller = CALLERS[below(CALLERS.length)] as number;
      if (what < forgets) steps.push({ ...sent(at, key), do: 'forget', force: below(3) > 0 });
      else if (what < 130) steps.push({ ...sent(at, key), do: 'inspect' });
      else if (what < 150) steps.push({ at, key, do: 'die', caller });
      else if (what < 170) steps.push({ at, key, do: 'freeze', caller, until: at + 1 + below(30) });
      else if (what < 200) steps.push({ at, key, do: 'version' });
      else if (what < 230) steps.push({ at, key, do: 'flag' });
      else if (what < 232) steps.push({ at, key, do: 'break' });
      else steps.push({ ...sent(at, key), do: 'go', caller, roll: below(2 ** 30) });
    }
  }
  return steps;
}

/** Whole ms, often none: so a record that is made again may get the fence of the one before. */
function drawClock(below: (count: number) => number): number {
  const what = below(100);
  if (what < 25) return 0;
  if (what < 75) return below(30);
  if (what < 88) return 100 + below(1_000);
  if (what < 92) return 3_000 + below(2_000);
  if (what < 97) return -below(1_000);
  if (what < 99) return -below(600_000);
  return below(2_400_000);
}
