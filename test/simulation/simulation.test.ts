/**
 * Random histories of many keys at once over the real scripts, `Scripts` and the library's own ends of an attempt, on a
 * server whose clock the simulation holds. `TEST_SEED` repeats a run, `TEST_STEPS` makes it longer, and `TEST_HISTORY`
 * plays the shrunk history that a failure printed.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { connect, ownRedis } from '../support/index.js';
import { chooseSeed } from '../support/random.js';
import { drawHistory, type Step } from './history.js';
import { shrink } from './shrink.js';
import { play } from './simulation.js';

const STEPS = Number(process.env.TEST_STEPS ?? 200_000);
const { TEST_HISTORY } = process.env;

/** What a run must have met to show anything, by script. */
const MET: Record<string, string> = {
  claim: 'owned busy completed failed exhausted mismatch other_kind broken stale',
  renew: 'renewed lost broken',
  commit: 'done conflict rejected gone lost broken',
  settle: 'done released failed gone lost broken',
  apply: 'applied completed conflict rejected busy exhausted mismatch other_kind stale',
  forget: 'forgotten none running',
  inspect: 'none in_progress completed failed released broken',
  told: 'stored LEASE_LOST OUTCOME_UNKNOWN STORE_UNAVAILABLE BROKEN',
};
const ENOUGH_STEPS = 100_000;

const server = async () => connect({}, await ownRedis());

test.runIf(TEST_HISTORY)('a history that failed', { timeout: 60_000 }, async () => {
  const text = TEST_HISTORY as string;
  const history = JSON.parse(existsSync(text) ? readFileSync(text, 'utf8') : text) as Step[];
  const { violation } = await play(await server(), history, console.log);
  expect(violation?.message).toBeUndefined();
});

test.skipIf(TEST_HISTORY)('one seed is one history', async () => {
  const redis = await server();
  const history = drawHistory(1, 40, 60);
  const tellings = [];
  for (let time = 0; time < 2; time += 1) {
    const hash = createHash('sha256');
    await play(redis, history, (line) => hash.update(line));
    tellings.push(hash.digest('hex'));
  }
  expect(tellings[1]).toBe(tellings[0]);
});

test.skipIf(TEST_HISTORY)(`no guarantee is broken in ${STEPS} steps`, { timeout: 120_000 + STEPS }, async () => {
  const redis = await server();
  const first = chooseSeed();
  const counts = new Map<string, number>();
  let steps = 0;
  const startedAt = Date.now();
  for (let seed = first; steps < STEPS; seed += 1) {
    const history = drawHistory(seed);
    const played = await play(redis, history);
    steps += played.steps;
    for (const [answer, count] of played.answers) counts.set(answer, (counts.get(answer) ?? 0) + count);
    const { violation, lastRound } = played;
    if (!violation) continue;
    const least = await shrink(history, violation, lastRound, async (part) => !!(await play(redis, part)).violation);
    const lines: string[] = [];
    await play(redis, least, (line) => lines.push(line));
    expect.fail(
      [
        `${violation.message} (key ${violation.key}, after ${steps} steps, TEST_SEED=${seed})`,
        ...lines,
        `TEST_HISTORY='${JSON.stringify(least)}'`,
      ].join('\n'),
    );
  }
  const answers = Object.fromEntries([...counts].sort());
  if (steps >= ENOUGH_STEPS) {
    const met = Object.entries(MET).flatMap(([of, words]) => words.split(' ').map((word) => `${of} ${word}`));
    expect(met.filter((answer) => !counts.has(answer))).toEqual([]);
  }
  console.log(`seed ${first}, ${steps} steps in ${Date.now() - startedAt} ms: ${JSON.stringify(answers)}`);
});
