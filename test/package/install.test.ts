/** The package as its users get it: packed, installed beside ioredis 5 and 6, imported, required and compiled against. */
import { execFile } from 'node:child_process';
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, extname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { freshNamespace } from '../support/index.js';

const PROJECT = join(import.meta.dirname, '..', '..');
const FIXTURES = join(import.meta.dirname, 'fixtures');
const TIME_LIMIT_MS = 600_000;
const TYPESCRIPT = ['typescript@5.9.3', '@types/node@20'];
/** By `TEST_TYPESCRIPT=all` (`npm run test:package:types`) every minor version, else the oldest and the newest. */
const TYPESCRIPTS =
  process.env.TEST_TYPESCRIPT === 'all' ? ['5.4', '5.5', '5.6', '5.7', '5.8', '6', '7'] : ['5.4', '7'];
/** What an entry point says that cannot do without its peer, where that is not installed. */
const NEEDS_PEER: Readonly<Record<string, string>> = {
  'redis-once/bullmq': 'bullmq',
  'redis-once/otel': '@opentelemetry/api',
};
const ENTRIES = Object.keys(manifest.exports).flatMap((name) =>
  name === './package.json' ? [] : [name === '.' ? 'index' : name.slice(2)],
);
/** The least that `peerDependencies` takes. */
const OLDEST_API = manifest.peerDependencies['@opentelemetry/api'].replace('^', '');
const NPM_FLAGS = ['--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'];
/** Not part of what is packed from: what the build makes anew, and what other tests write to meanwhile. */
const LEFT_BEHIND =
  /^(node_modules|docs|\.git|dist|coverage|reports|test|\.stryker-tmp|tsconfig\.vitest-temp.*|.*\.tgz)$/;

let workshop: string;
let tarball: string;

beforeAll(async () => {
  workshop = await mkdtemp(join(tmpdir(), 'redis-once-package-'));
  tarball = await pack(workshop);
  const frameworks = ['ioredis@6', 'express@5', '@types/express@5', 'fastify@5', 'hono@4'];
  await Promise.all([
    install(httpFolder(), join(FIXTURES, 'http'), ...frameworks),
    install(otelFolder(), join(FIXTURES, 'otel'), 'ioredis@6', `@opentelemetry/api@${OLDEST_API}`),
    ...['5', '6'].flatMap((version) => [
      install(userFolder(version), FIXTURES, `ioredis@${version}`),
      install(bullmqFolder(version), join(FIXTURES, 'bullmq'), `ioredis@${version}`, `bullmq@${version}`),
    ]),
    install(
      typesFolder(),
      FIXTURES,
      'ioredis@6',
      ...TYPESCRIPTS.map((each) => `typescript-${each}@npm:typescript@${each}`),
    ),
  ]);
}, TIME_LIMIT_MS);

afterAll(() => rm(workshop, { recursive: true, force: true }));

test('the tarball holds the build, the papers and the manifest, and nothing else', async () => {
  const files = (await run(workshop, 'tar', '-tzf', tarball)).trim().split('\n').sort();
  const papers = (await readdir(PROJECT)).filter((name) => /^(README\.md|LICENSE|CHANGELOG\.md)$/.test(name));
  const build = ENTRIES.flatMap((entry) => ['cjs', 'd.cts', 'd.ts', 'js'].map((ending) => `dist/${entry}.${ending}`));
  const bin = ['dist/cli.cjs', 'dist/cli.licenses.txt'];
  expect(files).toEqual(
    expect.arrayContaining([...papers, ...build, ...bin, 'package.json'].map((name) => `package/${name}`)),
  );
  expect(
    files.filter(
      (file) => !/^package\/(dist\/(.+\.(js|cjs|d\.ts|d\.cts)|cli\.licenses\.txt)|package\.json)$/.test(file),
    ),
    'only README.md, LICENSE and CHANGELOG.md belong beside dist and package.json',
  ).toEqual(papers.map((name) => `package/${name}`).sort());
});

