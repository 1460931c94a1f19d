/** `createTestDedup`: tests meet no other test, and leave nothing; the Redis comes from where it may, and ends with its process. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { beforeEach, describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { json } from '../../../src/index.js';
import { createTestDedup } from '../../../src/testing/index.js';
import { connect, expectCode, ownServer, until } from '../../support/index.js';
import { debianBinary } from '../../support/redis/debian.js';

beforeEach(() => {
  vi.stubEnv('TEST_REDIS_URL', inject('redisUrl'));
  return () => {
    vi.unstubAllEnvs();
  };
});

async function testDedup(...args: Parameters<typeof createTestDedup>) {
  const made = await createTestDedup(...args);
  onTestFinished(() => made.close());
  return made;
}

test('`close` ends where the server has gone', async () => {
  const server = await ownServer();
  vi.stubEnv('TEST_REDIS_URL', server.url);
  const { redis, close } = await createTestDedup();
  await server.stop();
  await until(() => redis.status === 'reconnecting');
  await close();
  await until(() => redis.status !== 'ready');
});

describe('two of them', () => {
  test('share no record and no data, whatever names a test uses', async () => {
    const [one, two] = [await testDedup(), await testDedup()];
    for (const { dedup, redis } of [one, two]) {
      const { status } = await dedup.run('order', ({ tx }) => void tx.incrby('balance:42', 5));
      expect(status).toBe('executed');
      expect(await redis.get('balance:42')).toBe('5');
    }
  });

  test('share no record either where both take the namespace of the code under test', async () => {
    for (const { dedup } of [await testDedup({ namespace: 'orders' }), await testDedup({ namespace: 'orders' })]) {
      expect((await dedup.run('order', () => 1)).status).toBe('executed');
      expect((await dedup.inspect('order'))?.redisKey).toBe('orders:order');
    }
  });
});

test('`close` removes all keys of the test, records of any slot and data, and no others', async () => {
  const plain = connect();
  const [one, other] = [await testDedup(), await testDedup()];
  for (const { dedup, redis } of [one, other]) {
    await dedup.once('k', ({ tx }) => void tx.incr('n'));
    await dedup.once('k', () => 1, { slot: 'account' });
    await redis.set('mine', 'x');
    await redis.set(Buffer.from([0xff, 0x00]), 'x');
  }
  expect(await plain.keys(`${one.keyPrefix}*`)).toHaveLength(5);
  await one.close();
  expect(await plain.keys(`${one.keyPrefix}*`)).toEqual([]);
  expect(await plain.keys(`${other.keyPrefix}*`)).toHaveLength(5);
  expect(one.redis.status).toBe('end');
  await expectCode(
    one.dedup.once('k', () => 1),
    'CLOSED',
  );
  await one.close();
});

test('takes the options of a Dedup, and refuses wrong ones without leaving a connection', async () => {
  const { dedup } = await testDedup({ codec: json, maxResultBytes: 5 });
  await expectCode(
    dedup.once('k', () => 'too long'),
    'RESULT_TOO_LARGE',
  );
  await expectCode(createTestDedup({ lease: -1 }), 'INVALID_OPTION');
});

test('`await using` closes it', async () => {
  const plain = connect();
  let prefix: string;
  {
    await using made = await createTestDedup();
    prefix = made.keyPrefix;
    await made.dedup.once('k', () => 1);
    expect(await plain.keys(`${prefix}*`)).toHaveLength(1);
  }
  expect(await plain.keys(`${prefix}*`)).toEqual([]);
});

describe('the Redis', () => {
  test('that TEST_REDIS_URL names is used; one that is not reached is told, without its password', async () => {
    expect((await testDedup()).url).toBe(inject('redisUrl'));
    vi.stubEnv('TEST_REDIS_URL', 'redis://user:hunter2@127.0.0.1:1');
    const error = (await createTestDedup().catch((error: unknown) => error)) as Error;
    expect(error.message).toMatch(/^The Redis for tests was not reached/);
    expect(String(error.cause)).toMatch(/ECONNREFUSED/);
    expect(`${error.message}${error.cause}`).not.toMatch(/hunter2/);
  });

  test('that is found nowhere is told in a sentence that says what to do', async () => {
    const { error } = await child({ PATH: await pathWithout(), DOCKER_HOST: 'tcp://127.0.0.1:1' }).next<{
      error: string;
    }>();
    expect(error).toMatch(/^Error: No Redis for tests: put redis-server or valkey-server on the PATH, /);
  });

  test.each([
    ['ends by itself, its Dedup closed', { closes: true }, (kill: (signal: NodeJS.Signals) => void) => void kill],
    ['ends by itself, its Dedup left open', { closes: false }, (kill: (signal: NodeJS.Signals) => void) => void kill],
    ['is killed', { closes: false }, (kill: (signal: NodeJS.Signals) => void) => kill('SIGKILL')],
  ])('that is started from the PATH ends when its process %s, and its folder with it', async (_, args, end) => {
    const worker = child({ PATH: await pathWith() }, args);
    const { url, value, folder } = await worker.next<{ url: string; value: string; folder: string }>();
    expect([value, await answers(url), existsSync(folder)]).toEqual(['value', true, true]);
    end(worker.kill);
    worker.tell();
    await worker.exited;
    await until(async () => !(await answers(url)));
    await until(() => !existsSync(folder));
  });
});

/** A process of its own, which has no TEST_REDIS_URL. */
function child(env: NodeJS.ProcessEnv, args: object = {}) {
  const { TEST_REDIS_URL: _, ...rest } = process.env;
  const worker = fork(new URL('../../support/workers/test-dedup.ts', import.meta.url), [JSON.stringify(args)], {
    execArgv: ['--import', 'tsx'],
    env: { ...rest, ...env },
  });
  onTestFinished(() => {
    worker.kill('SIGKILL');
  });
  return {
    next: async <T>() => (await once(worker, 'message'))[0] as T,
    tell: () => worker.connected && worker.send('end', () => {}),
    kill: (signal: NodeJS.Signals) => worker.kill(signal),
    exited: once(worker, 'exit'),
  };
}

/** A folder of commands: those that a server's guard needs. */
async function commands(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'redis-once-path-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const name of ['sh', 'rm']) {
    const from = ['/bin', '/usr/bin'].map((bin) => join(bin, name)).find((path) => existsSync(path));
    await symlink(from as string, join(folder, name));
  }
  return folder;
}

/** A PATH without a server. */
function pathWithout(): Promise<string> {
  return commands();
}

/** A PATH with a server: the one of tests, where the machine has none. */
async function pathWith(): Promise<string> {
  const binary = await debianBinary();
  if (!binary) return process.env.PATH ?? '';
  const folder = await commands();
  const { command, args = [], env = {} } = binary;
  const words = [command, ...args].map((word) => `'${word}'`).join(' ');
  const file = join(folder, 'redis-server');
  await writeFile(file, `#!/bin/sh\nLD_LIBRARY_PATH='${env.LD_LIBRARY_PATH ?? ''}' exec ${words} "$@"\n`);
  await chmod(file, 0o755);
  return [folder, process.env.PATH].join(delimiter);
}

/** Does a server listen there? */
function answers(url: string): Promise<boolean> {
  const { port, hostname } = new URL(url);
  const socket = createConnection(Number(port), hostname);
  const connected = once(socket, 'connect').then(
    () => true,
    () => false,
  );
  return connected.finally(() => socket.destroy());
}
