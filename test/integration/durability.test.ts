/** `durability`: a result is given out when replicas, or the append-only file, have it, and not before. */
import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { DedupOptions } from '../../src/index.js';
import {
  connect,
  describeOnEachServer,
  expectCode,
  freshNamespace,
  makeDedup,
  ownRedis,
  ownServer,
  until,
} from '../support/index.js';
import { FaultProxy } from '../support/proxy.js';

/** A primary with as many replicas, all of them up to date. */
async function replicated(count: number) {
  const server = await ownServer('--repl-diskless-sync-delay', '0');
  const primary = connect({}, server.url);
  const replicas: Redis[] = [];
  for (let made = 0; made < count; made += 1) {
    const { url } = await ownServer('--replicaof', '127.0.0.1', String(server.port));
    replicas.push(connect({}, url));
  }
  const online = async () => (await primary.info('replication')).match(/state=online/g)?.length ?? 0;
  await until(async () => (await online()) === count);
  return { server, primary, replicas, online };
}

/** A replica that hears nothing any more, and what connects it again. */
async function cutOff(replica: Redis, { port }: { port: number }): Promise<() => Promise<void>> {
  await replica.replicaof('NO', 'ONE');
  return async () => void (await replica.replicaof('127.0.0.1', port));
}

/** Bytes to and from a port; what comes from there may be held up while the connection stands. */
async function relayTo(port: number) {
  const upstreams = new Set<Socket>();
  const relay = createServer((client) => {
    const upstream = createConnection(port, '127.0.0.1');
    upstreams.add(upstream);
    for (const socket of [client, upstream]) socket.on('error', () => {});
    client.pipe(upstream);
    upstream.pipe(client);
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  onTestFinished(() => {
    relay.close();
    for (const upstream of upstreams) upstream.destroy();
  });
  return {
    port: (relay.address() as { port: number }).port,
    hold: () => [...upstreams].map((upstream) => upstream.pause()),
    goOn: () => [...upstreams].map((upstream) => upstream.resume()),
  };
}

function dedupOn(url: string, durability: DedupOptions['durability'], namespace = freshNamespace()) {
  return makeDedup({ namespace, durability, redisTimeout: '2s' }, connect({}, url));
}

/** How often a command was called on the server. */
async function callsOf(redis: Redis, command: string): Promise<number> {
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await redis.info('commandstats'))?.[1] ?? 0);
}