describe.each(['5', '6'])('beside ioredis %s', (version) => {
  test('that very version is installed, and no copy of it within the package', async () => {
    const manifest = await readFile(join(userFolder(version), 'node_modules/ioredis/package.json'), 'utf8');
    expect(JSON.parse(manifest)).toMatchObject({ version: expect.stringMatching(`^${version}[.]`) });
    expect(await readdir(join(userFolder(version), 'node_modules/redis-once'))).not.toContain('node_modules');
  });

  test.each(['use.mjs', 'use.cjs'])(
    'a call by %s runs once, its copy is replayed, and the process ends',
    async (program) => {
      const told = await run(userFolder(version), process.execPath, program, inject('redisUrl'), freshNamespace());
      expect(JSON.parse(told)).toEqual({
        runs: 1,
        outcomes: [
          { status: 'executed', value: { cents: 1999 } },
          { status: 'replayed', value: { cents: 1999 } },
        ],
      });
    },
    TIME_LIMIT_MS,
  );

  test.each(['streams.mjs', 'streams.cjs'])(
    'a stream consumer by %s handles an entry once, and the process ends when it has stopped',
    async (program) => {
      const told = await run(userFolder(version), process.execPath, program, inject('redisUrl'), freshNamespace());
      expect(JSON.parse(told)).toEqual({ status: 'executed', fields: { order: 'o' }, total: '1', pending: 0 });
    },
    TIME_LIMIT_MS,
  );

  test(
    'its bin runs by npx, and holds what it needs but for ioredis',
    async () => {
      const folder = userFolder(version);
      const words = ['redis-once', 'list', '--json', '--namespace', freshNamespace()];
      const told = await run(folder, 'env', `REDIS_URL=${inject('redisUrl')}`, 'npx', '--no', ...words);
      expect(JSON.parse(told)).toMatchObject({ looked: 0, complete: true, records: [] });
      const licences = await readFile(join(folder, 'node_modules/redis-once/dist/cli.licenses.txt'), 'utf8');
      const named = [...licences.matchAll(/^([\w@/-]+) \d+\.\d+\.\d+$/gm)].map(([, name]) => name);
      expect(named).toEqual(
        expect.arrayContaining(['commander', 'cli-table3', 'cli-progress', 'picocolors', 'string-width']),
      );
    },
    TIME_LIMIT_MS,
  );

  test.each(['kits.mjs', 'kits.cjs'])(
    'codecs and test kit load by %s without the libraries that they may be given, and the process ends',
    async (program) => {
      const told = await runWith(
        { TEST_REDIS_URL: inject('redisUrl') },
        userFolder(version),
        process.execPath,
        program,
      );
      expect(JSON.parse(told)).toEqual({ stored: 'secret', attempts: [1, 2], total: '1', wrong: 'INVALID_OPTION' });
    },
    TIME_LIMIT_MS,
  );

  test.concurrent.each([
    { resolution: 'nodenext', files: ['.mts', '.cts'] },
    { resolution: 'bundler', files: ['.ts'] },
  ])(
    'a strict program compiles under $resolution, the declarations it reads checked as well',
    async ({ resolution, files }) => {
      const folder = userFolder(version);
      const tsc = join(folder, 'node_modules/typescript/bin/tsc');
      const told = await run(folder, process.execPath, tsc, '-p', `tsconfig.${resolution}.json`, '--listFiles');
      const read = told.split('\n').map((file) => relative(folder, file));
      const programs = version === '5' ? ['program'] : ['program', 'resp3'];
      expect(read).toEqual(expect.arrayContaining(programs.flatMap((name) => files.map((end) => name + end))));
      const declarations = files.map((end) => `node_modules/redis-once/dist/index.d.${end === '.cts' ? 'cts' : 'ts'}`);
      expect(read).toEqual(expect.arrayContaining(declarations));
      // What it shares with other entries, and nothing of theirs: their peers may be absent.
      expect(read.filter((file) => /redis-once\/dist\/(?!index|dedup-|codec-)/.test(file))).toEqual([]);
    },
    TIME_LIMIT_MS,
  );
});

test('without ioredis the bin says that it is missing, exit code 2', async () => {
  const folder = join(workshop, 'without-ioredis');
  for (const name of ['redis-once', 'canonicalize', 'cluster-key-slot']) {
    await cp(join(userFolder('6'), 'node_modules', name), join(folder, 'node_modules', name), { recursive: true });
  }
  const bin = run(folder, process.execPath, 'node_modules/redis-once/dist/cli.cjs', 'list');
  await expect(bin).rejects.toThrow(/ioredis is not installed beside redis-once/);
});

test('without the optional peers every entry point loads, but for those that cannot: they say which is missing', async () => {
  const told = JSON.parse(await run(userFolder('6'), process.execPath, 'entries.mjs')) as Record<string, string[]>;
  const { exports } = JSON.parse(await readFile(join(PROJECT, 'package.json'), 'utf8')) as { exports: object };
  expect(Object.keys(told)).toEqual(
    Object.keys(exports).flatMap((name) => (name === './package.json' ? [] : [join('redis-once', name)])),
  );
  for (const [entry, ways] of Object.entries(told)) {
    const peer = NEEDS_PEER[entry];
    const said = peer ? expect.stringMatching(`^Cannot find (package|module) '${peer}'`) : 'loads';
    expect(ways, entry).toEqual([said, said]);
  }
});

