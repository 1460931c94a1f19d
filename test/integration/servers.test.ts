/** Servers that are set up otherwise: those that evict, and those whose user may do little. */

import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import type { ServerReport } from '../../src/index.js';
import {
  claimsOf,
  connect,
  describeOnEachServer,
  expectCode,
  freshNamespace,
  heldHandler,
  holdByScript,
  makeDedup,
  ownRedis,
  until,
} from '../support/index.js';
import type { ServerVersion } from '../support/redis/index.js';

function serverWith(...args: string[]): Promise<string> {
  return ownRedis(args);
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
    expect(error.key).toBe('k');
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
    const told: (string | null)[] = [];
    for (const args of [
      ['--maxmemory-policy', 'allkeys-lru'],
      ['--maxmemory', '50mb'],
    ]) {
      const dedup = makeDedup({}, connect({}, await serverWith(...args)));
      dedup.on('unsafeServer', ({ policy }) => told.push(policy));
      expect(await dedup.once('k', () => 1)).toBe(1);
    }
    expect(told).toEqual([]);
  });
});

/** A server with a user `app` of these ACL rules. */
async function serverWithUser(version: ServerVersion | undefined, ...rules: string[]): Promise<string> {
  const url = await ownRedis([], version);
  await connect({}, url).call('ACL', 'SETUSER', 'app', 'on', 'nopass', '~*', ...rules);
  return url;
}