test('of a user who may not wait is refused before anything is claimed', async () => {
  const { url } = await ownServer();
  const admin = connect({}, url);
  await admin.call('ACL', 'SETUSER', 'app', 'on', 'nopass', '~*', '&*', '+@all', '-wait');
  const login = connect({ username: 'app', password: 'x' }, url);
  const dedup = makeDedup({ durability: { replicas: 1, timeout: '1s' } }, login);
  const ran = dedup.once('k', () => expect.fail('must not run'));
  const message = expect.stringMatching(/^The Redis user lacks a permission \(`ACL LOG`.*: the handler did not run/);
  await expect(ran).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', message });
  expect(await dedup.inspect('k')).toBeNull();
});

test('on a server without WAIT is an option that cannot be kept, told before anything is claimed', async () => {
  const { url } = await ownServer('--rename-command', 'WAIT', '');
  const options = { durability: { replicas: 1, timeout: '1s' }, onStoreFailure: 'proceed' } as const;
  const dedup = makeDedup(options, connect({}, url));
  await expectCode(
    dedup.once('k', () => expect.fail('must not run')),
    'INVALID_OPTION',
  );
});

test('of a user who loses the permission is NOT_DURABLE, and says why', async () => {
  const { server, primary } = await replicated(1);
  await primary.call('ACL', 'SETUSER', 'app', 'on', 'nopass', '~*', '&*', '+@all');
  const login = connect({ username: 'app', password: 'x' }, server.url);
  const dedup = makeDedup({ durability: { replicas: 1, timeout: '10s' } }, login);
  await dedup.once('k', () => 1);
  await primary.call('ACL', 'SETUSER', 'app', '-wait');
  const message = expect.stringContaining('the Redis user lacks a permission');
  await expect(dedup.once('k', () => 1)).rejects.toMatchObject({ code: 'NOT_DURABLE', message });
});

describe('with replicas', () => {
  test('the record and its effects are on the replica when the call returns, and its expiry has not moved', async () => {
    const { server, primary, replicas } = await replicated(1);
    const [replica] = replicas as [Redis];
    const namespace = freshNamespace();
    const dedup = dedupOn(server.url, { replicas: 1, timeout: '10s' }, namespace);
    for (let number = 0; number < 50; number += 1) {
      const key = `k${number}`;
      if (number % 2) await dedup.once(key, ({ tx }) => void tx.incr('total'));
      else await dedup.apply(key, (tx) => tx.incr('total'));
      expect(await replica.get('total')).toBe(String(number + 1));
      expect(await replica.exists(`${namespace}:${key}`)).toBe(1);
    }
    const expiresAt = await primary.pexpiretime(`${namespace}:k1`);
    expect(await dedup.run('k1', () => 'never')).toMatchObject({ status: 'replayed' });
    expect(await dedup.apply('k0', (tx) => tx.incr('total'))).toMatchObject({ status: 'replayed', replies: [1] });
    expect(Math.abs((await primary.pexpiretime(`${namespace}:k1`)) - expiresAt)).toBeLessThanOrEqual(1);
    expect(await primary.get('total')).toBe('50');
  });

  test('what too few confirm is an error for the call and for its copies, done once all the same, and found later', async () => {
    const { server, primary, replicas, online } = await replicated(2);
    const namespace = freshNamespace();
    const patient = dedupOn(server.url, { replicas: 2, timeout: '20s' }, namespace);
    const dedup = dedupOn(server.url, { replicas: 2, timeout: 150 }, namespace);
    expect(await patient.once('fine', () => 1)).toBe(1);
    const connectAgain = await cutOff(replicas[1] as Redis, server);
    await until(async () => (await online()) === 1);
    const handler = ({ tx }: { tx: { incr(key: string): unknown } }) => void tx.incr('total');
    const error = await expectCode(dedup.once('k', handler), 'NOT_DURABLE');
    expect(error).toMatchObject({ key: 'k', retryable: true, message: expect.stringContaining('1 of 2 replicas') });
    await expectCode(dedup.once('k', handler), 'NOT_DURABLE');
    await expectCode(
      dedup.apply('a', (tx) => tx.incr('total')),
      'NOT_DURABLE',
    );
    // A copy of a call that was confirmed is asked of anew.
    await expectCode(
      dedup.once('fine', () => 2),
      'NOT_DURABLE',
    );
    expect(await primary.get('total')).toBe('2');
    expect(await dedup.inspect('k')).toMatchObject({ state: 'completed' });
    await connectAgain();
    await until(async () => (await online()) === 2);
    expect(await patient.run('k', handler)).toMatchObject({ status: 'replayed' });
    expect(await patient.apply('a', (tx) => tx.incr('total'))).toMatchObject({ status: 'replayed' });
    expect(await primary.get('total')).toBe('2');
  });

  test('calls at once share the waits, and their neighbours without durability wait for none', async () => {
    const { server, primary, replicas, online } = await replicated(1);
    const namespace = freshNamespace();
    const dedup = dedupOn(server.url, { replicas: 1, timeout: '10s' }, namespace);
    await dedup.once('warm', () => 1);
    const before = await callsOf(primary, 'wait');
    const keys = Array.from({ length: 100 }, (_, index) => `k${index}`);
    await Promise.all(keys.map((key) => dedup.once(key, () => key)));
    expect((await callsOf(primary, 'wait')) - before).toBeLessThanOrEqual(5);
    const connectAgain = await cutOff(replicas[0] as Redis, server);
    await until(async () => (await online()) === 0);
    let confirmed = false;
    const waiting = dedup
      .once('waits', () => 1)
      .then(() => {
        confirmed = true;
      });
    const plain = makeDedup({ namespace }, connect({}, server.url));
    expect(await plain.once('other', () => 2)).toBe(2);
    await until(async () => (await plain.inspect('waits'))?.state === 'completed');
    expect(confirmed).toBe(false);
    await connectAgain();
    await waiting;
  });

  test('a record that is forgotten, or another one, before it is confirmed is not called durable', async () => {
    const { server, primary, replicas, online } = await replicated(1);
    const namespace = freshNamespace();
    const dedup = dedupOn(server.url, { replicas: 1, timeout: '10s' }, namespace);
    await dedup.once('warm', () => 1);
    await cutOff(replicas[0] as Redis, server);
    await until(async () => (await online()) === 0);
    // One that holds up the rest: a round is under way, and the next one has not begun.
    const first = expectCode(
      dedup.once('first', () => 1),
      'NOT_DURABLE',
    );
    await until(async () => /cmd=wait /.test(String(await primary.client('LIST'))));
    const second = expectCode(
      dedup.once('second', () => 2),
      'NOT_DURABLE',
    );
    await until(() => primary.exists(`${namespace}:second`));
    await until(async () => (await makeDedup({ namespace }, primary).inspect('second'))?.state === 'completed');
    await primary.unlink(`${namespace}:second`);
    await makeDedup({ namespace }, primary).once('second', () => 'another');
    for (const line of String(await primary.client('LIST')).split('\n')) {
      if (line.includes('cmd=wait ')) await primary.client('UNBLOCK', /id=(\d+)/.exec(line)?.[1] as string);
    }
    expect((await first).message).toContain('0 of 1 replicas');
    expect((await second).message).toContain('not the one of this result');
  });

  test('a connection of its own that is killed in the wait leaves the result unconfirmed, and a new one is made', async () => {
    const { server, primary, replicas, online } = await replicated(1);
    const dedup = dedupOn(server.url, { replicas: 1, timeout: '20s' });
    const connectAgain = await cutOff(replicas[0] as Redis, server);
    await until(async () => (await online()) === 0);
    const call = expectCode(
      dedup.once('k', () => 1),
      'NOT_DURABLE',
    );
    const waiting = async () => /id=(\d+) .*cmd=wait /.exec(String(await primary.client('LIST')))?.[1];
    await until(waiting);
    await primary.client('KILL', 'ID', (await waiting()) as string);
    await call;
    await connectAgain();
    await until(async () => (await online()) === 1);
    expect(await dedup.run('k', () => 2)).toMatchObject({ status: 'replayed', value: 1 });
  });
});

describe('a connection of its own is given up for a new one, so that the next call is confirmed,', () => {
  async function stage() {
    const { server, primary } = await replicated(1);
    const proxy = await FaultProxy.start(server.port);
    onTestFinished(() => proxy.stop());
    const dedup = makeDedup({ durability: { replicas: 1, timeout: '10s' }, redisTimeout: 500 }, connect({}, proxy.url));
    await dedup.once('warm', () => 1);
    return { primary, proxy, dedup };
  }
  const isReplayed = { status: 'replayed' };

  test('when it has gone silent, as to a server that is frozen', async () => {
    const { proxy, dedup } = await stage();
    proxy.fate = ({ script }) => (script === 'touch' ? 'lose request' : 'pass');
    const calls = ['a', 'b'].map((key) =>
      expectCode(
        dedup.run(key, () => 1),
        'NOT_DURABLE',
      ),
    );
    await Promise.all(calls);
    proxy.fate = () => 'pass';
    for (const key of ['a', 'b']) expect(await dedup.run(key, () => 2)).toMatchObject({ ...isReplayed, value: 1 });
  });

  test('when its server was made a replica', async () => {
    const { primary, dedup } = await stage();
    const own = async () => /id=(\d+) .*cmd=wait /.exec(String(await primary.client('LIST')))?.[1];
    const before = await own();
    await primary.replicaof('127.0.0.1', 1);
    const error = await expectCode(
      dedup.run('warm', () => 2),
      'NOT_DURABLE',
    );
    expect(error.cause).toMatchObject({ code: 'READONLY' });
    await until(async () => (await own()) !== before);
  });
});

test.each(['redis-8.0', 'valkey-8.1'] as const)(
  'a server of %s that is a replica for a moment is not taken for one that cannot confirm',
  async (version) => {
    const url = await ownRedis(['--appendonly', 'yes'], version);
    const admin = connect({}, url);
    await admin.replicaof('127.0.0.1', 1);
    const dedup = dedupOn(url, { aof: true, timeout: '10s' });
    const error = await expectCode(
      dedup.once('k', () => 1),
      'STORE_UNAVAILABLE',
    );
    expect(error.message).toMatch(/read-only replica: the handler did not run/);
    await admin.replicaof('NO', 'ONE');
    expect(await dedup.once('k', () => 1)).toBe(1);
  },
);

describeOnEachServer('with replicas', (version) => {
  test('a replica that is connected and lags is waited for', async () => {
    const url = await ownRedis(['--repl-diskless-sync-delay', '0'], version);
    const primary = connect({}, url);
    const wire = await relayTo(Number(new URL(url).port));
    const replica = connect({}, await ownRedis(['--replicaof', '127.0.0.1', String(wire.port)], version));
    await until(async () => (await primary.info('replication')).includes('state=online'));
    const namespace = freshNamespace();
    const patient = dedupOn(url, { replicas: 1, timeout: '20s' }, namespace);
    const hasty = dedupOn(url, { replicas: 1, timeout: 150 }, namespace);
    await patient.once('warm', () => 1);
    wire.hold();
    await expectCode(
      hasty.once('k', ({ tx }) => void tx.incr('total')),
      'NOT_DURABLE',
    );
    await expectCode(
      hasty.once('k', () => 'never'),
      'NOT_DURABLE',
    );
    // Another connection, which has not written: nothing of this result is taken for its own.
    await expectCode(
      dedupOn(url, { replicas: 1, timeout: 150 }, namespace).once('warm', () => 2),
      'NOT_DURABLE',
    );
    expect(await primary.info('replication')).toContain('state=online');
    expect(await replica.exists('total')).toBe(0);
    wire.goOn();
    expect(await patient.run('k', () => 'never')).toMatchObject({ status: 'replayed' });
    expect(await replica.get('total')).toBe('1');
  });
});

describeOnEachServer('with the append-only file', (version) => {
  test('a server that cannot confirm is refused before anything is claimed', async () => {
    // Redis 7.0 has no WAITAOF; later ones have it, and no file to wait for.
    const url = await ownRedis([], version);
    const dedup = dedupOn(url, { aof: true, timeout: '5s' });
    const error = await expectCode(
      dedup.once('k', () => 1),
      'INVALID_OPTION',
    );
    expect(error.message).toContain('`durability.aof`');
    await expectCode(
      dedup.apply('a', (tx) => tx.incr('total')),
      'INVALID_OPTION',
    );
    expect(await connect({}, url).dbsize()).toBe(0);
  });

  test('a server confirms that knows WAITAOF, which is of Redis 7.2', async () => {
    const url = await ownRedis(['--appendonly', 'yes', '--appendfsync', 'everysec'], version);
    const dedup = dedupOn(url, { aof: true, timeout: '10s' });
    const call = () => dedup.once('k', ({ tx }) => void tx.incr('total'));
    const [known] = (await connect({}, url).call('COMMAND', 'INFO', 'waitaof')) as unknown[];
    if (!known) {
      await expectCode(call(), 'INVALID_OPTION');
      return;
    }
    expect(await call()).toBeUndefined();
    expect(await dedup.run('k', () => 2)).toMatchObject({ status: 'replayed' });
  });
});

test('a set as the record is refused', async () => {
  const dedup = dedupOn(await ownRedis(), { replicas: 1, timeout: 1 });
  const record = dedup.seen('done');
  await expectCode(
    dedup.once('k', () => 1, { record }),
    'INVALID_OPTION',
  );
});