describe.each(TYPESCRIPTS)('under TypeScript %s', (version) => {
  test.concurrent.each(['nodenext', 'bundler'])(
    'a strict program compiles under %s, the declarations it reads checked as well',
    async (resolution) => {
      const tsc = join(typesFolder(), `node_modules/typescript-${version}/bin/tsc`);
      const told = await run(typesFolder(), process.execPath, tsc, '--version');
      expect(told).toMatch(`Version ${version}.`);
      await run(typesFolder(), process.execPath, tsc, '-p', `tsconfig.${resolution}.json`);
    },
    TIME_LIMIT_MS,
  );
});

describe.each(['5', '6'])('beside BullMQ %s', (version) => {
  test(
    'two jobs of one key run once, both return its value, and the process ends',
    async () => {
      const told = await run(bullmqFolder(version), process.execPath, 'use.mjs', inject('redisUrl'), freshNamespace());
      expect(JSON.parse(told)).toEqual({ runs: 1, values: [{ order: 'o' }, { order: 'o' }], count: '1' });
    },
    TIME_LIMIT_MS,
  );

  test(
    'by require, errors are of the BullMQ and the redis-once that the program has',
    async () => {
      const told = await run(bullmqFolder(version), process.execPath, 'use.cjs', inject('redisUrl'), freshNamespace());
      expect(JSON.parse(told)).toEqual({ own: 'fails', stored: 'fails', unrecoverable: true, cause: true });
    },
    TIME_LIMIT_MS,
  );

  test.concurrent.each(['nodenext'])(
    'a strict program compiles under %s',
    async (resolution) => {
      const tsc = join(bullmqFolder(version), 'node_modules/typescript/bin/tsc');
      await run(bullmqFolder(version), process.execPath, tsc, '-p', `tsconfig.${resolution}.json`);
    },
    TIME_LIMIT_MS,
  );
});

describe('beside web frameworks', () => {
  test.each(['use.mjs', 'use.cjs'])(
    'a Fetch handler by %s answers a copy from its record, and the process ends',
    async (program) => {
      const told = await run(httpFolder(), process.execPath, program, inject('redisUrl'), freshNamespace());
      expect(JSON.parse(told)).toEqual({
        runs: 1,
        replayed: [null, 'true'],
        entries: ['function', 'function', 'function'],
      });
    },
  );

  // Express and Fastify have their requests declared to have a context: of one module format at a time.
  test.concurrent.each(['import', 'require'])(
    'a strict program compiles under %s',
    async (resolution) => {
      const tsc = join(httpFolder(), 'node_modules/typescript/bin/tsc');
      await run(httpFolder(), process.execPath, tsc, '-p', `tsconfig.${resolution}.json`);
    },
    TIME_LIMIT_MS,
  );
});

describe('beside the oldest OpenTelemetry API', () => {
  test('by import, a call makes a span of the global provider, under the version of the package', async () => {
    const namespace = freshNamespace();
    const told = await run(otelFolder(), process.execPath, 'use.mjs', inject('redisUrl'), namespace);
    expect(JSON.parse(told)).toEqual([[`redis-once ${manifest.version} once ${namespace}`, 'executed', true]]);
  });

  test('by require, a call is counted by the meter that is given', async () => {
    const told = await run(otelFolder(), process.execPath, 'use.cjs', inject('redisUrl'), freshNamespace());
    expect(JSON.parse(told)).toEqual([['redis_once.calls', 1, 'executed']]);
  });

  test(
    'a strict program compiles',
    async () => {
      const tsc = join(otelFolder(), 'node_modules/typescript/bin/tsc');
      await run(otelFolder(), process.execPath, tsc, '-p', 'tsconfig.nodenext.json');
    },
    TIME_LIMIT_MS,
  );

  test('where it is missing, `redis-once/otel` says so by its name', async () => {
    const program = "import('redis-once/otel').catch(({ code, message }) => console.log(code, message))";
    const told = await run(userFolder('6'), process.execPath, '--input-type=module', '-e', program);
    expect(told).toMatch(/^ERR_MODULE_NOT_FOUND .*'@opentelemetry\/api'/);
  });
});

