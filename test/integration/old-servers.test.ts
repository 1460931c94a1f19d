/** Servers before Redis 7.0, which cannot be asked what a user may do: refused before anything is sent. */
import { createConnection, createServer, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { freePort } from '../../src/testing/server.js';
import { connect, expectCode, makeDedup, ownRedis } from '../support/index.js';

/** The server at hand, as one that says to be of `version`, as long as it is told to. */
async function serverThatSays(version: string): Promise<{ url: string; admin: string; says: { version?: string } }> {
  const admin = await ownRedis();
  const says: { version?: string } = { version };
  const sockets = new Set<Socket>();
  const proxy = createServer((client) => {
    const upstream = createConnection(Number(new URL(admin).port), '127.0.0.1');
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => {});
      one.once('close', () => other.destroy());
    }
    client.on('data', (chunk) => upstream.write(chunk));
    upstream.on('data', (chunk) => client.write(says.version === undefined ? chunk : renamed(chunk, says.version)));
  });
  const port = await freePort();
  await new Promise<void>((resolve) => proxy.listen(port, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  return { url: `redis://127.0.0.1:${port}`, admin, says };
}

/** In as many characters: a reply says how long it is. Valkey's own name is hidden. */
function renamed(chunk: Buffer, version: string): Buffer {
  const text = chunk
    .toString('latin1')
    .replace(/^redis_version:(\S+)/m, (_, own: string) => `redis_version:${version.padEnd(own.length, '9')}`)
    .replace(/^valkey_version/m, 'other__version');
  return Buffer.from(text, 'latin1');
}

test.each(['5.0.1', '6.0.1', '6.2.1'])(
  'Redis %s is refused by name, whatever is called, and nothing is sent',
  async (version) => {
    const { url, admin } = await serverThatSays(version);
    const dedup = makeDedup({ onStoreFailure: 'proceed' }, connect({}, url));
    const calls = [
      dedup.once('k', () => expect.fail('must not run')),
      dedup.apply('k', (tx) => tx.incr('total')),
      dedup.seen('ids').add('a'),
      dedup.once('again', () => expect.fail('must not run')),
    ];
    for (const error of await Promise.all(calls.map((call) => expectCode(call, 'UNSAFE_SERVER')))) {
      expect(error.message).toMatch(/^Expected Redis 7[.]0 or later, or Valkey, got Redis [56][.]\d[.]1\d*, .*upgrade/);
      expect(error.message).toContain(`Redis ${version}`);
      expect(error.retryable).toBe(false);
    }
    expect(await connect({}, admin).dbsize()).toBe(0);
  },
);

test('Redis 7.0 is used', async () => {
  const { url } = await serverThatSays('7.0.0');
  expect(await makeDedup({}, connect({}, url)).once('k', () => 1)).toBe(1);
});

test('a server that was upgraded is used from the next connection on', async () => {
  const { url, admin, says } = await serverThatSays('6.2.1');
  const redis = connect({ retryStrategy: () => 1 }, url);
  const dedup = makeDedup({}, redis);
  await expectCode(
    dedup.once('k', () => 1),
    'UNSAFE_SERVER',
  );
  delete says.version;
  const closed = new Promise((resolve) => redis.once('close', resolve));
  await connect({}, admin).call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await closed;
  expect(await dedup.once('k', () => 1)).toBe(1);
});

test('check() calls it a danger, and says what is needed', async () => {
  const { url } = await serverThatSays('6.2.1');
  const { ok, server, checks } = await makeDedup({}, connect({}, url)).check();
  expect(ok).toBe(false);
  expect(server).toMatch(/^Redis 6[.]2[.]1/);
  expect(checks.find(({ name }) => name === 'version')).toMatchObject({
    level: 'danger',
    detail: server,
    fix: 'Use Redis 7.0 or later, or Valkey',
  });
});
