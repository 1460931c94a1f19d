/**
 * The clock of the server is set by an hour, forward and back, while there is work. Leases and retentions follow it, deadlines
 * do not, and whatever it says, of a key's attempts one alone commits.
 */
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type DedupOptions, isDedupError } from '../../src/index.js';
import { expectWhole } from '../support/consumers.js';
import { connect, expectCode, expectRanOnce, freshNamespace, heldHandler, makeDedup, until } from '../support/index.js';
import { Load, messagesOf } from '../support/load.js';
import { Worker } from '../support/processes.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { type ClockedServer, startClocked } from '../support/redis/clock.js';
import { GROUP, makeConsumer, makeStream } from '../support/streams.js';

const MESSAGES = Number(process.env.TEST_CLOCK_MESSAGES ?? 200);
const JUMPS = Number(process.env.TEST_CLOCK_JUMPS ?? 12);
const HOUR_MS = 3_600_000;
/** For a machine that is slow: far less than an hour. */
const SLOW_MS = 120_000;

let server: ClockedServer;
// A machine's first start of the server fetches it.
beforeAll(async () => {
  server = await startClocked();
}, 300_000);
afterEach(() => server.setClock(0));
afterAll(() => server.stop());

/** Dedups of one namespace, each on a connection of its own. */
function stage(options: Omit<DedupOptions, 'namespace'> = {}) {
  const shared = { namespace: freshNamespace(), ...options };
  const redis = connect({}, server.url);
  const [one, two] = [1, 2].map(() => makeDedup(shared, connect({}, server.url))) as [Dedup, Dedup];
  return { redis, one, two, namespace: shared.namespace, data: `${shared.namespace}-data` };
}
type Dedup = ReturnType<typeof makeDedup>;

async function waitsForHints(redis: Redis, namespace: string): Promise<void> {
  await until(async () => ((await redis.pubsub('NUMSUB', `${namespace}::hints`))[1] as number) > 0);
}

describe('an hour forward', () => {
  test('ends a running lease: who waits takes over, and the commit of the one before changes nothing', async () => {
    const { redis, one, two, namespace, data } = stage();
    const [first, second] = [heldHandler('first'), heldHandler('second')];
    const fences: number[] = [];
    const runs = (dedup: Dedup, { handler }: typeof first) =>
      dedup.run('k', ({ tx, fence }) => {
        fences.push(fence);
        tx.incr(data);
        return handler();
      });
    const held = runs(one, first);
    held.catch(() => {});
    await first.started;
    const waiting = [1, 2, 3].map(() => runs(two, second));
    await waitsForHints(redis, namespace);
    await server.setClock(HOUR_MS);
    await second.started;
    first.release();
    await expectCode(held, 'LEASE_LOST');
    second.release();
    const outcomes = await Promise.all(waiting);
    expectRanOnce(outcomes);
    expect(outcomes.map(({ value, attempt }) => [value, attempt])).toEqual(outcomes.map(() => ['second', 2]));
    expect(fences[1]).toBeGreaterThan(fences[0] as number);
    expect(await redis.get(data)).toBe('1');
  });

  test('tells the holder by its next renewal that another has the key', async () => {
    const { redis, one, two, namespace } = stage({ lease: '3s' });
    const [first, second] = [heldHandler('first'), heldHandler('second')];
    const lost: string[] = [];
    one.on('leaseLost', ({ reason }) => lost.push(reason));
    const held = one.once('k', first.handler);
    held.catch(() => {});
    await first.started;
    const waiting = two.run('k', second.handler);
    await waitsForHints(redis, namespace);
    await server.setClock(HOUR_MS);
    await second.started;
    await until(() => lost.length > 0);
    expect(lost).toEqual(['taken_over']);
    for (const { release } of [first, second]) release();
    await expectCode(held, 'LEASE_LOST');
    expect(await waiting).toMatchObject({ status: 'executed', value: 'second' });
  });

  test('takes nothing from a holder for whose key nobody asks', async () => {
    const { one } = stage();
    const { handler, started, release } = heldHandler('value');
    const held = one.run('k', handler);
    await started;
    await server.setClock(HOUR_MS);
    expect(await one.inspect('k')).toMatchObject({ state: 'in_progress', leaseRemainingMs: 0 });
    release();
    expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
  });

  test('takes an hour off the life of every record: with less left it is gone, and with it what it knew', async () => {
    const { redis, one, two, data } = stage({ retention: '30m', lease: '30s' });
    const { handler, started, release } = heldHandler('value');
    const held = one.once('running', ({ tx }) => {
      tx.incr(data);
      return handler();
    });
    held.catch(() => {});
    await started;
    await one.once('short', () => 'before');
    await one.once('long', () => 'before', { retention: '24h' });
    await one.apply('applied', (tx) => void tx.incr(`${data}-applied`), { retention: '24h' });
    await server.setClock(HOUR_MS);
    expect(await two.inspect('running')).toBeNull();
    release();
    await expectCode(held, 'LEASE_LOST');
    expect(await redis.exists(data)).toBe(0);
    expect(await two.run('running', () => 'again')).toMatchObject({ status: 'executed', attempt: 1 });
    expect(await two.run('short', () => 'again')).toMatchObject({ status: 'executed', value: 'again', attempt: 1 });
    expect(await two.run('long', () => 'again')).toMatchObject({ status: 'replayed', value: 'before' });
    expect((await two.inspect('long'))?.expiresInMs).toBeLessThanOrEqual(23 * HOUR_MS);
    const applied = await two.apply('applied', (tx) => void tx.incr(`${data}-applied`));
    expect([applied.status, await redis.get(`${data}-applied`)]).toEqual(['replayed', '1']);
  });
});

