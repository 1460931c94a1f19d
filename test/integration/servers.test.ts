/** Servers that are set up otherwise: those that evict, and those whose user may do little. */
import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connect, expectCode, freshNamespace, heldHandler, makeDedup, until } from '../support/index.js';
import { startRedis } from '../support/redis/index.js';

async function serverWith(...args: string[]): Promise<string> {
  const server = await startRedis(args);
  onTestFinished(() => server.stop());
  return server.url;
}

describe('a server that may evict', () => {
  test('is refused by a message that names policy, fix and option, and nothing is sent', async () => {
    const url = await serverWith('--maxmemory', '50mb', '--maxmemory-policy', 'volatile-lru');
    const redis = connect({}, url);
    const dedup = makeDedup({}, redis);
    const policies: (string | null)[] = [];
    dedup.on('unsafeServer', ({ policy }) => policies.push(policy));
    const error = await expectCode(
      dedup.once('k', () => 1),
      'UNSAFE_SERVER',
    );
    expect(error.message).toMatch(/volatile-lru.*noeviction.*allowEviction/);
    expect(await redis.dbsize()).toBe(0);
    expect(policies).toEqual(['volatile-lru']);
  });

  test('is accepted where its risk is', async () => {
    const url = await serverWith('--maxmemory', '50mb', '--maxmemory-policy', 'allkeys-lru');
    expect(await makeDedup({ allowEviction: true }, connect({}, url)).once('k', () => 1)).toBe(1);
  });

  test('is accepted once it is set right', async () => {
    const url = await serverWith('--maxmemory', '50mb', '--maxmemory-policy', 'allkeys-lru');
    const redis = connect({}, url);
    const dedup = makeDedup({}, redis);
    await expectCode(
      dedup.once('k', () => 1),
      'UNSAFE_SERVER',
    );
    await redis.config('SET', 'maxmemory-policy', 'noeviction');
    expect(await dedup.once('k', () => 1)).toBe(1);
  });

  test('is found out after a reconnect', async () => {
    const url = await serverWith('--maxmemory', '50mb');
    const redis = connect({ retryStrategy: () => 1 }, url);
    const dedup = makeDedup({}, redis);
    expect(await dedup.once('k', () => 1)).toBe(1);
    const admin = connect({}, url);
    await admin.config('SET', 'maxmemory-policy', 'allkeys-lfu');
    expect(await dedup.once('k2', () => 1)).toBe(1);
    const closed = new Promise((resolve) => redis.once('close', resolve));
    await admin.client('KILL', 'ID', await redis.client('ID'));
    await closed;
    await expectCode(
      dedup.once('k3', () => 1),
      'UNSAFE_SERVER',
    );
  });

  test('with no limit of memory, or that evicts nothing, is safe', async () => {
    expect(
      await makeDedup({}, connect({}, await serverWith('--maxmemory-policy', 'allkeys-lru'))).once('k', () => 1),
    ).toBe(1);
    expect(await makeDedup({}, connect({}, await serverWith('--maxmemory', '50mb'))).once('k', () => 1)).toBe(1);
  });
});

/** A server with a user `app` of these ACL rules. */
async function serverWithUser(...rules: string[]): Promise<string> {
  const url = await serverWith();
  await connect({}, url).call('ACL', 'SETUSER', 'app', 'on', 'nopass', '~*', ...rules);
  return url;
}

describe('a user', () => {
  test('without INFO is served, and told that eviction could not be read, once', async () => {
    const url = await serverWithUser('&*', '+@all', '-info', '-config');
    const dedup = makeDedup({}, connect({ username: 'app', password: 'x', enableReadyCheck: false }, url));
    const policies: (string | null)[] = [];
    dedup.on('unsafeServer', ({ policy }) => policies.push(policy));
    expect(await dedup.once('k', () => 1)).toBe(1);
    expect(await dedup.once('k2', () => 2)).toBe(2);
    expect(policies).toEqual([null]);
  });

  test('without Pub/Sub waits by polls alone', async () => {
    const url = await serverWithUser('resetchannels', '+@all', '-@pubsub');
    const options = { namespace: freshNamespace() };
    const [one, two] = [1, 2].map(() => makeDedup(options, connect({ username: 'app', password: 'x' }, url)));
    const { handler, started, release } = heldHandler('value');
    const held = one?.run('k', handler);
    await started;
    const waiting = two?.run('k', () => 'never');
    setTimeout(release, 50);
    expect(await waiting).toMatchObject({ status: 'replayed', value: 'value' });
    expect(await held).toMatchObject({ status: 'executed' });
  });

  test('without the right to write is refused by name, and the handler does not run', async () => {
    const url = await serverWithUser('&*', '+@all', '-set');
    const dedup = makeDedup({}, connect({ username: 'app', password: 'x' }, url));
    const error = await expectCode(
      dedup.once('k', () => expect.fail('must not run')),
      'STORE_UNAVAILABLE',
    );
    expect(error.message).toMatch(/permission/);
  });
});

test('a server that is read-only for a moment keeps no finished work out', async () => {
  const url = await serverWith();
  const [redis, admin] = [connect({}, url), connect({}, url)];
  const dedup = makeDedup({}, redis);
  const { handler, started, release } = heldHandler('value');
  const held = dedup.run('k', handler);
  await started;
  const before = await stats(admin);
  await admin.replicaof('127.0.0.1', 1);
  release();
  // The commit has been refused at least once when the server is its own primary again.
  await until(async () => (await stats(admin)) > before + 1);
  await admin.replicaof('NO', 'ONE');
  expect(await held).toMatchObject({ status: 'executed', value: 'value' });
});

/** How many scripts the server has run. */
async function stats(redis: Redis): Promise<number> {
  const info = await redis.info('commandstats');
  return [...info.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0);
}
