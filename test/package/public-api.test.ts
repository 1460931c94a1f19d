/** The public API is a reviewed list: what the built types export must be what public-api.txt says. */
import { readFile, writeFile } from 'node:fs/promises';
import ts from 'typescript';
import { expect, test } from 'vitest';

const LIST = new URL('./public-api.txt', import.meta.url);
const TYPES = new URL('../../dist/index.d.ts', import.meta.url).pathname;
const HOW = 'To accept a reviewed change: UPDATE_PUBLIC_API=1 npx vitest run test/package/public-api.test.ts';

/** A line or block an export: its declaration without comments, bodies and private members. */
function publicApi(): string {
  const program = ts.createProgram([TYPES], {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(TYPES);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`No types were built at ${TYPES}`);
  const printer = ts.createPrinter({ removeComments: true });
  const blocks = checker.getExportsOfModule(module).map((symbol) => {
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    const declarations = (target.declarations ?? []).map((declaration) => {
      const node = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
      return printer.printNode(ts.EmitHint.Unspecified, node, node.getSourceFile());
    });
    const text = declarations
      .join('\n')
      .replace(/^declare |^\s+#private;\n/gm, '')
      .replace(/^\s+private .*\n/gm, '');
    return `${symbol.name}\n${text.replace(/^/gm, '  ')}\n`;
  });
  return blocks.sort().join('\n');
}

test('the public API is the reviewed one', async () => {
  const api = publicApi();
  if (process.env.UPDATE_PUBLIC_API) await writeFile(LIST, api);
  expect(api, HOW).toBe(await readFile(LIST, 'utf8'));
});
