/** The bin as a process of its own: pipes, signals, exit codes, and what keeps it from ending. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, inject, onTestFinished, test } from 'vitest';
import { connect, freshNamespace, makeDedup, ownServer } from '../support/index.js';
import { FaultProxy } from '../support/proxy.js';

const BIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

function start(argv: readonly string[], env: NodeJS.ProcessEnv) {
  const { FORCE_COLOR: _, ...own } = process.env;
  const child = spawn(process.execPath, ['--import', 'tsx', BIN, ...argv], {
    env: { ...own, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ran = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    ran.stdout += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    ran.stderr += String(chunk);
  });
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, ...ran }));
  return { child, ended };
}

/** So many failed records. */
async function failures(url: string, records: number): Promise<string> {
  const [redis, namespace] = [connect({}, url), freshNamespace()];
  const dedup = makeDedup({ namespace }, redis);
  await dedup.once('k-0', () => Promise.reject(new Error()), { onError: 'store' }).catch(() => {});
  const bytes = (await redis.getBuffer(`${namespace}:k-0`)) as Buffer;
  const pipeline = redis.pipeline();
  for (let at = 1; at < records; at += 1) pipeline.set(`${namespace}:k-${at}`, bytes, 'PX', 600_000);
  await pipeline.exec();
  return namespace;
}

test('ends by itself, with plain text in a pipe and the exit code of what it found', async () => {
  const env = { REDIS_URL: inject('redisUrl') };
  const namespace = await failures(inject('redisUrl'), 3);
  const [listed, missing, wrong] = await Promise.all(
    [
      ['list', '--namespace', namespace],
      ['inspect', 'none', '--namespace', namespace],
      ['list', '--url', 'redis://127.0.0.1:1'],
    ].map((argv) => start(argv, env).ended),
  );
  expect(listed).toMatchObject({ code: 0, stderr: '' });
  expect(listed?.stdout).toMatch(/^STATE .*\n(failed .*\n){3}\n3 records .*\n$/);
  expect(missing).toMatchObject({ code: 1, stderr: '' });
  expect(wrong).toMatchObject({ code: 2, stdout: '' });
});

test('is quiet when its reader has seen enough', async () => {
  const namespace = await failures(inject('redisUrl'), 2_000);
  const { child, ended } = start(['list', '--limit', '2000', '--namespace', namespace], {
    REDIS_URL: inject('redisUrl'),
  });
  child.stdout.destroy();
  expect(await ended).toMatchObject({ code: 0, stderr: '' });
});

test('at Ctrl-C, list shows what it has and ends with 130', async () => {
  const server = await ownServer();
  const namespace = await failures(server.url, 5_000);
  const proxy = await FaultProxy.start(server.port);
  onTestFinished(() => proxy.stop());
  let interrupt = () => {};
  proxy.fate = ({ script }) => {
    if (script !== 'inspect') return 'pass';
    interrupt();
    return { delayMs: 50 };
  };
  const { child, ended } = start(['list', '--namespace', namespace], { REDIS_URL: proxy.url });
  interrupt = () => {
    // A second one would end it at once.
    interrupt = () => {};
    child.kill('SIGINT');
  };
  const { code, stdout } = await ended;
  expect(code).toBe(130);
  expect(stdout).toMatch(/\nInterrupted: not all keys were looked at\.\n$/);
});
