/** Lines that are far, narrow, silent or parted for a while: what takes longer, what is told, and what is then so. */
import { expect, test } from 'vitest';
import type { DedupOptions } from '../../src/index.js';
import {
  connect,
  expectCode,
  expectRanOnce,
  freshNamespace,
  heldHandler,
  makeDedup,
  ownServer,
  until,
} from '../support/index.js';
import { Line } from '../support/line.js';

/** A Dedup behind a line whose connection is ready, and one beside it. */
async function stage(options: DedupOptions = {}) {
  const server = await ownServer();
  const line = await Line.before(server.port);
  const namespace = freshNamespace();
  const behindLine = connect({}, line.url);
  const [behind, beside] = [behindLine, connect({}, server.url)].map((redis) =>
    makeDedup({ namespace, ...options }, redis),
  ) as [Dedup, Dedup];
  // It has looked at the server, too.
  await behind.once('first', () => 0);
  const redis = connect({}, server.url);
  const waits = () => until(async () => ((await redis.pubsub('NUMSUB', `${namespace}::hints`))[1] as number) > 0);
  return { line, behind, beside, redis, waits, data: `${namespace}-data` };
}
type Dedup = ReturnType<typeof makeDedup>;

const LATENCY_MS = 200;

test('200 ms each way: calls, an apply, renewals and waiters are right, only later', async () => {
  const { line, behind, beside, redis, waits, data } = await stage({ lease: '4s' });
  line.latencyMs = LATENCY_MS;
  const lost: string[] = [];
  behind.on('leaseLost', ({ reason }) => lost.push(reason));
  const { handler, started, release } = heldHandler('value');
  const held = behind.run('k', ({ tx }) => {
    tx.incr(data);
    return handler();
  });
  await started;
  const waiting = [behind, beside].map((dedup) => dedup.run('k', () => 'never'));
  await waits();
  const applies = Promise.all(Array.from({ length: 20 }, () => behind.apply('a', (tx) => void tx.incr(`${data}-a`))));
  let left = 0;
  await until(async () => {
    const before = left;
    left = (await beside.inspect('k'))?.leaseRemainingMs as number;
    return before > 0 && left > before;
  });
  release();
  expectRanOnce([await held, ...(await Promise.all(waiting))]);
  expect((await applies).filter(({ status }) => status === 'executed')).toHaveLength(1);
  expect(await redis.mget(data, `${data}-a`)).toEqual(['1', '1']);
  expect(lost).toEqual([]);
});

test('a lease of less than three round trips: the handler is told that it is lost, and its result is stored all the same', async () => {
  const { line, behind, beside } = await stage({ lease: '1s' });
  line.latencyMs = LATENCY_MS;
  const lost: string[] = [];
  behind.on('leaseLost', ({ reason }) => lost.push(reason));
  const outcome = await behind.run('k', async ({ signal }) => {
    await until(() => signal.aborted);
    return 'value';
  });
  expect(outcome).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
  expect(lost).toEqual(['no_heartbeat']);
  expect(await beside.once('k', () => 'never')).toBe('value');
});

test('a partition that heals after another has taken over: late renewals and the late commit change nothing, and its caller is told', async () => {
  const { line, behind, beside, redis, data } = await stage({ lease: 400, redisTimeout: '20s' });
  const { handler, started, release } = heldHandler('parted');
  const lost: string[] = [];
  behind.on('leaseLost', ({ reason }) => lost.push(reason));
  const held = behind.once('k', ({ tx }) => {
    tx.rpush(data, 'parted');
    return handler();
  });
  held.catch(() => {});
  await started;
  line.cut();
  const taken = await beside.run('k', ({ tx }) => {
    tx.rpush(data, 'taker');
    return 'taker';
  });
  expect(taken).toMatchObject({ status: 'executed', attempt: 2 });
  await until(() => lost.length > 0);
  expect(lost).toEqual(['no_heartbeat']);
  release();
  line.heal();
  await expectCode(held, 'LEASE_LOST');
  expect(await behind.once('k', () => 'never')).toBe('taker');
  expect(await redis.lrange(data, 0, -1)).toEqual(['taker']);
});

test.each([
  ['and nobody has taken over, is applied when it arrives', false],
  ['and another has, is not', true],
])('a partition that outlasts every deadline: each call is told by then; a late commit, %s', async (_, isTaken) => {
  const { line, behind, beside, redis, data } = await stage({ lease: 300, redisTimeout: 200 });
  // The server knows the script: what arrives late runs.
  await behind.apply('second', (tx) => void tx.set(`${data}-second`, 1));
  const { handler, started, release } = heldHandler('parted');
  const held = behind.once('k', ({ tx }) => {
    tx.rpush(data, 'parted');
    return handler();
  });
  held.catch(() => {});
  await started;
  line.cut();
  release();
  // Nothing is heard of the server until all of these are told.
  await Promise.all([
    expectCode(held, 'OUTCOME_UNKNOWN'),
    expectCode(
      behind.once('new', () => expect.fail('the handler must not run')),
      'STORE_UNAVAILABLE',
    ),
    expectCode(
      behind.apply('a', (tx) => void tx.rpush(data, 'applied')),
      'OUTCOME_UNKNOWN',
    ),
    expectCode(behind.inspect('k'), 'STORE_UNAVAILABLE'),
    expectCode(behind.forget('other'), 'OUTCOME_UNKNOWN'),
  ]);
  const taker = () => beside.run('k', ({ tx }) => void tx.rpush(data, 'taker'));
  if (isTaken) expect(await taker()).toMatchObject({ status: 'executed', attempt: 2 });
  line.heal();
  // What is asked now comes behind all that was sent before.
  await until(() =>
    behind.inspect('a').then(
      () => true,
      () => false,
    ),
  );
  expect((await redis.lrange(data, 0, -1)).toSorted()).toEqual(['applied', isTaken ? 'taker' : 'parted']);
  expect(await beside.apply('a', (tx) => void tx.rpush(data, 'again'))).toMatchObject({ status: 'replayed' });
});

test('a subscriber whose line falls silent delays a waiter by a poll, no more', async () => {
  const { line, behind, beside, waits } = await stage();
  const { handler, started, release } = heldHandler('value');
  const held = beside.run('k', handler);
  await started;
  const waiting = behind.run('k', () => 'never');
  await waits();
  // What the server told the subscriber has arrived when these have.
  for (let look = 0; look < 3; look += 1) await behind.inspect('k');
  // The first connection is the caller's, the second that of the hints.
  line.cut((connection) => connection === 1);
  release();
  await held;
  const from = performance.now();
  expect(await waiting).toMatchObject({ status: 'replayed', value: 'value' });
  console.log(`got the result ${Math.round(performance.now() - from)} ms after it was there`);
});

test('a narrow way back: a result that does not arrive in time is told as that, and is the same when it does', async () => {
  const { line, behind, beside } = await stage({ redisTimeout: 1_000, lease: 500 });
  const large = 'x'.repeat(64 * 1_024);
  await beside.once('k', () => large);
  line.bytesPerSecond = 16 * 1_024;
  const { message } = await expectCode(
    behind.once('k', () => expect.fail('the handler must not run')),
    'STORE_UNAVAILABLE',
  );
  expect(message).toMatch(/did not answer in time: the handler did not run/);
  line.bytesPerSecond = Number.POSITIVE_INFINITY;
  expect(await behind.run('k', () => 'never')).toMatchObject({ status: 'replayed', value: large, attempt: 1 });
});
