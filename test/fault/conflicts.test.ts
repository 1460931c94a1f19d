/** Contention: conditions under which nobody's write is lost and nobody fails, and commits that come too late to have an effect. */
import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { expect, inject, onTestFinished, test } from 'vitest';
import { Recorder, recordAll } from '../../src/effects/recorder.js';
import { Dedup, type Effects } from '../../src/index.js';
import { Connection } from '../../src/redis/connection.js';
import { Scripts } from '../../src/redis/scripts.js';
import { CHANNEL, RETENTION_MS, Stage } from '../lua/stage.js';
import { connect, expectCode, freshNamespace, heldHandler, makeDedup } from '../support/index.js';
import { Worker } from '../support/processes.js';
import { FaultProxy } from '../support/proxy.js';
import type { Raised } from '../support/workers/raiser.js';

const PROCESSES = 4;
const CALLS = 50;

test('50 concurrent read-modify-write calls of 4 processes add up, and none fails', async () => {
  const namespace = freshNamespace();
  const data = `${namespace}-data`;
  const redis = connect();
  await redis.set(data, 1_000);
  const keys = Array.from({ length: CALLS }, (_, index) => `k${index}`);
  const workers = Array.from({ length: PROCESSES }, (_, number) => {
    const own = keys.filter((_, index) => index % PROCESSES === number);
    // Each conflict of a call is another call's commit, of which there is one each: more cannot come.
    const conflictRetries = CALLS - 1;
    return new Worker('raiser', { url: inject('redisUrl'), namespace, data, keys: own, conflictRetries });
  });
  await Promise.all(workers.map((worker) => worker.next()));
  for (const worker of workers) worker.tell({ go: true });
  const raised = (await Promise.all(workers.map((worker) => worker.next<Raised[]>()))).flat();
  expect(await redis.get(data)).toBe(String(1_000 + CALLS));
  expect(raised.map(({ status, attempt }) => [status, attempt])).toEqual(keys.map(() => ['executed', 1]));
  const values = raised.map(({ value }) => value.to).sort((a, b) => a - b);
  expect(values).toEqual(keys.map((_, index) => 1_001 + index));
  const runs = raised.reduce((sum, one) => sum + one.runs, 0);
  console.log(`${runs} runs of ${CALLS} handlers, at most ${Math.max(...raised.map((one) => one.runs))} of one`);
  expect(runs).toBeGreaterThan(CALLS);
});

test('a late copy of a commit that met a conflict is not applied, though its condition holds again', async () => {
  const proxy = await FaultProxy.start(Number(new URL(inject('redisUrl')).port));
  onTestFinished(() => proxy.stop());
  let commits = 0;
  proxy.fate = ({ script }) => (script === 'commit' && commits++ === 0 ? 'double' : 'pass');
  const redis = new Redis(proxy.url);
  const beside = connect();
  const namespace = freshNamespace();
  const dedup = new Dedup(redis, { namespace });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  });
  const data = `${namespace}-data`;
  let runs = 0;
  const late: string[] = [];
  await dedup.once(
    'k',
    async ({ tx }) => {
      runs += 1;
      if (runs === 1) {
        await beside.set(data, 'new');
        tx.require.equals(data, 'old').rpush(`${data}-list`, 'run 1');
        return runs;
      }
      // The attempt holds its key still, and what its first run asked for is true: only the run tells the copy apart.
      await beside.set(data, 'old');
      late.push(...(await proxy.deliverHeld()));
      expect(await beside.exists(`${data}-list`)).toBe(0);
      tx.require.equals(data, 'old').rpush(`${data}-list`, 'run 2');
      return runs;
    },
    { conflictRetries: 1 },
  );
  expect(late).toEqual([expect.stringContaining('conflict')]);
  expect([runs, await beside.lrange(`${data}-list`, 0, -1)]).toEqual([2, ['run 2']]);
});

test.each([
  ['the first', 1],
  ['the third', 3],
])(
  'after %s conflict the commits of all earlier runs are refused in Redis, and the next one is applied once',
  async (_which, conflicts) => {
    const stage = new Stage();
    const scripts = new Scripts(Connection.of(stage.redis), 5_000);
    const data = `${stage.key}-data`;
    const owner = await stage.own(randomBytes(16));
    const commit = (run: number) => {
      const recorder = new Recorder({
        key: stage.key,
        redisKey: stage.key,
        namespace: 'records',
        keyPrefix: '',
        isCluster: false,
        connection: {},
      });
      const effects = recordAll(recorder, (tx: Effects) =>
        tx.rpush(`${data}-list`, run).require.equals(data, 'wanted'),
      );
      const args = { ...owner, run, retention_ms: RETENTION_MS, channel: CHANNEL, result: 'result' };
      return scripts.call('commit', stage.key, args, { effects });
    };
    for (let run = 0; run < conflicts; run += 1) expect((await commit(run)).status).toBe('conflict');
    await stage.redis.set(data, 'wanted');
    for (let run = 0; run < conflicts; run += 1) expect((await commit(run)).status).toBe('conflict');
    expect(await stage.redis.exists(`${data}-list`)).toBe(0);
    expect((await commit(conflicts)).status).toBe('done');
    for (let run = 0; run <= conflicts; run += 1) expect((await commit(run)).status).toBe('done');
    expect(await stage.redis.lrange(`${data}-list`, 0, -1)).toEqual([String(conflicts)]);
  },
);

test.each([
  ['is at work', true],
  ['is done', false],
])('the writes of an attempt that was superseded are never made, when the next one %s', async (_when, isHeld) => {
  const proxy = await FaultProxy.start(Number(new URL(inject('redisUrl')).port));
  onTestFinished(() => proxy.stop());
  // Its heartbeat does not arrive before it is superseded, and it does not stop for the signal.
  proxy.fate = ({ script }) => (script === 'renew' ? 'cut before' : 'pass');
  const namespace = freshNamespace();
  const data = `${namespace}-data`;
  const options = { namespace, lease: 200, hints: 'poll' } as const;
  const superseded = makeDedup(options, connect({ retryStrategy: () => 5 }, proxy.url));
  const next = makeDedup({ ...options, lease: '30s' });
  const [first, second] = [heldHandler('first'), heldHandler('second')];
  const late = superseded.once('k', ({ tx }) => {
    tx.rpush(data, 'first');
    return first.handler();
  });
  const refused = expectCode(late, 'LEASE_LOST');
  await first.started;
  const taken = next.run('k', ({ tx }) => {
    tx.rpush(data, 'second');
    return second.handler();
  });
  await second.started;
  proxy.reset();
  if (!isHeld) {
    second.release();
    await taken;
  }
  first.release();
  await refused;
  second.release();
  expect(await taken).toMatchObject({ status: 'executed', value: 'second', attempt: 2 });
  expect(await connect().lrange(data, 0, -1)).toEqual(['second']);
});
