/**
 * Bundles lua/ into one script text each and checks what a script promises against what it does.
 *
 * A script names what it needs of lua/lib by using it: a free name is looked up among the top-level locals of the
 * libraries and brought in with what that needs in turn. A name found nowhere is a global, which Redis forbids.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as luaparse from 'luaparse';

export interface Script {
  name: string;
  sha1: string;
  source: string;
  /** The arguments that stand once in front of the entries, in order. */
  perList: string[];
  /** Those of one entry. */
  perEntry: string[];
  /** Does an entry bring effects, or the like: further keys of its own, and words after its arguments? */
  effects: boolean;
  /** The status words that an entry can answer. */
  statuses: string[];
}

interface Definition {
  text: string;
  needs: string[];
  statement: luaparse.Statement;
  file: string;
}

type Node = luaparse.Node & { range: [number, number] };

const BUILTINS = new Set([
  ...['redis', 'KEYS', 'ARGV', 'struct', 'string', 'table', 'math', 'bit'],
  ...['pcall', 'error', 'tonumber', 'tostring', 'type', 'unpack', 'ipairs', 'pairs'],
]);
const FORBIDDEN_COMMANDS = new Set(['SCAN', 'KEYS', 'DEL', 'SPUBLISH', 'EVAL', 'EVALSHA', 'FLUSHALL', 'FLUSHDB']);
const KEYLESS_COMMANDS = new Set(['TIME', 'PUBLISH']);
/** Their key comes after a subcommand. */
const CONTAINER_COMMANDS = new Set(['XINFO']);
/** The one place that gives Redis a caller's commands. */
const EFFECTS_FILE = 'effects.lua';
/** In front of each definition. */
const PIECES = /\n(?=local )/;
/** A line that is nothing else. They are for readers of lua/, and would be sent to every server. */
const COMMENTS = /^ *--.*\n/gm;
const HEADER =
  /^--\[\[\n(\S+): .+\n\nList {5}.+\nKEYS\[i\] {2}(\w+)(?:,[^\n]+)?\nARGV {5}([\s\S]+?)\n\nReturns {2}([\s\S]+?)\nWrites {3}[\s\S]+?\nResend {3}[\s\S]+?\n\]\]\n/;

/** @param checks whether to hold the scripts to their headers; a mutant is bundled as it is */
export function bundleLua(folder: string, checks = true): Script[] {
  const library = readLibrary(join(folder, 'lib'));
  return readdirSync(folder)
    .filter((file) => file.endsWith('.lua'))
    .sort()
    .map((file) => bundle(join(folder, file), readFileSync(join(folder, file), 'utf8'), library, checks));
}

/** The module that holds the scripts at run time. What several scripts have is there once: they are put together when a server lacks them. */
export function renderScripts(scripts: Script[]): string {
  const numbers = new Map<string, number>();
  const numberOf = (piece: string) => numbers.get(piece) ?? numbers.set(piece, numbers.size).size - 1;
  const lines = scripts.map(({ name, sha1, source, perList, perEntry, effects }) => {
    const pieces = source.split(PIECES).map(numberOf).join(', ');
    return `  ${name}: { name: '${name}', sha1: '${sha1}', perList: ${JSON.stringify(perList)}, perEntry: ${JSON.stringify(perEntry)}, effects: ${effects}, get source() { return of(${pieces}); } },`;
  });
  const statuses = scripts.map(
    ({ name, statuses: words }) => `  ${name}: ${words.map((word) => `'${word}'`).join(' | ') || 'never'};`,
  );
  return `// Made by scripts/build-lua.ts from lua/. Not for editing.
const PIECES = [
${[...numbers.keys()].map((piece) => `  ${JSON.stringify(piece)},`).join('\n')}
];
const of = (...numbers: number[]) => numbers.map((number) => PIECES[number]).join('\\n');

export const SCRIPTS = {
${lines.join('\n')}
} as const;

export interface Statuses {
${statuses.join('\n')}
}
`;
}

function readLibrary(folder: string): Map<string, Definition> {
  const library = new Map<string, Definition>();
  for (const file of readdirSync(folder).sort()) {
    const source = readFileSync(join(folder, file), 'utf8');
    for (const statement of parse(file, source).body) {
      const names = localNames(file, statement);
      const [from, to] = (statement as Node).range;
      const definition = {
        text: source.slice(from, to),
        needs: freeNames(file, source.slice(from, to)),
        statement,
        file,
      };
      for (const name of names) {
        if (library.has(name)) fail(file, `\`${name}\` is defined twice in lua/lib`);
        library.set(name, definition);
      }
    }
  }
  return library;
}

