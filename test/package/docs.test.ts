/** The documentation keeps up with the code: its examples compile, its links lead somewhere. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { anchorOf, pageFiles } from '../../docs/.vitepress/pages.js';
import * as library from '../../src/index.js';
import { CALL_RULES, DEDUP_RULES } from '../../src/settings.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PAGES = [...pageFiles(), 'RELEASING.md'];
const LONGEST_FIRST_EXAMPLE = 8;

/** What examples may use without saying so: each name tells what it is. */
const PRELUDE = `
import type { Redis as RedisClass } from 'ioredis';
import type * as library from 'redis-once';

declare global {
  const Redis: typeof RedisClass;
  const Dedup: typeof library.Dedup;
  const isDedupError: typeof library.isDedupError;
  const redis: RedisClass;
  const dedup: library.Dedup;
  const id: string;
  const message: { id: string };
  const messages: { id: string }[];
  const order: { id: string; cents: number; sku: string; count: number };
  const payment: { id: string; cents: number };
  const payments: { id: string; cents: number }[];
  const edit: { id: string; document: string; ifMatch: string; body: string };
  const request: { headers: Record<string, string>; body: { amount: number } };
  const controller: AbortController;
  function handle(): Promise<{ done: true }>;
  function charge(order: { id: string }, options?: { idempotencyKey: string; signal: AbortSignal }): Promise<{ charged: number }>;
  function saveIfNewer(order: { id: string }, fence: number): Promise<void>;
  function findCharge(idempotencyKey: string): Promise<{ charged: number } | undefined>;
  function retryLater(ms: number): void;
  const db: { query(text: string, values: unknown[]): Promise<{ rowCount: number }> };
  const parcels: { weight: number }[];
  function ship(parcel: { weight: number }, options: { idempotencyKey: string; signal: AbortSignal }): Promise<void>;
}
`;

interface Example {
  /** Page or source file, and the line that the example begins at. */
  readonly place: string;
  readonly code: string;
}

function filesUnder(folder: string, ending: string): string[] {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((name) => name.endsWith(ending) && !name.includes('node_modules') && !name.includes('results/latest'))
    .sort();
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The ```ts blocks of a page, or of the docstrings of a source file, whose stars are taken away. */
function examplesOf(path: string): Example[] {
  const text = path.endsWith('.ts') ? read(path).replace(/^ *\* ?/gm, '') : read(path);
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(({ 1: code = '', index }) => ({
    place: `${path}:${text.slice(0, index).split('\n').length + 1}`,
    code,
  }));
}

/**
 * What an example says is wrapped into a function, so that it may await and return; its imports stay outside. Line
 * numbers stay those of the example.
 */
function toModule(code: string): string {
  const imports = [...code.matchAll(/^import .*$/gm)].map(([line]) => line).join(' ');
  const body = code.replace(/^import .*$/gm, '');
  return `${imports} export async function example() {${body}\n}`;
}

const EXAMPLES = [...PAGES, ...filesUnder('src', '.ts')].flatMap(examplesOf);
const PROBLEMS = compile(EXAMPLES);

/** Problems by the example's place. */
function compile(examples: readonly Example[]): Map<string, string[]> {
  const folder = join(ROOT, 'test/package');
  const virtual = new Map(examples.map(({ code }, i) => [join(folder, `example-${i}.ts`), toModule(code)]));
  virtual.set(join(folder, 'examples-prelude.ts'), PRELUDE);
  const options: ts.CompilerOptions = {
    ...settingsOfProject(),
    // An example shows what one gets, and need not use it.
    noUnusedLocals: false,
    noUnusedParameters: false,
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (name) => virtual.has(name) || fileExists(name);
  host.readFile = (name) => virtual.get(name) ?? readFile(name);
  host.getSourceFile = (name, languageVersion, ...rest) => {
    const text = virtual.get(name);
    return text === undefined
      ? getSourceFile(name, languageVersion, ...rest)
      : ts.createSourceFile(name, text, languageVersion);
  };
  const program = ts.createProgram([...virtual.keys()], options, host);
  const problems = new Map<string, string[]>();
  for (const { file, start = 0, messageText } of ts.getPreEmitDiagnostics(program)) {
    const example = examples[Number(/example-(\d+)\.ts$/.exec(file?.fileName ?? '')?.[1])];
    const line = (file?.getLineAndCharacterOfPosition(start).line ?? 0) + 1;
    const place = example?.place ?? 'the prelude';
    const told = `line ${line} of ${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    problems.set(place, [...(problems.get(place) ?? []), told]);
  }
  return problems;
}

function settingsOfProject(): ts.CompilerOptions {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
  return ts.parseJsonConfigFileContent({ ...config, include: [], files: ['src/index.ts'] }, ts.sys, ROOT).options;
}

/** Where a page's links lead, those to other sites left out. */
function linksOf(page: string): string[] {
  const prose = read(page).replace(/^```[\s\S]*?^```$/gm, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link).filter((link) => !/^\w+:/.test(link));
}

