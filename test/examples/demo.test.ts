/** The demo, on some of its webhooks: it ends with an error where redis-once is not exact. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, inject, test } from 'vitest';

const PROJECT = join(import.meta.dirname, '..', '..');
const TIME_LIMIT_MS = 120_000;

test.concurrent.each([[[]], [['--bullmq']], [['--streams']]])(
  'the demo is exact, and counts its kills, with %j',
  async (flags) => {
    const args = ['--import', 'tsx', 'examples/webhooks/main.ts', '--seed', '1', '--webhooks', '100', ...flags];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      cwd: PROJECT,
      env: { ...process.env, TEST_REDIS_URL: inject('redisUrl') },
    });
    expect(stdout).toMatch(/^100 webhooks in \d+ deliveries/m);
    expect(stdout).toMatch(/workers killed in mid-handler +│ +│ +[1-9]\d* │ +[1-9]\d* │/);
    expect(stdout).toMatch(/^redis-once is exact\./m);
  },
  TIME_LIMIT_MS,
);
