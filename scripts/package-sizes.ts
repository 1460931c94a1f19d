/** What the package weighs, by entry point: `npm run docs:sizes` writes it into the README. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build, type Options } from 'tsup';
import { replaceBetweenMarks } from '../bench/report/section.js';
import manifest from '../package.json' with { type: 'json' };
import config from '../tsup.config.js';

export interface Size {
  /** As callers import it. */
  readonly entry: string;
  /** With the library's own dependencies, without peers. */
  readonly minified: number;
  readonly gzipped: number;
}

/** Every entry point, bundled by itself as an application would bundle it. */
export async function measureSizes(): Promise<Size[]> {
  const folder = await mkdtemp(join(tmpdir(), 'redis-once-sizes-'));
  try {
    await build({
      ...(config as Options),
      ...{ config: false, silent: true, dts: false, splitting: false, clean: false },
      ...{ outDir: folder, format: 'esm', minify: true },
      noExternal: Object.keys(manifest.dependencies),
    });
    const names = Object.keys(manifest.exports).filter((name) => name !== './package.json');
    return await Promise.all(
      names.map(async (name) => {
        const code = await readFile(join(folder, name === '.' ? 'index.js' : `${name}.js`));
        return { entry: join(manifest.name, name), minified: code.length, gzipped: gzipSync(code).length };
      }),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What npm installs with the package: each dependency, and theirs, without peers. */
export async function dependencies(): Promise<string[]> {
  const found = new Set<string>();
  const collect = async (names: readonly string[]) => {
    for (const name of names) {
      if (found.has(name)) continue;
      found.add(name);
      const text = await readFile(new URL(`../node_modules/${name}/package.json`, import.meta.url), 'utf8');
      await collect(Object.keys((JSON.parse(text) as { dependencies?: object }).dependencies ?? {}));
    }
  };
  await collect(Object.keys(manifest.dependencies));
  return [...found].sort();
}

export function sizesSection(sizes: readonly Size[], installed: readonly string[]): string {
  const kilobytes = (bytes: number) => `${(bytes / 1_000).toFixed(1)} kB`;
  const rows = sizes.map(
    ({ entry, minified, gzipped }) => `| \`${entry}\` | ${kilobytes(minified)} | ${kilobytes(gzipped)} |`,
  );
  return [
    ['| import | minified | and gzipped |', '|---|---:|---:|', ...rows].join('\n'),
    `Each bundled by itself, with what it needs of the library and of its ${installed.length} dependencies (${installed
      .map((name) => `\`${name}\``)
      .join(', ')}), without peers: together they are smaller, since they share the core.`,
  ].join('\n\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const readme = new URL('../README.md', import.meta.url);
  const text = sizesSection(await measureSizes(), await dependencies());
  await writeFile(readme, replaceBetweenMarks(await readFile(readme, 'utf8'), 'sizes', text));
  console.log(text);
}
