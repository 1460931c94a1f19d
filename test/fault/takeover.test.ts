/** Holders that die, freeze, block or hang, as processes of their own, and who takes over from them. */
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Dedup, type DedupOptions, type RecordInfo } from '../../src/index.js';
import { connect, endLeaseIn, expectCode, freshNamespace, gate, until } from '../support/index.js';
import { Worker } from '../support/processes.js';
import { type Fate, type FaultProxy, type ProxiedCommand, startProxied } from '../support/proxy.js';
import type { RedisServer } from '../support/redis/index.js';

const LEASE_MS = 600;

let server: RedisServer;
let proxy: FaultProxy;
beforeAll(async () => {
  ({ server, proxy } = await startProxied());
});
afterEach(() => proxy.reset());
afterAll(async () => {
  await proxy.stop();
  await server.stop();
});

/** Polls of those who wait are no further apart. */
const LONGEST_POLL_MS = 1_000;
/** A holder behind the proxy, and a caller beside it. */
function stage(
  holderArgs: object = {},
  options: DedupOptions = { lease: LEASE_MS },
): { holder: Worker; dedup: Dedup; namespace: string } {
  const namespace = freshNamespace();
  const redis = new Redis(server.url);
  const dedup = new Dedup(redis, { namespace, ...options });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  });
  return { holder: new Worker('holder', { url: proxy.url, namespace, options, ...holderArgs }), dedup, namespace };
}

