/** A wrong URL, a refused login, no server, none of Redis: one sentence, exit code 2, and no password. */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { readTarget } from '../../src/cli/target.js';
import { freePort } from '../../src/testing/server.js';
import { runCli } from '../support/cli.js';
import { connect, freshNamespace, ownRedis } from '../support/index.js';

const SECRET = 'S3cret-word';

/** The sentence by which a command fails. */
async function failure(argv: readonly string[], env: NodeJS.ProcessEnv = {}, load?: () => Promise<never>) {
  const { code, stdout, stderr } = await runCli(['list', ...argv], { env, load });
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^error: .*[.?]\n$/);
  expect(stderr).not.toContain(SECRET);
  return stderr.slice('error: '.length, -1);
}

async function listening(server: Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

describe('a URL', () => {
  test.each([
    ['127.0.0.1:6379', /it is no URL|begins with neither/],
    ['localhost:6379', /begins with neither/],
    [`http://app:${SECRET}@127.0.0.1/`, /begins with neither/],
    [`redis://app:${SECRET}/x@127.0.0.1/`, /is no URL|is not the number/],
    [`redis://app:${SECRET}#x@127.0.0.1/`, /is no URL|%23/],
    [`redis://app:${SECRET}%@127.0.0.1/`, /%25/],
    ['redis://127.0.0.1/first', /not the number of a database/],
    ['redis://127.0.0.1:99999', /is no URL/],
    ['redis://', /names no host/],
    [`redis://127.0.0.1/?password=${SECRET}`, /%3F/],
  ])('%s is refused by what is wrong with it, and not repeated', async (url, why) => {
    expect(await failure(['--url', url])).toMatch(why);
    expect(await failure([], { REDIS_URL: url })).toMatch(/^REDIS_URL is not such as redis:/);
  });

  test('is the option’s, else that of the environment, else the local server', () => {
    const env = { REDIS_URL: 'rediss://env:6380/2', REDISCLI_AUTH: SECRET };
    expect(readTarget('redis://u%40:p%23@[::1]/', env)).toEqual({
      host: '::1',
      port: 6379,
      username: 'u@',
      password: 'p#',
      db: 0,
      tls: false,
    });
    expect(readTarget(undefined, env)).toMatchObject({ host: 'env', port: 6380, password: SECRET, db: 2, tls: true });
    expect(readTarget(undefined, {})).toMatchObject({ host: '127.0.0.1', port: 6379, password: undefined });
  });
});

describe('a server', () => {
  test('that is not there is named', async () => {
    const port = await freePort();
    const told = await failure(['--url', `redis://app:${SECRET}@127.0.0.1:${port}`]);
    expect(told).toBe(`No server listens at 127.0.0.1:${port} (ECONNREFUSED).`);
    expect(await failure(['--url', `redis://127.0.0.1:${port}`, '--cluster'])).toMatch(/^No server listens at/);
  });

  test('whose name nobody knows is named', async () => {
    expect(await failure(['--url', 'redis://no-such-host.invalid'])).toMatch(
      /^There is no host of the name no-such-host\.invalid/,
    );
  });

  test('that does not answer is given up', async () => {
    const place = await listening(createServer());
    const told = await failure(['--url', `redis://${place}`, '--timeout', '200ms']);
    expect(told).toBe(`${place} did not answer in time (--timeout).`);
  });

  test('that is none of Redis is told so', async () => {
    const place = await listening(createHttpServer((_, response) => response.end()));
    expect(await failure(['--url', `redis://${place}`])).toBe(`What answers at ${place} does not speak as Redis does.`);
  });

  test('that closes the connection is told so', async () => {
    const place = await listening(createServer((socket) => socket.end()));
    expect(await failure(['--url', `redis://${place}`])).toMatch(/closed the connection without an answer/);
  });

  test('without TLS is told so where TLS is wanted', async () => {
    const url = inject('redisUrl').replace('redis:', 'rediss:');
    expect(await failure(['--url', url, '--timeout', '300ms'])).toMatch(/ did not answer by TLS in time /);
  });

  test('that wants a login, and that refuses one, say so', async () => {
    const url = await ownRedis(['--requirepass', SECRET]);
    expect(await failure(['--url', url])).toMatch(/ wants a login/);
    expect(await failure(['--url', url.replace('//', '//:wrong@')])).toMatch(/ refused the login/);
    expect(await failure(['--url', url.replace('//', `//nobody:${SECRET}@`)])).toMatch(/ refused the login/);
    const env = { REDIS_URL: url, REDISCLI_AUTH: SECRET };
    expect((await runCli(['list', '--namespace', freshNamespace()], { env })).code).toBe(0);
  });

  test('without such a database says so, and no other is looked at', async () => {
    expect(await failure(['--url', `${inject('redisUrl')}/9999`])).toMatch(/answered: .*DB index is out of range/);
  });

  test('that is no node of a Cluster says so', async () => {
    expect(await failure(['--cluster'], { REDIS_URL: inject('redisUrl') })).toMatch(/leave --cluster away/);
  });
});

test('a user who may not SCAN is told so', async () => {
  const url = await ownRedis();
  await connect({}, url).call('ACL', 'SETUSER', 'app', 'on', '>x', '~*', '&*', '+@all', '-scan', '-dbsize');
  const told = await failure([], { REDIS_URL: url.replace('//', '//app:x@') });
  expect(told).toBe('The Redis user lacks a permission (`ACL LOG` on the server names it): SCAN was not answered.');
});

test('without ioredis, what is missing is said', async () => {
  const missing = () => Promise.reject(Object.assign(new Error('Cannot find'), { code: 'ERR_MODULE_NOT_FOUND' }));
  expect(await failure([], {}, missing)).toBe('ioredis is not installed beside redis-once: npm install ioredis.');
});

test('with --json the failure is a document on stdout as well', async () => {
  const { code, stdout, stderr } = await runCli(['list', '--json', '--url', 'nothing']);
  expect(code).toBe(2);
  const { error } = JSON.parse(stdout);
  expect(error.code).toBe('USAGE');
  expect(stderr).toBe(`error: ${error.message}\n`);
});