describeOnEachServer('a user', (version) => {
  test('without INFO is served, and told that eviction could not be read, once', async () => {
    const url = await serverWithUser(version, '&*', '+@all', '-info', '-config');
    const dedup = makeDedup({}, connect({ username: 'app', password: 'x', enableReadyCheck: false }, url));
    const policies: (string | null)[] = [];
    dedup.on('unsafeServer', ({ policy }) => policies.push(policy));
    expect(await Promise.all([dedup.once('k', () => 1), dedup.once('k2', () => 2)])).toEqual([1, 2]);
    expect(await dedup.once('k3', () => 3)).toBe(3);
    expect(policies).toEqual([null]);
  });

  test('without Pub/Sub waits by polls alone', async () => {
    const url = await serverWithUser(version, 'resetchannels', '+@all', '-@pubsub');
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

  test('that loses the right to write while its handler runs is told at once what stands', async () => {
    const url = await serverWithUser(version, '&*', '+@all');
    const dedup = makeDedup({}, connect({ username: 'app', password: 'x' }, url));
    const told: string[] = [];
    dedup.on('storeError', ({ operation, code }) => told.push(`${operation} ${code}`));
    dedup.on('leaseLost', ({ reason }) => told.push(reason));
    const { handler, started, release } = heldHandler('value');
    const held = dedup.once('k', handler);
    await started;
    await connect({}, url).call('ACL', 'SETUSER', 'app', '-@write');
    release();
    const error = await expectCode(held, 'STORE_UNAVAILABLE');
    expect(error.message).toMatch(/names it\): the handler ran, its result was not stored$/);
    expect(error.key).toBe('k');
    expect(told).toEqual(['commit NOPERM', 'settle NOPERM']);
  });

  test('that loses the right to write before its handler throws is not asked twice', async () => {
    const url = await serverWithUser(version, '&*', '+@all');
    const dedup = makeDedup({}, connect({ username: 'app', password: 'x' }, url));
    const told: string[] = [];
    dedup.on('storeError', ({ operation, code }) => told.push(`${operation} ${code}`));
    const admin = connect({}, url);
    const call = dedup.once('k', async () => {
      await admin.call('ACL', 'SETUSER', 'app', '-@write');
      throw new Error('mine');
    });
    await expect(call).rejects.toThrow('mine');
    await admin.ping();
    expect(told).toEqual(['settle NOPERM']);
  });

  test('without the right to write is refused by name, and the handler does not run', async () => {
    const url = await serverWithUser(version, '&*', '+@all', '-set');
    const redis = connect({ username: 'app', password: 'x' }, url);
    const dedup = makeDedup({}, redis);
    const told: string[] = [];
    dedup.on('storeError', ({ operation, code }) => told.push(`${operation} ${code}`));
    const claims = claimsOf(redis);
    const error = await expectCode(
      dedup.once('k', () => expect.fail('must not run')),
      'STORE_UNAVAILABLE',
    );
    // Nothing stands, so nothing is given back.
    expect(claims()).toBe(1);
    expect(told).toEqual(['claim NOPERM']);
    expect(error.message).toMatch(
      /^The Redis user lacks a permission \(`ACL LOG` on the server names it\): the handler did not run$/,
    );
    expect(error.key).toBe('k');
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

test('a server that is read-only when a handler fails releases the key when it is well', async () => {
  const url = await serverWith();
  const [redis, admin] = [connect({}, url), connect({}, url)];
  const dedup = makeDedup({ redisTimeout: 1_000 }, redis);
  const released: number[] = [];
  const refused: (string | null)[] = [];
  dedup.on('released', ({ attempt }) => released.push(attempt));
  dedup.on('storeError', ({ code }) => refused.push(code));
  const { handler, started, release } = heldHandler(0);
  const failing = dedup.once('k', () => handler().then(() => Promise.reject(new Error('its own'))));
  await started;
  await admin.replicaof('127.0.0.1', 1);
  release();
  await expect(failing).rejects.toThrow('its own');
  await until(() => refused.length > 1);
  await admin.replicaof('NO', 'ONE');
  await until(() => released.length > 0);
  expect(new Set(refused)).toEqual(new Set(['READONLY']));
  expect(await dedup.run('k', ({ attempt }) => attempt)).toMatchObject({ value: 2 });
  expect(released).toEqual([1]);
});

/** How many scripts the server has run. */
async function stats(redis: Redis): Promise<number> {
  const info = await redis.info('commandstats');
  return [...info.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0);
}

describe('check', () => {
  const levels = ({ checks }: ServerReport) => Object.fromEntries(checks.map(({ name, level }) => [name, level]));

  test('of a server that is fit says so, and leaves nothing behind', async () => {
    const redis = connect({}, await serverWith('--appendonly', 'yes'));
    const report = await makeDedup({}, redis).check();
    expect(report.ok).toBe(true);
    expect(report.server).toMatch(/^(Redis|Valkey) \d/);
    expect(levels(report)).toMatchObject({
      version: 'ok',
      eviction: 'ok',
      memory: 'ok',
      persistence: 'ok',
      replication: 'ok',
      permissions: 'ok',
      scripts: 'ok',
      clock: 'ok',
    });
    const { host, port } = redis.options;
    const { server, checks } = report;
    expect(report.nodes).toEqual([{ address: `${host}:${port}`, server, checks }]);
    expect(await redis.dbsize()).toBe(0);
  });

  test('names each danger and what to do', async () => {
    const redis = connect({}, await serverWith('--maxmemory-policy', 'allkeys-lru'));
    // What an empty server uses differs by version.
    const used = Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
    await redis.config('SET', 'maxmemory', Math.ceil(used * 1.02));
    const report = await makeDedup({ allowEviction: true }, redis).check();
    expect(report.ok).toBe(false);
    expect(levels(report)).toMatchObject({ eviction: 'danger', memory: 'warning', persistence: 'warning' });
    for (const { level, fix } of report.checks) expect(fix === undefined).toBe(level === 'ok');
  });

  test('of a replica, and of a user without rights, tells what is missing', async () => {
    const url = await serverWithUser(undefined, '&*', '+@all', '-info', '-set');
    const denied = await makeDedup(
      {},
      connect({ username: 'app', password: 'x', enableReadyCheck: false }, url),
    ).check();
    expect(denied.server).toBeNull();
    expect(levels(denied)).toMatchObject({ version: 'warning', eviction: 'warning', permissions: 'danger' });
    const replica = connect({}, await serverWith());
    await replica.replicaof('127.0.0.1', 1);
    const report = await makeDedup({ redisTimeout: 200 }, replica).check();
    expect(levels(report)).toMatchObject({ replication: 'danger', permissions: 'ok', scripts: 'danger' });
  });

  const line = ({ checks }: ServerReport, of: string) => checks.find(({ name }) => name === of);

  test.each(['redis-8.0', undefined] as const)(
    'names the commands that the user may not give (%s)',
    async (version) => {
      const missing = async (...rules: string[]) => {
        const url = await serverWithUser(version, '&*', '+@all', ...rules);
        return line(await makeDedup({}, connect({ username: 'app', password: 'x' }, url)).check(), 'permissions');
      };
      expect(await missing('-setrange', '-unlink')).toMatchObject({
        level: 'danger',
        detail: expect.stringMatching(/^not for keys `test-.*:\*`: setrange, unlink$/),
      });
      expect(await missing('resetkeys', '~other:*')).toMatchObject({
        level: 'danger',
        detail: expect.stringMatching(/: evalsha, eval, get, set, setrange, pexpire, pttl, unlink$/),
      });
      expect(await missing('resetchannels')).toMatchObject({
        level: 'warning',
        detail: expect.stringMatching(/^not for the channel `test-.*::hints`: publish, subscribe$/),
      });
      expect(await missing('-sadd')).toMatchObject({
        level: 'ok',
        detail: 'all that calls need, but for sets of seen ids: sadd',
      });
      expect(await missing('-eval')).toMatchObject({ level: 'danger', detail: 'EVAL: Redis answered NOPERM' });
    },
  );

  test('looks at keys as the server has them, behind a keyPrefix', async () => {
    const url = await serverWithUser(undefined, '&*', '+@all', 'resetkeys', '~app:*', '~{*}:app:*');
    const login = { username: 'app', password: 'x' };
    const inside = await makeDedup({}, connect({ ...login, keyPrefix: 'app:' }, url)).check();
    expect(levels(inside)).toMatchObject({ permissions: 'ok', scripts: 'ok' });
    const outside = await makeDedup({}, connect(login, url)).check();
    expect(levels(outside)).toMatchObject({ permissions: 'danger', scripts: 'danger' });
  });

  test('tells why the server refuses what calls write', async () => {
    const full = connect({}, await serverWith('--maxmemory', '1'));
    expect(line(await makeDedup({}, full).check(), 'scripts')).toMatchObject({
      level: 'danger',
      detail: 'Redis answered OOM',
      fix: expect.stringMatching(/maxmemory/),
    });
    const lonely = connect({}, await serverWith('--min-replicas-to-write', '1'));
    expect(line(await makeDedup({}, lonely).check(), 'scripts')).toMatchObject({ detail: 'Redis answered NOREPLICAS' });
  });

  test('of a server that a script of others holds says so', async () => {
    const url = await serverWith('--lua-time-limit', '10');
    const dedup = makeDedup({}, connect({}, url));
    await dedup.check();
    const kill = await holdByScript(url);
    const report = await dedup.check();
    await kill();
    expect(report).toMatchObject({ ok: false, server: null, checks: [{ name: 'scripts', level: 'danger' }] });
    expect(report.checks[0]?.detail).toMatch(/busy with a script of others/);
  });

  test('tells how the append-only file is written, and of a machine that keeps it back', async () => {
    const redis = connect({}, await serverWith('--appendonly', 'yes', '--appendfsync', 'no'));
    const dedup = makeDedup({}, redis);
    expect(line(await dedup.check(), 'persistence')).toMatchObject({
      level: 'warning',
      detail: expect.stringMatching(/appendfsync no$/),
    });
    await redis.config('SET', 'appendfsync', 'everysec');
    expect(line(await dedup.check(), 'persistence')).toMatchObject({
      level: 'ok',
      detail: expect.stringMatching(/appendfsync everysec$/),
    });
  });

  test('tells how far replicas are behind, and whether enough must be there', async () => {
    const url = await serverWith('--repl-diskless-sync-delay', '0');
    const [primary, replica] = [connect({}, url), connect({}, await serverWith())];
    const { host, port } = primary.options;
    await replica.replicaof(host as string, port as number);
    await until(async () => /state=online/.test(await primary.info('replication')));
    const dedup = makeDedup({}, primary);
    expect(line(await dedup.check(), 'replication')).toMatchObject({
      level: 'warning',
      detail: expect.stringMatching(
        /^a primary with 1 replica, the furthest \d+ s and .* min-replicas-to-write is not set$/,
      ),
    });
    await primary.config('SET', 'min-replicas-to-write', 1);
    await until(async () => /min_slaves_good_slaves:1/.test(await primary.info('replication')));
    expect(line(await dedup.check(), 'replication')?.detail).toMatch(/min-replicas-to-write is set and 1 count$/);
  });

  test('of a server that is not reached is STORE_UNAVAILABLE', async () => {
    const redis = connect({ retryStrategy: () => null }, await serverWith());
    const dedup = makeDedup({}, redis);
    redis.disconnect();
    await expectCode(dedup.check(), 'STORE_UNAVAILABLE');
  });
});

describeOnEachServer('a user with the least privileges of docs/operations.md', (version) => {
  const rules = /^ACL SETUSER once-app .*$/m.exec(
    readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8'),
  )?.[0];

  test('runs whole lives, waits by hints, and touches no key outside its namespace', async () => {
    const url = await ownRedis([], version);
    const words = (rules as string).replace('>PASSWORD', 'nopass').split(' ');
    await connect({}, url).call(words[0] as string, words.slice(1));
    const login = { username: 'once-app', password: 'x' };
    const options = { namespace: 'orders', lease: '1s' } as const;
    const [one, two] = [1, 2].map(() => makeDedup(options, connect(login, url)));
    const errors: string[] = [];
    for (const dedup of [one, two])
      dedup?.on('storeError', ({ operation, code }) => errors.push(`${operation} ${code}`));
    const { handler, started, release } = heldHandler('value');
    const held = one?.run('k', handler);
    await started;
    const waiting = two?.run('k', () => 'never');
    await until(async () => ((await connect({}, url).pubsub('NUMSUB', 'orders::hints'))[1] as number) > 0);
    release();
    expect(await held).toMatchObject({ status: 'executed' });
    expect(await waiting).toMatchObject({ status: 'replayed', value: 'value' });
    await one?.once('f', () => Promise.reject(new Error('fails'))).catch(() => {});
    expect(await two?.run('f', ({ attempt }) => attempt)).toMatchObject({ value: 2 });
    expect(await one?.forget('k')).toBe(true);
    expect((await one?.check())?.checks.find(({ name }) => name === 'permissions')?.level).toBe('ok');
    expect(errors).toEqual([]);
    const elsewhere = makeDedup({ namespace: 'another' }, connect(login, url));
    await expectCode(
      elsewhere.once('k', () => expect.fail('must not run')),
      'STORE_UNAVAILABLE',
    );
  });
});