describe('a holder killed by SIGKILL', () => {
  test('before its claim arrived: the next call runs at once, on attempt 1', async () => {
    const arrived = gate();
    proxy.fate = ({ script }) => {
      if (script !== 'claim') return 'pass';
      arrived.open();
      return 'lose request';
    };
    const { holder, dedup } = stage();
    await arrived.opened;
    holder.kill('SIGKILL');
    await holder.exited;
    const outcome = await dedup.run('k', ({ attempt }) => attempt, { onInProgress: 'throw' });
    expect(outcome).toMatchObject({ status: 'executed', value: 1 });
  });

  test('after its claim was run and before it knew: the next call finishes on attempt 2', async () => {
    const arrived = gate();
    proxy.fate = ({ script }) => {
      if (script !== 'claim') return 'pass';
      arrived.open();
      return 'lose reply';
    };
    const { holder, dedup } = stage();
    await arrived.opened;
    await until(async () => (await dedup.inspect('k')) !== null);
    holder.kill('SIGKILL');
    await holder.exited;
    expect(await dedup.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  });

  test('in its handler: the next call finishes on attempt 2 with a higher fence, when the lease has ended', async () => {
    const { holder, dedup } = stage();
    const held = await holder.next<{ attempt: number; fence: number }>();
    expect(held.attempt).toBe(1);
    holder.kill('SIGKILL');
    await holder.exited;
    const outcome = await dedup.run('k', ({ attempt, fence }) => ({ attempt, fence }));
    expect(outcome).toMatchObject({ status: 'executed', value: { attempt: 2 } });
    expect(outcome.value.fence).toBeGreaterThan(held.fence);
  });

  test('before its commit arrived: the next call finishes on attempt 2', async () => {
    const arrived = gate();
    proxy.fate = ({ script }) => {
      if (script !== 'commit') return 'pass';
      arrived.open();
      return 'lose request';
    };
    const { holder, dedup } = stage();
    await holder.next();
    holder.tell({ go: true });
    await arrived.opened;
    holder.kill('SIGKILL');
    await holder.exited;
    expect(await dedup.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  });

  test('after its commit arrived: the stored result is replayed', async () => {
    proxy.fate = ({ script }) => (script === 'commit' ? 'lose reply' : 'pass');
    const { holder, dedup } = stage();
    await holder.next();
    holder.tell({ go: true });
    await until(async () => (await dedup.inspect('k'))?.state === 'completed');
    holder.kill('SIGKILL');
    await holder.exited;
    const outcome = await dedup.run('k', () => ({ by: 'nobody' }));
    expect(outcome).toMatchObject({ status: 'replayed', attempt: 1, value: { by: 'holder', attempt: 1 } });
  });

  test('after the release of its failure arrived: the next call runs at once, on attempt 2', async () => {
    proxy.fate = ({ script }) => (script === 'settle' ? 'lose reply' : 'pass');
    const { holder, dedup } = stage({ fails: true });
    await holder.next();
    holder.tell({ go: true });
    await until(async () => (await dedup.inspect('k'))?.state === 'released');
    holder.kill('SIGKILL');
    await holder.exited;
    const outcome = await dedup.run('k', ({ attempt }) => attempt, { onInProgress: 'throw' });
    expect(outcome).toMatchObject({ status: 'executed', value: 2 });
  });

  // Of the 30 s of the default lease, most are taken off on the server: what is left is waited for.
  test.each<[string, ProxiedCommand['script'], Fate]>([
    ['after its claim was run and before it knew', 'claim', 'lose reply'],
    ['in its handler', undefined, 'pass'],
    ['before its commit arrived', 'commit', 'lose request'],
    ['before the release of its failure arrived', 'settle', 'lose request'],
  ])(
    'under default options, %s: one who waits finishes on attempt 2, one poll after the lease',
    async (_when, script, fate) => {
      const arrived = gate();
      proxy.fate = (command) => {
        if (script === undefined || command.script !== script) return 'pass';
        arrived.open();
        return fate;
      };
      const { holder, dedup, namespace } = stage({ fails: script === 'settle' }, {});
      if (script !== 'claim') await holder.next();
      if (script === 'commit' || script === 'settle') holder.tell({ go: true });
      if (script !== undefined) await arrived.opened;
      await until(async () => (await dedup.inspect('k'))?.state === 'in_progress');
      holder.kill('SIGKILL');
      await holder.exited;
      const { redisKey, leaseRemainingMs } = (await dedup.inspect('k')) as RecordInfo;
      expect(leaseRemainingMs).toBeGreaterThan(LONGEST_POLL_MS * 10);
      await expectCode(
        dedup.run('k', () => 0, { onInProgress: 'throw' }),
        'IN_PROGRESS',
      );
      const waiting = dedup.run('k', ({ attempt }) => attempt);
      const redis = connect({}, server.url);
      await until(async () => ((await redis.pubsub('NUMSUB', `${namespace}::hints`))[1] as number) > 0);
      const leaseEndsAt = await endLeaseIn(redis, redisKey, 300);
      expect(await waiting).toMatchObject({ status: 'executed', value: 2 });
      console.log(`took over ${Date.now() - leaseEndsAt} ms after the lease had ended`);
      // The wait was one of a poll, not one of the lease that the holder had been given.
      expect((await waiting).waitedMs).toBeLessThan(leaseRemainingMs as number);
    },
  );
});

describe('a zombie', () => {
  test('that was stopped past its lease finds its signal aborted and its commit refused', async () => {
    const { holder, dedup } = stage();
    const held = await holder.next<{ fence: number }>();
    holder.kill('SIGSTOP');
    const taker = await dedup.run('k', ({ attempt, fence }) => ({ by: 'taker', attempt, fence }));
    expect(taker.value.attempt).toBe(2);
    expect(taker.value.fence).toBeGreaterThan(held.fence);
    holder.kill('SIGCONT');
    holder.tell({ go: true });
    expect(await holder.next()).toEqual({ aborted: true });
    expect(await holder.next()).toEqual({ code: 'LEASE_LOST' });
    expect(await holder.exited).toMatchObject({ code: 0 });
    expect(await dedup.once('k', () => ({}))).toEqual(taker.value);
  });

  test('that blocked its event loop past its lease finds its signal aborted at once, and its commit refused', async () => {
    const { holder, dedup } = stage({ blockMs: 4 * LEASE_MS });
    await holder.next();
    const taker = await dedup.run('k', ({ attempt }) => ({ by: 'taker', attempt }));
    expect(taker.value.attempt).toBe(2);
    expect(await holder.next()).toEqual({ abortedAtOnce: true });
    holder.tell({ go: true });
    expect(await holder.next()).toEqual({ aborted: true });
    expect(await holder.next()).toEqual({ code: 'LEASE_LOST' });
    expect(await dedup.once('k', () => ({}))).toEqual(taker.value);
  });
});
