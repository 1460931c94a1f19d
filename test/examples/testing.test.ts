/** The examples of the test kit, as their users have them: a folder of theirs, the built package, their runner's own process. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

const PROJECT = join(import.meta.dirname, '..', '..');
const MODULES = join(PROJECT, 'node_modules');
/** What the examples, and the package itself, find beside it. */
const BESIDE = ['ioredis', 'canonicalize', 'cluster-key-slot', 'vitest', 'jest'];
const TIME_LIMIT_MS = 60_000;

interface Runner {
  /** A file in a folder of its own. */
  readonly example: string;
  /** For node. */
  readonly command: readonly string[];
  /** What it says of five tests that are as they should be, and where one of them is not. */
  readonly green: RegExp;
  readonly red: RegExp;
}

const RUNNERS: readonly Runner[] = [
  {
    example: 'examples/testing/vitest/payments.test.ts',
    command: [join(MODULES, 'vitest/vitest.mjs'), 'run', '--root', '.'],
    green: /Tests {2}4 passed [|] 1 expected fail/,
    red: /Tests {2}1 failed [|] 3 passed [|] 1 expected fail/,
  },
  {
    example: 'examples/testing/jest/payments.test.cjs',
    command: [join(MODULES, 'jest/bin/jest.js'), '--rootDir', '.'],
    green: /^Tests: +5 passed, 5 total$/m,
    red: /^Tests: +1 failed, 4 passed, 5 total$/m,
  },
  {
    example: 'examples/testing/node-test/payments.test.mjs',
    command: ['--test', '--test-reporter', 'tap'],
    green: /^# pass 5\n# fail 0$/m,
    red: /^# pass 4\n# fail 1$/m,
  },
];

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'redis-once-examples-'));
  await cp(join(PROJECT, 'examples/testing'), folder, { recursive: true });
  await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }');
  for (const runner of RUNNERS) await writeFile(join(folderOf(runner), 'package.json'), '{ "type": "module" }');
  const own = join(folder, 'node_modules/redis-once');
  await mkdir(own, { recursive: true });
  for (const name of BESIDE) await symlink(join(MODULES, name), join(folder, 'node_modules', name), 'junction');
  await cp(join(PROJECT, 'package.json'), join(own, 'package.json'));
  const build = [join(MODULES, 'tsup/dist/cli-default.js'), '--silent', '--no-dts', '--out-dir', join(own, 'dist')];
  await promisify(execFile)(process.execPath, build, { cwd: PROJECT });
}, TIME_LIMIT_MS);

afterAll(() => rm(folder, { recursive: true, force: true }));

interface Run {
  readonly code: number;
  readonly output: string;
}

/** Where a runner's example is, in the user's folder. */
function folderOf({ example }: Runner): string {
  return join(folder, relative('examples/testing', dirname(example)));
}

async function run(runner: Runner): Promise<Run> {
  // Of the runner around it, a runner must not know.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(VITEST|NODE_TEST|JEST|TEST$)/.test(key)),
  );
  const options = { cwd: folderOf(runner), env: { ...env, NO_COLOR: '1', TEST_REDIS_URL: inject('redisUrl') } };
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, runner.command, {
      ...options,
      timeout: TIME_LIMIT_MS,
    });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, output: stdout + stderr };
  }
}

describe.each(RUNNERS)('of $example', (runner) => {
  test(
    'the safe handler passes, and the unsafe one is caught',
    async () => {
      const { code, output } = await run(runner);
      expect(output).toMatch(runner.green);
      expect(code, output).toBe(0);
    },
    TIME_LIMIT_MS,
  );

  test(
    'the test of a handler turns red when the handler is made unsafe, where the process dies before the commit',
    async () => {
      const file = join(folderOf(runner), basename(runner.example));
      const text = await readFile(file, 'utf8');
      const unsafe = text.replace('({ tx }) => {\n    tx.hincrby', 'async () => {\n    await on.redis.hincrby');
      expect(unsafe).not.toBe(text);
      await writeFile(file, unsafe);
      const { code, output } = await run(runner);
      await writeFile(file, text);
      expect(code, output).toBe(1);
      expect(output).toMatch(/is made once: crashBeforeCommit/);
      expect(output).toMatch(/1002/);
      expect(output).toMatch(runner.red);
    },
    TIME_LIMIT_MS,
  );
});
