/** The program that the documentation begins with, run as its readers run it. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { ownRedis } from '../support/index.js';

const PROJECT = join(import.meta.dirname, '..', '..');

test('the first program prints what its page says that it prints, the first time and the second', async () => {
  const url = await ownRedis();
  const page = readFileSync(join(PROJECT, 'docs/start.md'), 'utf8');
  const told = [...page.matchAll(/^```text\n([\s\S]*?)^```$/gm)].map(([, text]) => text);
  expect(told).toHaveLength(2);
  for (const text of told) {
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', 'examples/start.ts'], {
      cwd: PROJECT,
      env: { ...process.env, REDIS_URL: url },
    });
    expect(stdout).toBe(text);
  }
});
