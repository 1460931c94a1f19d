/**
 * The simulation can fail: each guard of the scripts is taken out, and found. `TEST_SEEDS` tries more seeds than one and
 * prints how many steps it took.
 */
import { expect, test } from 'vitest';
import { connect, ownRedis } from '../support/index.js';
import { drawHistory } from './history.js';
import { play } from './simulation.js';
import { holdClock } from './transport.js';

const SEEDS = Number(process.env.TEST_SEEDS ?? 1);
const FIRST_SEED = Number(process.env.TEST_SEED ?? 1);
const MOST_STEPS = 100_000;

interface Guard {
  readonly of: string;
  readonly scripts: readonly string[];
  readonly text: string;
  readonly instead: string;
}

const guard = (of: string, scripts: string, text: string, instead = 'false'): Guard => ({
  of,
  scripts: scripts.split(' '),
  text,
  instead,
});

const HELD = 'string.sub(raw, 15, 30) == token and fence_of(raw) == tonumber(fence)';

const GUARDS = [
  guard('the token of the holder', 'commit settle renew', HELD, 'fence_of(raw) == tonumber(fence)'),
  guard('the fence of the holder', 'commit settle renew', HELD, 'string.sub(raw, 15, 30) == token'),
  guard('the holder, in commit', 'commit', 'state ~= IN_PROGRESS or not is_held_by(raw, token, fence)'),
  guard('the holder, in settle', 'settle', 'state ~= IN_PROGRESS or not is_held_by(raw, token, fence)'),
  guard('the holder, in renew', 'renew', 'state ~= IN_PROGRESS or not is_held_by(raw, token, fence)'),
  guard('a commit that was made, in commit', 'commit', 'state == COMPLETED and is_of(raw, token, fence)'),
  guard('a commit that was made, in settle', 'settle', 'is_of(raw, token, fence) then', 'false then'),
  guard('an apply that was made', 'apply', 'state == COMPLETED and string.sub(raw, 15, 22) == half'),
  guard('born, in commit', 'commit', 'born_of(raw, shape, rest_at) ~= tonumber(born)'),
  guard('born, in settle', 'settle', 'own_born ~= tonumber(born)'),
  guard('the lease', 'claim', 'left > 0'),
  guard('a lease from before the clock went back', 'claim', 'now_ms() + left < lease_end'),
  guard('given-up tokens, in claim', 'claim', 'if is_given_up(raw, rest_at, token)', 'if false'),
  guard('given-up tokens, in apply', 'apply', 'if is_given_up(raw, rest_at, token)', 'if false'),
  guard('the fence that rises', 'claim', 'math.max(fence_of(raw) + 1, now_us())', 'now_us()'),
  guard('records that are final, in claim', 'claim', 'if answer then', 'if false then'),
  guard('records that are final, in apply', 'apply', 'if answer then', 'if false then'),
  guard('the owner who asks again', 'claim', 'if string.sub(raw, 15, 30) == token', 'if false'),
  guard('the fingerprint', 'claim apply', 'if is_mismatch(raw, shape, rest_at, fingerprint)', 'if false'),
  guard('maxAttempts', 'claim apply', 'failures >= tonumber(max_attempts)'),
  guard('conditions', 'commit apply', 'if conflict then', 'if false then'),
  guard('runs that met a conflict', 'commit', 'known_run ~= tonumber(run)'),
  guard('writes that cannot succeed', 'commit apply', 'reason = find_rejected(list)', 'reason'),
];

test.each(GUARDS)(
  'is red without the guard of $of',
  { timeout: 120_000 * SEEDS },
  async ({ of, scripts, ...guard }) => {
    const redis = connect({}, await ownRedis());
    holdClock((name, text) => {
      if (!scripts.includes(name)) return text;
      expect(text, name).toContain(guard.text);
      return text.replaceAll(guard.text, guard.instead);
    });
    const found: string[] = [];
    for (let seed = FIRST_SEED, tried = 0; tried < SEEDS; seed += 1_000, tried += 1) {
      let steps = 0;
      let what: string | undefined;
      for (let world = seed; !what && steps < MOST_STEPS; world += 1) {
        const played = await play(redis, drawHistory(world));
        steps += played.steps;
        what = played.violation?.message;
      }
      found.push(`${steps} ${what ?? 'not found'}`);
      expect(what, of).toBeDefined();
    }
    const median = found.map((line) => Number.parseInt(line, 10)).sort((a, b) => a - b)[Math.floor(SEEDS / 2)];
    console.log(`| ${of} | ${scripts.join(', ')} | ${median} | ${found.join(' · ')}`);
  },
);
