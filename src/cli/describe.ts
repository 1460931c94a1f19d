/** A record in words. */
import { shellWords } from './address.js';
import type { Colors } from './io.js';
import type { Entry, State } from './records.js';
import type { Column } from './table.js';
import { bytes, count, roughly } from './text.js';

const WORDS: Record<State, string> = {
  broken: 'broken',
  unreadable: 'unreadable',
  failed: 'failed',
  in_progress: 'in progress',
  released: 'released',
  completed: 'completed',
};

export function stateWords(state: State, colors: Colors): string {
  if (state === 'broken' || state === 'unreadable') return colors.red(WORDS[state]);
  if (state === 'failed') return colors.yellow(WORDS[state]);
  return state === 'in_progress' ? colors.cyan(WORDS[state]) : WORDS[state];
}

/** As `inspect` and `forget` take it. */
export function nameOf({ arguments: words }: Entry): string {
  return shellWords(words);
}

function leaseWords({ leaseRemainingMs }: Entry, colors: Colors): string {
  if (leaseRemainingMs === null) return '';
  return leaseRemainingMs === 0 ? colors.yellow('ended') : `${roughly(leaseRemainingMs)} left`;
}

function expiryWords({ state, expiresInMs }: Entry): string {
  if (state === 'unreadable') return '';
  return expiresInMs === null ? 'never' : `in ${roughly(expiresInMs)}`;
}

export function columnsOf(colors: Colors): Column<Entry>[] {
  const number = (value: number | null) => (value === null ? '' : String(value));
  return [
    { title: 'STATE', cell: ({ state }) => stateWords(state, colors) },
    {
      title: 'AGE',
      align: 'right',
      cell: ({ ageMs }) => (ageMs === null ? '' : roughly(ageMs)),
      words: (cell) => `${cell} old`,
    },
    { title: 'ATTEMPT', align: 'right', cell: ({ attempt }) => number(attempt), words: (cell) => `attempt ${cell}` },
    { title: 'LEASE', align: 'right', cell: (entry) => leaseWords(entry, colors), words: (cell) => `lease ${cell}` },
    { title: 'FENCE', align: 'right', cell: ({ fence }) => number(fence), words: (cell) => `fence ${cell}` },
    { title: 'KEY', cell: nameOf },
  ];
}

/** Everything that is known of it, one a line. */
export function detailsOf(entry: Entry, colors: Colors): [string, string][] {
  const { state, ageMs, attempt, fence, resultBytes, fingerprint, redisKey } = entry;
  const rows: [string, string][] = [
    ['state', stateWords(state, colors)],
    ['age', ageMs === null ? '' : `${roughly(ageMs)}, since its last attempt took the key`],
    ['attempt', attempt === null ? '' : count(attempt)],
    ['lease', leaseWords(entry, colors)],
    ['fence', fence === null ? '' : `${fence}${state === 'in_progress' ? ', by which its owner is known' : ''}`],
    ['expires', expiryWords(entry)],
    ['result', resultBytes === null ? '' : bytes(resultBytes)],
    ['fingerprint', fingerprint ?? ''],
    ['Redis key', shellWords([shownKey(redisKey, entry)])],
  ];
  return rows.filter(([, value]) => value !== '');
}

/** The Redis key where all of it can be shown. */
function shownKey(redisKey: string, { arguments: words }: Entry): string {
  return words[0] === '--redis-key' ? (words[1] as string) : redisKey;
}

/** What it means for who looks, where that is not plain. */
export function adviceOf({ state, leaseRemainingMs }: Entry): string | undefined {
  switch (state) {
    case 'broken':
      return 'A commit broke off after some of its writes: look at the data, then forget the record.';
    case 'unreadable':
      return 'Under the key is no record that this version can read. Forget it by --force if nobody needs it.';
    case 'failed':
      return 'Every call of the key gets the failure. Forget the record to have it tried again.';
    case 'in_progress':
      return leaseRemainingMs === 0 ? 'Its lease has ended: the next call of the key takes it over.' : undefined;
    default:
      return undefined;
  }
}