describe('an hour back', () => {
  test('lets a dead holder keep its key for one lease more, not for an hour', async () => {
    const { one, namespace } = stage({ lease: 800 });
    const holder = new Worker('holder', { url: server.url, namespace, options: { lease: 800 } });
    const { fence } = await holder.next<{ fence: number }>();
    holder.kill('SIGKILL');
    await holder.exited;
    await server.setClock(-HOUR_MS);
    const outcome = await one.run('k', (context) => context.fence, { waitTimeout: SLOW_MS });
    expect(outcome).toMatchObject({ status: 'executed', attempt: 2 });
    // By the record, not by the clock.
    expect(outcome.value).toBe(fence + 1);
  });

  test('costs a living holder nothing, and its waiter neither', async () => {
    const { redis, one, two, namespace } = stage({ lease: '3s' });
    const lost: string[] = [];
    one.on('leaseLost', ({ reason }) => lost.push(reason));
    const { handler, started, release } = heldHandler('value');
    const held = one.run('k', handler);
    await started;
    const waiting = two.run('k', () => 'never');
    await waitsForHints(redis, namespace);
    await server.setClock(-HOUR_MS);
    // Renewed by the clock as it is now.
    let left = 0;
    await until(async () => {
      const before = left;
      left = (await two.inspect('k'))?.leaseRemainingMs as number;
      return before > 0 && left > before;
    });
    release();
    expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
    expect(await waiting).toMatchObject({ status: 'replayed', value: 'value' });
    expect(lost).toEqual([]);
  });

  test('keeps every record for an hour more; one that was forgotten comes again with a lower fence', async () => {
    const { one, two } = stage({ retention: '30m' });
    const fence = await one.once('k', (context) => context.fence);
    await server.setClock(-HOUR_MS);
    expect(await two.run('k', () => 0)).toMatchObject({ status: 'replayed', value: fence });
    const expiresInMs = (await two.inspect('k'))?.expiresInMs as number;
    expect(expiresInMs).toBeGreaterThan(HOUR_MS);
    expect(expiresInMs).toBeLessThanOrEqual(1.5 * HOUR_MS);
    await one.forget('k');
    expect(await two.once('k', (context) => context.fence)).toBeLessThan(fence);
  });
});

test.each([
  ['forward', HOUR_MS],
  ['back', -HOUR_MS],
])('a wait ends at its deadline, though the clock is set an hour %s meanwhile', async (_, offsetMs) => {
  const { redis, one, two, namespace } = stage();
  const { handler, started, release } = heldHandler('value');
  const held = one.run('k', handler);
  await started;
  // An `apply` of the key waits as well: that it is one of `once` is told when its lease has ended.
  const waits = [
    two.run('k', () => 'second', { waitTimeout: 1_500 }),
    two.apply('k', (tx) => void tx.incr(`${namespace}-data`), { waitTimeout: 1_500 }),
  ];
  for (const wait of waits) wait.catch(() => {});
  await waitsForHints(redis, namespace);
  await server.setClock(offsetMs);
  const [waited, applied] = await Promise.allSettled(waits);
  release();
  if (offsetMs < 0) expect(waited).toMatchObject({ reason: { code: 'IN_PROGRESS' } });
  else expect(waited).toMatchObject({ status: 'fulfilled', value: { value: 'second', attempt: 2 } });
  expect(applied).toMatchObject({ status: 'rejected' });
  const ended = await held.catch((error: unknown) => error);
  if (offsetMs < 0) expect(ended).toMatchObject({ status: 'executed', attempt: 1 });
  else expect(isDedupError(ended, 'LEASE_LOST')).toBe(true);
  expect(await redis.exists(`${namespace}-data`)).toBe(0);
});