function bundle(path: string, source: string, library: Map<string, Definition>, checks: boolean): Script {
  const name = basename(path, '.lua');
  const header = HEADER.exec(source);
  if (!header) fail(path, 'the header is not of the form that every script opens with');
  const body = source.slice(header[0].length).trim();
  const chunk = parse(path, body);

  const parts: Definition[] = [];
  const bring = (from: string, names: string[]): void => {
    for (const free of names) {
      if (BUILTINS.has(free)) continue;
      const definition = library.get(free) ?? fail(from, `\`${free}\` is a global, or stands after its first use`);
      if (parts.includes(definition)) continue;
      bring(definition.file, definition.needs);
      if (!parts.includes(definition)) parts.push(definition);
    }
  };
  bring(path, freeNames(path, body));

  const perList = checkList(path, chunk, header);
  const { perEntry, effects } = checkEntry(path, name, chunk, header);
  const statements = [...parts, ...chunk.body.map((statement) => ({ file: path, statement }))];
  const statuses = checks ? checkStatuses(path, statements, header[4] as string) : [];
  for (const { file, statement } of statements) checkCommands(file, statement);
  const code = `${[...nested(parts, freeNames(path, body)), body].join('\n')}\n`.replace(COMMENTS, '');
  const text = `-- redis-once ${name}\n${code}`;
  return {
    name,
    sha1: createHash('sha1').update(text).digest('hex'),
    source: text,
    perList,
    perEntry,
    effects,
    statuses,
  };
}

/**
 * The texts of the parts, in their order. What only a function `make_…` needs is made inside it, when it is called: a script
 * pays for every function that it makes at its start.
 */
function nested(parts: readonly Definition[], roots: readonly string[]): string[] {
  const namesOf = ({ file, statement }: Definition) => localNames(file, statement);
  const makers = parts.filter((part) => namesOf(part).some((name) => name.startsWith('make_')));
  const needed = (names: readonly string[], without: Definition | undefined, found = new Set<Definition>()) => {
    for (const part of parts) {
      if (part === without || found.has(part) || !namesOf(part).some((name) => names.includes(name))) continue;
      found.add(part);
      needed(part.needs, without, found);
    }
    return found;
  };
  const inside = new Map(
    makers.map((maker) => {
      const elsewhere = needed(roots, maker);
      return [maker, parts.filter((part) => part !== maker && !elsewhere.has(part))];
    }),
  );
  const hidden = new Set([...inside.values()].flat());
  return parts
    .filter((part) => !hidden.has(part))
    .map((part) => {
      const own = (inside.get(part) ?? []).map(({ text }) => text).join('\n');
      return own === '' ? part.text : part.text.replace(/\)\n/, () => `)\n${own}\n`);
    });
}

/** The names that the header's ARGV has behind `per list:` or `per entry:`. */
function namesIn(header: RegExpExecArray, part: 'list' | 'entry'): string[] {
  const text = new RegExp(`per ${part}:([\\s\\S]*?)(?:per entry:|$)`).exec(header[3] as string)?.[1] ?? '';
  return text
    .replace(/\([^)]*\)/g, '')
    .split(',')
    .map((word) => word.trim().replace(/\s+/g, ' '))
    .filter((word) => word !== '' && word !== 'nothing');
}

/** Arguments that stand once a list are taken by one statement: `local a, b = per_list(2)`. */
function checkList(path: string, chunk: luaparse.Chunk, header: RegExpExecArray): string[] {
  const documented = namesIn(header, 'list');
  let taken: string[] = [];
  for (const statement of chunk.body) {
    const call = statement.type === 'LocalStatement' ? statement.init[0] : undefined;
    if (call?.type !== 'CallExpression' || (call.base as luaparse.Identifier).name !== 'per_list') continue;
    taken = localNames(path, statement);
    if ((call.arguments[0] as luaparse.NumericLiteral).value !== taken.length)
      fail(path, 'per_list is told a wrong number of arguments');
  }
  if (taken.join() !== documented.join())
    fail(path, `ARGV names ${documented.join()} per list, the script takes ${taken.join()}`);
  return taken;
}

/**
 * The script's last line hands one function to the walk over the list; its parameters are the key, the effects (or other
 * words of no fixed number) where an entry brings some, and what the header's ARGV has per entry.
 */
