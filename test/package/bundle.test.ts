/** What an entry point loads: as it is built, chunk by chunk, and as an application bundles it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, type Options } from 'tsup';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { dependencies, measureSizes, type Size, sizesSection } from '../../scripts/package-sizes.js';
import tsconfig from '../../tsconfig.json' with { type: 'json' };
import config from '../../tsup.config.js';

const PROJECT = join(import.meta.dirname, '..', '..');
const TIME_LIMIT_MS = 120_000;
/** How far a size in the README may be off: what it takes to say it in kilobytes, and small changes. */
const TOLERANCE = 0.1;

const ENTRIES = Object.keys(manifest.exports)
  .filter((name) => name !== './package.json')
  .map((name) => (name === '.' ? 'index' : name.slice(2)));
const OWN_DEPENDENCIES = Object.keys(manifest.dependencies);
/** What an entry point loads of others' code, beside the library's own dependencies. */
const PEERS_OF: Readonly<Record<string, readonly string[]>> = {
  bullmq: ['bullmq'],
  otel: ['@opentelemetry/api'],
  testing: ['ioredis', 'testcontainers'],
};
/** Where the code of an entry point lies, if it is not the core's. */
const FOLDER_OF: Readonly<Record<string, string>> = { express: 'http', fastify: 'http', hono: 'http', fetch: 'http' };
const FOLDERS = new Set(ENTRIES.filter((entry) => entry !== 'index').map((entry) => FOLDER_OF[entry] ?? entry));

/** As esbuild tells of a build. */
interface Metafile {
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly outputs: Readonly<
    Record<string, { imports: { path: string; external?: boolean }[]; inputs: Readonly<Record<string, unknown>> }>
  >;
}

/** Of `src/bullmq/processor.ts` it is `bullmq`, of a file of the core's that lies in none the empty text. */
function folderOf(source: string): string {
  return /\bsrc\/(\w+)\//.exec(source)?.[1] ?? '';
}

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'redis-once-bundle-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Builds into a folder of that name. */
async function bundled(name: string, options: Options): Promise<Metafile> {
  const outDir = join(folder, name);
  await build({ config: false, silent: true, dts: false, metafile: true, format: 'esm', outDir, ...options });
  return JSON.parse(readFileSync(join(outDir, `metafile-${options.format ?? 'esm'}.json`), 'utf8')) as Metafile;
}

test('every entry point has its name in tsconfig.json, by which examples import it and the reference calls it', () => {
  const built = (config as Options).entry as Record<string, string>;
  const named = ENTRIES.map((entry) => [
    entry === 'index' ? 'redis-once' : `redis-once/${entry}`,
    [`./${built[entry]}`],
  ]);
  expect(tsconfig.compilerOptions.paths).toEqual(Object.fromEntries(named));
});

describe.each(['esm', 'cjs'] as const)('of the %s build', (format) => {
  let metafile: Metafile;

  beforeAll(async () => {
    metafile = await bundled(format, { ...(config as Options), dts: false, format, clean: false });
  }, TIME_LIMIT_MS);

  /** Source files and packages that come with an entry point, whatever chunks they are in. */
  function loadedBy(entry: string): { sources: string[]; packages: string[] } {
    const sources = new Set<string>();
    const packages = new Set<string>();
    const seen = new Set<string>();
    const follow = (path: string) => {
      const output = metafile.outputs[path];
      if (!output || seen.has(path)) return;
      seen.add(path);
      for (const source of Object.keys(output.inputs)) sources.add(source);
      for (const { path: target, external } of output.imports) {
        if (!external) follow(target);
        else if (!isBuiltin(target)) packages.add(target);
      }
    };
    const end = format === 'esm' ? 'js' : 'cjs';
    const [path] = Object.keys(metafile.outputs).filter((output) => output.endsWith(`/${format}/${entry}.${end}`));
    follow(path ?? expect.fail(`Nothing was built for ${entry}`));
    return { sources: [...sources], packages: [...packages].sort() };
  }

  test.each(ENTRIES)('%s loads its own code, its own peer, and nothing of other entry points', (entry) => {
    const { sources, packages } = loadedBy(entry);
    const own = FOLDER_OF[entry] ?? entry;
    const foreign = sources.filter((source) => folderOf(source) !== own && FOLDERS.has(folderOf(source)));
    expect(sources.length).toBeGreaterThan(0);
    expect(foreign).toEqual([]);
    const allowed = [...OWN_DEPENDENCIES, ...(PEERS_OF[entry] ?? [])];
    expect(packages.filter((name) => !allowed.includes(name))).toEqual([]);
    expect(packages).toEqual(expect.arrayContaining([...(PEERS_OF[entry] ?? [])]));
  });
});

describe('an application', () => {
  /** What esbuild takes in of a program, every package included. */
  async function takenIn(name: string, program: string): Promise<string[]> {
    const file = join(folder, `${name}.ts`);
    writeFileSync(file, program);
    const { inputs } = await bundled(name, {
      entry: { [name]: file },
      noExternal: [/./],
      treeshake: true,
      platform: 'node',
    });
    return Object.keys(inputs).map((path) => path.replaceAll('\\', '/'));
  }

  const source = (file: string) => JSON.stringify(join(PROJECT, 'src', file));

  test('that imports Dedup alone has no BullMQ, no framework and no telemetry in its bundle', async () => {
    const inputs = await takenIn('core', `import { Dedup } from ${source('index.js')};\nconsole.log(Dedup);\n`);
    const packages = inputs.flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []);
    expect([...new Set(packages)].sort()).toEqual([...OWN_DEPENDENCIES].sort());
    expect(inputs.filter((path) => FOLDERS.has(folderOf(path)))).toEqual([]);
  });

  test('that imports the processor has BullMQ in it: what is looked for can be found', async () => {
    const inputs = await takenIn(
      'queue',
      `import { onceProcessor } from ${source('bullmq/index.js')};\nconsole.log(onceProcessor);\n`,
    );
    expect(inputs.some((path) => path.includes('node_modules/bullmq/'))).toBe(true);
  });
});

describe('in the README', () => {
  let sizes: Size[];

  beforeAll(async () => {
    sizes = await measureSizes();
  }, TIME_LIMIT_MS);

  test(`every entry point has its size, to ${TOLERANCE * 100} %: npm run docs:sizes`, () => {
    const readme = readFileSync(join(PROJECT, 'README.md'), 'utf8');
    const told = [...readme.matchAll(/^\| `(redis-once[\w/]*)` \| ([\d.]+) kB \| ([\d.]+) kB \|$/gm)];
    expect(told.map(([, entry]) => entry)).toEqual(sizes.map(({ entry }) => entry));
    for (const [index, { entry, minified, gzipped }] of sizes.entries()) {
      for (const [size, written] of [
        [minified, told[index]?.[2]],
        [gzipped, told[index]?.[3]],
      ] as const) {
        expect(Math.abs(Number(written) * 1_000 - size) / size, entry).toBeLessThan(TOLERANCE);
      }
    }
  });

  test('the dependencies are those that npm installs', async () => {
    const [, said] = sizesSection(sizes, await dependencies()).split('\n\n');
    expect(readFileSync(join(PROJECT, 'README.md'), 'utf8')).toContain(said);
  });
});
