/** What README and docs show compiles, and what they link to is there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true }).map((page) => `docs/${page}`),
].filter((page) => page.endsWith('.md'));
const blocksOf = (page: string) =>
  [...readFileSync(join(root, page), 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => match[1] as string);

/** Type errors of a block that is compiled as a module of its own, `redis-once` being this source. */
function errorsOf(block: string): string[] {
  const file = join(root, 'test/package/block.ts');
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts', 'lib.es2024.string.d.ts'],
    types: ['node'],
    paths: { 'redis-once': [join(root, 'src/index.ts')] },
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (name) => name === file || fileExists(name);
  host.readFile = (name) => (name === file ? block : readFile(name));
  host.getSourceFile = (name, version) =>
    name === file ? ts.createSourceFile(name, block, version) : getSourceFile(name, version);
  const program = ts.createProgram([file], options, host);
  return ts
    .getPreEmitDiagnostics(program, program.getSourceFile(file))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

describe.each(pages)('%s', (page) => {
  test('shows code that compiles', () => {
    for (const block of blocksOf(page)) expect(errorsOf(block), block).toEqual([]);
  });

  test('links to files that are there', () => {
    const links = [...readFileSync(join(root, page), 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(
      (match) => match[1] as string,
    );
    expect(links.filter((link) => !existsSync(join(root, dirname(page), link)))).toEqual([]);
  });
});

test('the first example of the README has at most eight lines', () => {
  expect((blocksOf('README.md')[0] as string).trim().split('\n').length).toBeLessThanOrEqual(8);
});

test('a block that does not compile is found', () => {
  expect(
    errorsOf("import { Dedup } from 'redis-once';\nnew Dedup(5);\nawait new Dedup(undefined as never).once('k');"),
  ).toHaveLength(2);
});