function checkEntry(
  path: string,
  name: string,
  chunk: luaparse.Chunk,
  header: RegExpExecArray,
): { perEntry: string[]; effects: boolean } {
  if (header[1] !== name) fail(path, `the header names \`${header[1]}\``);
  const last = chunk.body.at(-1);
  const call = last?.type === 'ReturnStatement' ? last.arguments[0] : undefined;
  const walkName = call?.type === 'CallExpression' ? (call.base as luaparse.Identifier).name : '';
  if (call?.type !== 'CallExpression' || !['each_entry', 'each_entry_with_effects'].includes(walkName)) {
    fail(path, 'the last line is not `return each_entry(...)` or `return each_entry_with_effects(...)`');
  }
  const effects = walkName === 'each_entry_with_effects';
  const [entry, width] = call.arguments;
  const declared = chunk.body.find(
    (statement): statement is luaparse.FunctionDeclaration =>
      statement.type === 'FunctionDeclaration' &&
      (statement.identifier as luaparse.Identifier).name === (entry as luaparse.Identifier).name,
  );
  const parameters = (declared?.parameters ?? []).map((parameter) => (parameter as luaparse.Identifier).name);
  const documented = namesIn(header, 'entry');
  if (parameters[0] !== `${header[2]}_key`) fail(path, `the first parameter is not \`${header[2]}_key\``);
  if (effects && documented.pop()?.replace(/^then /, '') !== `the ${parameters[1]}`) {
    fail(path, 'the effects are not the second parameter and the last words of ARGV');
  }
  const perEntry = parameters.slice(effects ? 2 : 1);
  if (perEntry.join() !== documented.join())
    fail(path, `ARGV names ${documented.join()} per entry, the function takes ${perEntry.join()}`);
  if ((width as luaparse.NumericLiteral).value !== perEntry.length)
    fail(path, `${walkName} is told a wrong number of arguments`);
  return { perEntry, effects };
}

/** The words that an entry answers: tables that begin with a literal, also those of a library function. */
function checkStatuses(path: string, statements: { statement: luaparse.Statement }[], documented: string): string[] {
  const told = new Set<string>();
  for (const { statement } of statements) {
    walk(statement, (node) => {
      const word = statusOf(node);
      if (word) told.add(literal(word));
    });
  }
  const words = new Set(
    [...documented.replace(/\([^)]*\)/g, '').matchAll(/"([a-z_]+)"/g)].map((match) => match[1] as string),
  );
  if ([...told].sort().join() !== [...words].sort().join()) {
    fail(path, `Returns names ${[...words].sort().join()}, the code answers ${[...told].sort().join()}`);
  }
  return [...told, 'refused'];
}

function checkCommands(path: string, statement: luaparse.Statement): void {
  walk(statement, (node) => {
    if (node.type === 'Identifier' && node.name === 'error_reply')
      fail(path, 'scripts answer status words, no error replies');
    if (node.type === 'CallExpression' && node.arguments.some(isRedisCall) && basename(path) !== EFFECTS_FILE)
      fail(path, 'commands that are not literal have their place in the effects');
    if (node.type !== 'CallExpression' || node.base.type !== 'MemberExpression') return;
    const { base, identifier } = node.base;
    if ((base as luaparse.Identifier).name !== 'redis' || !/^p?call$/.test(identifier.name)) return;
    const [command, ...rest] = node.arguments;
    const word = command?.type === 'StringLiteral' ? literal(command) : fail(path, 'a command must be a literal');
    if (FORBIDDEN_COMMANDS.has(word)) fail(path, `${word} has no place in a script`);
    const key = rest[CONTAINER_COMMANDS.has(word) ? 1 : 0];
    if (!KEYLESS_COMMANDS.has(word) && !(key?.type === 'Identifier' && key.name.endsWith('_key'))) {
      fail(path, `${word} is not given a declared key`);
    }
  });
}

function isRedisCall(node: luaparse.Node): boolean {
  return (
    node.type === 'MemberExpression' &&
    (node.base as luaparse.Identifier).name === 'redis' &&
    /^p?call$/.test(node.identifier.name)
  );
}

function parse(path: string, source: string): luaparse.Chunk {
  try {
    return luaparse.parse(source, { luaVersion: '5.1', ranges: true, scope: true, encodingMode: 'x-user-defined' });
  } catch (error) {
    return fail(path, (error as Error).message);
  }
}

function freeNames(path: string, source: string): string[] {
  const { globals } = parse(path, source) as luaparse.Chunk & { globals: luaparse.Identifier[] };
  return globals.map(({ name }) => name);
}

function localNames(path: string, statement: luaparse.Statement): string[] {
  if (statement.type === 'LocalStatement') return statement.variables.map(({ name }) => name);
  if (statement.type === 'FunctionDeclaration' && statement.isLocal)
    return [(statement.identifier as luaparse.Identifier).name];
  return fail(path, 'a library holds local names and functions, nothing else');
}

/** The status word of a `return` that answers an entry: the literal that the table begins with. */
export function statusOf(node: luaparse.Node): luaparse.StringLiteral | undefined {
  for (const table of node.type === 'ReturnStatement' ? node.arguments : []) {
    const first = table.type === 'TableConstructorExpression' ? table.fields[0] : undefined;
    if (first?.type === 'TableValue' && first.value.type === 'StringLiteral') return first.value;
  }
  return undefined;
}

export function literal(node: luaparse.StringLiteral): string {
  return node.raw.slice(1, -1);
}

export function walk(node: luaparse.Node, visit: (node: luaparse.Node) => void): void {
  visit(node);
  for (const child of Object.values(node).flat()) {
    if (child && typeof child === 'object' && 'type' in child) walk(child as luaparse.Node, visit);
  }
}

function fail(path: string, reason: string): never {
  throw new Error(`${path}: ${reason}`);
}
