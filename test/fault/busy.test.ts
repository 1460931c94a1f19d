/** A foreign script that holds the server (BUSY), once and again: running attempts, waiters and writes known up front. */
import { describe, expect, test } from 'vitest';
import type { Dedup } from '../../src/index.js';
import { expectWhole } from '../support/consumers.js';
import {
  connect,
  expectCode,
  expectRanOnce,
  freshNamespace,
  heldHandler,
  holdByScript,
  makeDedup,
  ownServer,
  until,
} from '../support/index.js';
import { Load, messagesOf } from '../support/load.js';
import { chooseSeed, seededRandom } from '../support/random.js';

const MESSAGES = Number(process.env.TEST_BUSY_MESSAGES ?? 240);
const HOLDS = Number(process.env.TEST_BUSY_HOLDS ?? 10);

/** Two Dedups of one namespace, each with a connection of its own, and a hold on their server. */
async function stage(options: Parameters<typeof makeDedup>[0]) {
  const { url } = await ownServer('--lua-time-limit', '10');
  const redis = connect({}, url);
  const namespace = freshNamespace();
  const make = () => makeDedup({ namespace, ...options }, connect({}, url));
  const [one, two] = [make(), make()];
  let holds = 0;
  return {
    ...{ redis, namespace, one, two },
    hold: async () => {
      holds += 1;
      return holdByScript(url);
    },
    /** The library has ended no script: whoever did was us. */
    expectNoKillButOurs: async () => {
      const [, kills] = /cmdstat_script(?:\|kill)?:calls=(\d+)/.exec(await redis.info('commandstats')) ?? [];
      expect(Number(kills)).toBe(holds);
    },
  };
}

/** What a Dedup tells of renewals: `renew BUSY`, and how a lease was lost. */
function renewalsOf(dedup: Dedup): string[] {
  const told: string[] = [];
  dedup.on('storeError', ({ operation, code }) => operation === 'renew' && told.push(`${operation} ${code}`));
  dedup.on('leaseLost', ({ reason }) => told.push(reason));
  return told;
}

test('a hold that ends within the lease costs nobody anything: renewals, an apply, and a waiter with its hints go on', async () => {
  const { redis, namespace, one, two, hold, expectNoKillButOurs } = await stage({ redisTimeout: '20s', lease: '6s' });
  const renewals = renewalsOf(one);
  const { handler, started, release } = heldHandler('value');
  const held = one.run('k', handler);
  await started;
  const waiting = two.run('k', () => 'never');
  await until(async () => ((await redis.pubsub('NUMSUB', `${namespace}::hints`))[1] as number) > 0);
  const free = await hold();
  const applied = one.apply('a', (tx) => void tx.incr(`${namespace}-data`));
  await until(() => renewals.includes('renew BUSY'));
  await free();
  let left = 0;
  await until(async () => {
    const before = left;
    left = (await two.inspect('k'))?.leaseRemainingMs as number;
    return before > 0 && left > before;
  });
  release();
  expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
  expect(await waiting).toMatchObject({ status: 'replayed', value: 'value' });
  expect(await applied).toMatchObject({ status: 'executed', replies: [1] });
  expect(new Set(renewals)).toEqual(new Set(['renew BUSY']));
  await expectNoKillButOurs();
});

test('a hold that outlasts the lease: the holder is told, and of it and those who wait one alone commits', async () => {
  const { redis, namespace, one, two, hold, expectNoKillButOurs } = await stage({ redisTimeout: '20s', lease: 300 });
  const data = `${namespace}-data`;
  const renewals = renewalsOf(one);
  const { handler, started, release } = heldHandler('first');
  const held = one.run('k', ({ tx }) => {
    tx.incr(data);
    return handler();
  });
  held.catch(() => {});
  await started;
  const waiting = Array.from({ length: 5 }, () =>
    two.run('k', ({ tx }) => {
      tx.incr(data);
      return 'second';
    }),
  );
  await until(async () => ((await redis.pubsub('NUMSUB', `${namespace}::hints`))[1] as number) > 0);
  const free = await hold();
  await until(() => renewals.includes('no_heartbeat'));
  release();
  await free();
  const others = await Promise.all(waiting);
  // Both are right: nobody has taken over before the commit, or somebody has.
  if (others.every(({ status }) => status === 'replayed')) expectRanOnce([await held, ...others]);
  else {
    await expectCode(held, 'LEASE_LOST');
    expectRanOnce(others);
  }
  expect(await redis.get(data)).toBe('1');
  await expectNoKillButOurs();
});

describe('a server that is held again and again under load', () => {
  test(
    'tells nobody wrongly: what was refused was not applied, and in the end all is done once',
    async () => {
      const seed = chooseSeed();
      const random = seededRandom(seed);
      const { redis, namespace, one, hold, expectNoKillButOurs } = await stage({ redisTimeout: 250, lease: '1s' });
      const messages = messagesOf(MESSAGES, random);
      const load = new Load({
        ...{ dedups: [one], namespace, messages },
        work: () => new Promise((resolve) => setTimeout(resolve, random() * 10)),
        codes: ['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS'],
      });
      let busy = 0;
      one.on('storeError', ({ code }) => {
        if (code === 'BUSY') busy += 1;
      });
      const failed = () => load.count('STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN');
      let holds = 0;
      for (; holds < HOLDS && !load.isOver; holds += 1) {
        const before = { failed: failed(), done: load.done };
        const free = await hold();
        // Until a deadline has passed, or no longer than the look at the clock.
        if (random() < 0.6) await until(() => failed() > before.failed || load.isOver);
        await free();
        const context = `seed ${seed}, hold ${holds}`;
        await expectWhole(redis, namespace, messages, context);
        await until(() => load.done >= before.done + MESSAGES / (HOLDS + 1) || load.isOver);
      }
      await load.over;
      console.log(`seed ${seed}: ${holds} holds, ${busy} times BUSY to the end, told ${JSON.stringify(load.told)}`);
      const context = `seed ${seed}`;
      expect((await expectWhole(redis, namespace, messages, context)).size, context).toBe(MESSAGES);
      load.expectTruth(context);
      expect(load.count('STORE_UNAVAILABLE'), context).toBeGreaterThan(0);
      await expectNoKillButOurs();
    },
    60_000 + MESSAGES * 60,
  );
});
