/** Holders that die, freeze, block or hang, as processes of their own, and who takes over from them. */
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Dedup } from '../../src/index.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { freshNamespace, gate, until } from '../support/index.js';
import { Worker } from '../support/processes.js';
import { FaultProxy } from '../support/proxy.js';
import { type RedisServer, startRedis } from '../support/redis/index.js';

const LEASE_MS = 600;

let server: RedisServer;
let proxy: FaultProxy;
beforeAll(async () => {
  server = await startRedis();
  proxy = await FaultProxy.start(server.port);
  // The server knows the scripts: an answer that is lost is then one of a script that ran.
  const redis = new Redis(server.url);
  for (const { source } of Object.values(SCRIPTS)) await redis.script('LOAD', source);
  redis.disconnect();
});
afterEach(() => proxy.reset());
afterAll(async () => {
  await proxy.stop();
  await server.stop();
});

/** A holder behind the proxy, and a caller beside it. */
function stage(holderOptions: object = {}): { holder: Worker; dedup: Dedup } {
  const namespace = freshNamespace();
  const redis = new Redis(server.url);
  const dedup = new Dedup(redis, { namespace, lease: LEASE_MS });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  });
  return { holder: new Worker('holder', { url: proxy.url, namespace, lease: LEASE_MS, ...holderOptions }), dedup };
}

describe('a holder killed by SIGKILL', () => {
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