describe('errors across the two module formats, in one process', () => {
  interface Verdict {
    code: string;
    ownPrototype: boolean;
    foreign: boolean;
    instanceOf: string[];
    isDedupError: boolean;
    ofCodes: string[];
  }
  type Formats<T> = Record<'esm' | 'cjs', T>;
  let seen: { thrown: Formats<Verdict>; made: Formats<Record<string, Verdict>>; strangers: boolean[] };

  beforeAll(async () => {
    seen = JSON.parse(await run(userFolder('6'), process.execPath, 'errors.mjs'));
  }, TIME_LIMIT_MS);

  test.each(['esm', 'cjs'] as const)('what the %s build throws is an instance of the other build’s class', (format) => {
    expect(seen.thrown[format]).toEqual({
      code: 'INVALID_KEY',
      ownPrototype: true,
      foreign: true,
      instanceOf: ['DedupError', 'InvalidKeyError'],
      isDedupError: true,
      ofCodes: ['INVALID_KEY'],
    });
  });

  test.each(['esm', 'cjs'] as const)('every error of the %s build is one of its own class and code alone', (format) => {
    const made = Object.entries(seen.made[format]);
    expect(made.length).toBeGreaterThan(10);
    for (const [name, verdict] of made) {
      expect(verdict, name).toEqual({
        code: verdict.code,
        ownPrototype: true,
        foreign: true,
        instanceOf: ['DedupError', name].sort(),
        isDedupError: true,
        ofCodes: [verdict.code],
      });
    }
    expect(new Set(made.map(([, { code }]) => code)).size).toBe(made.length);
  });

  test('other errors are instances of neither, not even with a code of the library', () => {
    expect(seen.strangers).toEqual([false, false, false, false]);
  });
});

/** Packs a copy of the project that has never been built, so that what `prepack` makes is what is in it. */
async function pack(folder: string): Promise<string> {
  const copy = join(folder, 'project');
  await cp(PROJECT, copy, {
    recursive: true,
    filter: (from) => dirname(from) !== PROJECT || !LEFT_BEHIND.test(basename(from)),
  });
  await symlink(join(PROJECT, 'node_modules'), join(copy, 'node_modules'), 'junction');
  await run(copy, 'npm', 'pack', '--ignore-scripts=false', '--pack-destination', folder);
  const [name, ...others] = (await readdir(folder)).filter((file) => extname(file) === '.tgz');
  if (name === undefined || others.length > 0) throw new Error(`Expected one tarball in ${folder}`);
  return join(folder, name);
}

/** An empty folder of a user's, with the package, those beside it, and the fixtures in it. */
async function install(folder: string, fixtures: string, ...packages: string[]): Promise<void> {
  await mkdir(folder);
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true }));
  await run(folder, 'npm', 'install', ...NPM_FLAGS, tarball, ...packages, ...TYPESCRIPT);
  for (const fixture of await readdir(fixtures)) {
    if (extname(fixture) === '' || (fixture === 'resp3.ts' && packages.includes('ioredis@5'))) continue;
    const ends = extname(fixture) === '.ts' ? ['.ts', '.mts', '.cts'] : [extname(fixture)];
    for (const end of ends)
      await copyFile(join(fixtures, fixture), join(folder, basename(fixture, extname(fixture)) + end));
  }
}

function typesFolder(): string {
  return join(workshop, 'user-of-typescripts');
}

function httpFolder(): string {
  return join(workshop, 'user-of-frameworks');
}

function otelFolder(): string {
  return join(workshop, 'user-of-otel');
}

function bullmqFolder(version: string): string {
  return join(workshop, `user-of-bullmq-${version}`);
}

function userFolder(version: string): string {
  return join(workshop, `user-of-ioredis-${version}`);
}

/**
 * What the command writes to its standard output.
 *
 * @throws Error with all that it wrote, where it fails
 */
async function run(cwd: string, command: string, ...args: string[]): Promise<string> {
  return runWith({}, cwd, command, ...args);
}

async function runWith(more: NodeJS.ProcessEnv, cwd: string, command: string, ...args: string[]): Promise<string> {
  // An npm that runs these tests tells those inside it where its own project is.
  const { INIT_CWD: _, npm_config_local_prefix: __, ...env } = process.env;
  try {
    const { stdout } = await promisify(execFile)(command, args, {
      cwd,
      env: { ...env, ...more },
      timeout: TIME_LIMIT_MS,
      maxBuffer: 2 ** 26,
    });
    return stdout;
  } catch (error) {
    const { stdout, stderr, message } = error as Error & { stdout?: string; stderr?: string };
    const errors = stdout?.split('\n').filter((line) => !/^\/.*\.d\.[cm]?ts$/.test(line));
    throw new Error(`${message}\n${errors?.join('\n') ?? ''}\n${stderr ?? ''}`);
  }
}