describe('a set of seen ids', () => {
  const ids = Array.from({ length: 50 }, (_, at) => `id${at}`);

  test('knows its ids for the window by that clock: after an hour forward those of a longer window, after one back all', async () => {
    const { one, two } = stage();
    const [long, short] = [one.seen('long', { window: '2h' }), one.seen('short', { window: '30m' })];
    const others = [two.seen('long', { window: '2h' }), two.seen('short', { window: '30m' })] as const;
    const isNew = (set: typeof long) => set.addMany(ids).then((news) => new Set(news));
    for (const set of [long, short]) expect(await isNew(set)).toEqual(new Set([true]));
    await server.setClock(-HOUR_MS);
    for (const set of others) expect(await isNew(set)).toEqual(new Set([false]));
    await server.setClock(HOUR_MS);
    expect(await isNew(others[0])).toEqual(new Set([false]));
    expect(await isNew(others[1])).toEqual(new Set([true]));
    // Marked by a clock that has gone back since: known all the same, and for longer.
    await server.setClock(0);
    for (const set of [long, short]) expect(await isNew(set)).toEqual(new Set([false]));
  });

  test('tells an id as new once, whichever way the clock is set while many add it', async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const { one, two } = stage();
    const sets = [one, two].map((dedup) => dedup.seen('set', { window: '24h', capacity: 1_000 }));
    const news = new Map<string, number>();
    for (let round = 0; round < 10; round += 1) {
      const adding = sets.map(async (set) => {
        const told = await set.addMany(ids);
        for (const [at, isNew] of told.entries()) {
          if (isNew) news.set(ids[at] as string, (news.get(ids[at] as string) ?? 0) + 1);
        }
      });
      await server.setClock(Math.round((random() * 2 - 1) * 11) * HOUR_MS);
      await Promise.all(adding);
    }
    expect(Object.fromEntries(news), `seed ${seed}`).toEqual(Object.fromEntries(ids.map((id) => [id, 1])));
  });
});

test(
  'set again and again under load, by up to an hour each way: every id is executed once, and record and writes are never apart',
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const { redis, one, two, namespace } = stage({ lease: '1s', waitTimeout: SLOW_MS });
    const messages = messagesOf(MESSAGES, random);
    let takenOver = 0;
    for (const dedup of [one, two]) {
      dedup.on('takenOver', () => {
        takenOver += 1;
      });
    }
    const load = new Load({
      ...{ dedups: [one, two], namespace, messages, lines: 24 },
      work: () => new Promise((resolve) => setTimeout(resolve, random() * 40)),
      codes: ['LEASE_LOST'],
    });
    for (let jump = 0; jump < JUMPS && !load.isOver; jump += 1) {
      const before = load.done;
      await server.setClock(Math.round((random() * 2 - 1) * 60) * 60_000);
      await expectWhole(redis, namespace, messages, `seed ${seed}, jump ${jump}`);
      await until(() => load.done >= before + (2 * MESSAGES) / (JUMPS + 1) || load.isOver);
    }
    await load.over;
    console.log(`seed ${seed}: ${takenOver} taken over, told ${JSON.stringify(load.told)}`);
    const context = `seed ${seed}`;
    expect((await expectWhole(redis, namespace, messages, context)).size, context).toBe(MESSAGES);
    load.expectTruth(context);
  },
  60_000 + MESSAGES * 60,
);

describe('a consumer of a stream', () => {
  test('goes on with new entries, and takes those of the dead over when the clock has come to where they were handed out', async () => {
    const { redis, one, data } = stage();
    const stream = makeStream(redis);
    await stream.add({ n: 1 });
    await stream.handOut('dead');
    const { consumer, told, processed } = makeConsumer(
      stream,
      ({ fields }, { tx }) => void tx.rpush(data, String(fields.n)),
      { claimIdle: 2_000 },
      one,
    );
    await consumer.start();
    await server.setClock(-HOUR_MS);
    await stream.add({ n: 2 });
    await processed(1);
    await stream.add({ n: 3 });
    await processed(2);
    // As if it had been handed out just now, for an hour.
    expect((await stream.pending()).map(({ consumer, idleMs }) => [consumer, idleMs])).toEqual([['dead', 0]]);
    await server.setClock(0);
    await processed(3);
    expect(await redis.lrange(data, 0, -1)).toEqual(['2', '3', '1']);
    expect((await redis.xpending(stream.stream, GROUP))[0]).toBe(0);
    expect(told.takenOver).toHaveLength(1);
  });
});