/** The anchors of a page's headings. */
function anchorsOf(page: string): string[] {
  const prose = read(page).replace(/^```[\s\S]*?^```$/gm, '');
  return [...prose.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchorOf(heading));
}

/** Files of examples whose code a page shows: `<<< ../examples/start.ts`. */
function shownOn(page: string): string[] {
  return [...read(page).matchAll(/^<<< (.+)$/gm)].map(([, path = '']) =>
    relative(ROOT, resolve(ROOT, dirname(page), path)),
  );
}

/** Examples that tests name, and what those import or start. */
function examplesThatRun(): Set<string> {
  const run = new Set<string>();
  const follow = (example: string) => {
    if (run.has(example) || !existsSync(join(ROOT, example))) return;
    run.add(example);
    for (const [, path = ''] of read(example).matchAll(/'(\.{1,2}\/[\w/-]+)\.[jt]s'/g))
      follow(`${join(dirname(example), path)}.ts`);
  };
  for (const test of filesUnder('test', '.test.ts'))
    for (const [, path] of read(test).matchAll(/\b(examples\/[\w./-]+)\.[jt]s'/g)) follow(`${path}.ts`);
  return run;
}

describe('an example', () => {
  test.each(EXAMPLES.map(({ place }) => place))('at %s compiles', (place) => {
    expect(PROBLEMS.get(place) ?? []).toEqual([]);
  });

  test('is found in the README, in the docs and in docstrings, and the prelude compiles', () => {
    for (const start of ['README.md:', 'src/dedup.ts:', 'src/errors.ts:'])
      expect(EXAMPLES.some(({ place }) => place.startsWith(start))).toBe(true);
    expect(PROBLEMS.get('the prelude') ?? []).toEqual([]);
  });

  test('that is a file is run by a test', () => {
    const run = examplesThatRun();
    expect(filesUnder('examples', '.ts').filter((file) => !run.has(file))).toEqual([]);
  });

  test.each(PAGES.filter((page) => shownOn(page).length > 0))('that %s shows is a file, as users write it', (page) => {
    const examples = filesUnder('examples', '.ts');
    for (const shown of shownOn(page)) {
      expect(examples).toContain(shown);
      expect(read(shown), shown).not.toMatch(/\.\/src\//);
    }
  });

  test(`that comes first in the README has at most ${LONGEST_FIRST_EXAMPLE} lines`, () => {
    const [first] = examplesOf('README.md');
    expect(first?.code.trimEnd().split('\n').length).toBeLessThanOrEqual(LONGEST_FIRST_EXAMPLE);
  });

  test('that is wrong is noticed', () => {
    const wrong = [{ place: 'here', code: 'const value: string = await dedup.once(id, () => 1);\n' }];
    expect(compile(wrong).get('here')?.[0]).toMatch(/^line 1 .*not assignable to type 'string'/);
  });
});

/** Every error of the library, as code, class and whether it is retryable. */
function errorsOfLibrary(): string[] {
  const classes = Object.values(library).filter((value) => Object.getPrototypeOf(value) === library.DedupError);
  return classes.map((Class) => {
    const error = new (Class as new (message: string, init: object) => library.DedupError)('', { failure: {} });
    return `${error.code} ${(Class as { name: string }).name} ${error.retryable ? 'yes' : 'no'}`;
  });
}

describe('the errors', () => {
  test('stand in the README, each once, with code, class and whether it is retryable', () => {
    const rows = read('README.md').matchAll(/^\| `(\w+)`[^|]*\| `([A-Z_]+)` \| (yes|no) \|/gm);
    const told = [...rows].map(([, name, code, retryable]) => `${code} ${name} ${retryable}`);
    expect(told.sort()).toEqual(errorsOfLibrary().sort());
  });

  test('stand in docs/errors.md, each once, by their codes', () => {
    const [table = ''] = read('docs/errors.md').split('\n\n`STORE_UNAVAILABLE` names');
    const told = [...table.matchAll(/^\| (`[^|]+`) \|/gm)].flatMap(([, codes = '']) => codes.match(/[A-Z_]+/g) ?? []);
    expect(told.sort()).toEqual(
      errorsOfLibrary()
        .map((line) => line.split(' ')[0])
        .sort(),
    );
  });
});

test('the options stand in the README, those of a call and those of a whole Dedup, each once', () => {
  const [, section = ''] = read('README.md').split('\n### Options\n');
  const tables =
    section
      .split('\n### ')[0]
      ?.split(/^\| option \| .*\n/m)
      .slice(1) ?? [];
  const told = tables.map((table) => [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name));
  expect(told.map((names) => names.sort())).toEqual([Object.keys(CALL_RULES).sort(), Object.keys(DEDUP_RULES).sort()]);
});

describe('a page', () => {
  test.each(PAGES)('%s has links that lead somewhere', (page) => {
    const dead = linksOf(page).filter((link) => {
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? page : relative(ROOT, resolve(ROOT, dirname(page), path));
      if (target.startsWith('..') || !existsSync(join(ROOT, target))) return true;
      return anchor !== undefined && !anchorsOf(target).includes(anchor);
    });
    expect(dead).toEqual([]);
  });
});
