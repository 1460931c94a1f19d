/** The public API is a reviewed list: what the build exports must be what public-api.txt says. */
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };

const PROJECT = join(import.meta.dirname, '..', '..');
const LIST = join(import.meta.dirname, 'public-api.txt');
const HOW_TO_ACCEPT = `The public API is not what test/package/public-api.txt says.
To accept a reviewed change: npm run build && UPDATE_PUBLIC_API=1 npx vitest run test/package/public-api.test.ts`;

interface Entry {
  /** As callers import it: `redis-once`, `redis-once/bullmq`. */
  readonly name: string;
  readonly esm: string;
  readonly cjs: string;
  readonly types: string;
}

/** As `npm test` has built it. */
const entries = Object.entries(manifest.exports).flatMap(([path, target]): Entry[] => {
  if (typeof target === 'string') return [];
  const built = (file: string) => join(PROJECT, file);
  const [esm, cjs, types] = [target.import.default, target.require.default, target.import.types].map(built);
  return [{ name: join('redis-once', path), esm, cjs, types } as Entry];
});

test('the public API is the reviewed one', async () => {
  const api = describeApi(entries);
  if (process.env.UPDATE_PUBLIC_API) await writeFile(LIST, api);
  expect(api, HOW_TO_ACCEPT).toBe(await readFile(LIST, 'utf8'));
});

test('what the types name as a value is there at run time, by import and by require, and nothing else is', async () => {
  const program = readTypes(entries);
  for (const { name, esm, cjs, types } of entries) {
    const promised = exportsOf(program, types).values.map((symbol) => symbol.name);
    const imported = (await import(pathToFileURL(esm).href)) as object;
    const required = createRequire(import.meta.url)(cjs) as object;
    expect(Object.keys(imported).sort(), `${name} by import`).toEqual(promised);
    expect(Object.keys(required).sort(), `${name} by require`).toEqual(promised);
  }
});

/** Every export of every entry, then what stands behind them: a block each, without comments and private members. */
function describeApi(entries: readonly Entry[]): string {
  const program = readTypes(entries);
  const checker = program.getTypeChecker();
  const shown = new Set<ts.Node>();
  const blocks = (symbols: readonly ts.Symbol[]) =>
    symbols.map((symbol) => {
      const declarations = declarationsOf(checker, symbol);
      for (const declaration of declarations) shown.add(declaration);
      const { name } = targetOf(checker, symbol);
      const renamed = name === symbol.name ? '' : `${symbol.name} = `;
      return `${renamed}${declarations.map(textOf).join('\n')}\n`;
    });
  const sections = entries.flatMap(({ name, types }) => {
    const { values, typesOnly } = exportsOf(program, types);
    return [`=== ${name}: values\n`, ...blocks(values), `=== ${name}: types\n`, ...blocks(typesOnly)];
  });
  const behind = program
    .getSourceFiles()
    .filter(({ fileName }) => fileName.startsWith(`${PROJECT}/dist/`))
    .flatMap(({ statements }) => [...statements])
    .filter((node) => isNamedDeclaration(node) && !shown.has(node))
    .map((node) => `${textOf(node)}\n`);
  return [...sections, '=== not exported, but what the types above are made of\n', ...behind.sort()].join('\n');
}

function readTypes(entries: readonly Entry[]): ts.Program {
  return ts.createProgram(
    entries.map(({ types }) => types),
    { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, noLib: true, types: [] },
  );
}

function exportsOf(program: ts.Program, file: string): Record<'values' | 'typesOnly', ts.Symbol[]> {
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`No types were built at ${file}`);
  const symbols = checker.getExportsOfModule(module).sort((a, b) => (a.name < b.name ? -1 : 1));
  const isValue = (symbol: ts.Symbol) =>
    !symbol.declarations?.some((node) => ts.isExportSpecifier(node) && ts.isTypeOnlyExportDeclaration(node)) &&
    (targetOf(checker, symbol).flags & ts.SymbolFlags.Value) !== 0;
  return { values: symbols.filter(isValue), typesOnly: symbols.filter((symbol) => !isValue(symbol)) };
}

function targetOf(checker: ts.TypeChecker, symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

function declarationsOf(checker: ts.TypeChecker, symbol: ts.Symbol): ts.Node[] {
  return (targetOf(checker, symbol).declarations ?? []).map((node) =>
    ts.isVariableDeclaration(node) ? node.parent.parent : node,
  );
}

function isNamedDeclaration(node: ts.Node): boolean {
  return [
    ts.isClassDeclaration,
    ts.isInterfaceDeclaration,
    ts.isTypeAliasDeclaration,
    ts.isFunctionDeclaration,
    ts.isVariableStatement,
  ].some((is) => is(node));
}

function textOf(node: ts.Node): string {
  const printer = ts.createPrinter({ removeComments: true });
  return printer
    .printNode(ts.EmitHint.Unspecified, node, node.getSourceFile())
    .replace(/^(export )?declare /, '')
    .replace(/^ +(#private|private (?!constructor).*);\n/gm, '')
    .replace(/^ +/gm, (indent) => indent.slice(indent.length / 2));
}
