/** The same lives on the server at hand and on newer ones. */
import { beforeAll, expect, test } from 'vitest';
import type { DedupOptions } from '../../src/index.js';
import {
  connect,
  describeOnEachServer,
  expectCode,
  freshNamespace,
  heldHandler,
  makeDedup,
  until,
} from '../support/index.js';
import { type RedisServer, startRedis } from '../support/redis/index.js';

describeOnEachServer('a life', (version, on) => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis([], version);
    return () => server.stop();
  });

  /** Two callers, each on a connection of its own, in one namespace. */
  const callers = (given: DedupOptions = {}) => {
    const options = { namespace: freshNamespace(), ...given };
    const [redis, other] = [connect({}, server.url), connect({}, server.url)];
    return { redis, one: makeDedup(options, redis), two: makeDedup(options, other) };
  };

  test('is run once, replayed, inspected and forgotten, and run again', async () => {
    const { one, two } = callers();
    expect(await one.run('k', () => ({ run: 1 }))).toMatchObject({ status: 'executed', attempt: 1 });
    expect(await two.run('k', () => ({ run: 2 }))).toMatchObject({ status: 'replayed', value: { run: 1 } });
    expect(await two.inspect('k')).toMatchObject({ state: 'completed', attempt: 1, leaseRemainingMs: null });
    expect(await two.forget('k')).toBe(true);
    expect(await one.inspect('k')).toBeNull();
    expect(await one.run('k', () => ({ run: 3 }))).toMatchObject({ status: 'executed', value: { run: 3 } });
  });

  test('is waited for by a hint, and another payload is refused', async () => {
    const namespace = freshNamespace();
    const { redis, one, two } = callers({ namespace });
    const { handler, started, release } = heldHandler('value');
    const held = one.run('k', handler, { fingerprint: { amount: 1 } });
    await started;
    const waiting = two.run('k', () => 'never', { fingerprint: { amount: 1 } });
    await until(async () => ((await redis.pubsub('CHANNELS', `${namespace}*`)) as string[]).length > 0);
    release();
    expect(await held).toMatchObject({ status: 'executed', value: 'value' });
    expect(await waiting).toMatchObject({ status: 'replayed', value: 'value' });
    await expectCode(
      two.run('k', () => 'never', { fingerprint: { amount: 2 } }),
      'FINGERPRINT_MISMATCH',
    );
  });

  test('that failed is tried again, and taken over when its lease has run out; its late holder changes nothing', async () => {
    const { redis, one, two } = callers({ lease: 300 });
    await one.run('k', () => Promise.reject(new Error('fails'))).catch(() => {});
    const { handler, started, release } = heldHandler('late');
    const held = one.run('k', handler);
    await started;
    // Without its connection the holder renews nothing.
    redis.disconnect();
    expect(await two.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 3 });
    await redis.connect();
    release();
    await expectCode(held, 'LEASE_LOST');
    expect(await two.once('k', () => 'never')).toBe(3);
  });

  test('is one that check() finds the server fit for', async () => {
    const report = await callers().one.check();
    expect(report.checks.filter(({ level }) => level === 'danger')).toEqual([]);
    expect(report.server).toMatch(version ? new RegExp(`^${on.replace('.', '[.]')}[.]`) : /^(Redis|Valkey) \d/);
  });
});
