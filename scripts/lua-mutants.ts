/**
 * Breaks every guard of lua/, one at a time, and runs the suites on each: every condition forced true and forced false,
 * every operand of `and` and `or` in what is returned or tested, every status word swapped for another of its script. A
 * mutant that no test catches must be listed in docs/evidence.md with the reason why it is harmless.
 *
 * `npm run test:mutants`, or for a part of them `npm run test:mutants -- commit settle`.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as luaparse from 'luaparse';
import { bundleLua, literal, renderScripts, statusOf, walk } from './lua-bundle.js';

const GENERATED = 'src/redis/scripts.generated.ts';
const EFFECT_SUITES = [
  'test/lua/effects.test.ts',
  'test/integration/effects.test.ts',
  'test/integration/conditions.test.ts',
  'test/property/effects.test.ts',
  'test/integration/seen-effects.test.ts',
];
const SUITES = [
  'test/lua',
  ...EFFECT_SUITES,
  'test/simulation/simulation.test.ts',
  'test/integration/servers.test.ts',
  'test/integration/neighbours.test.ts',
];
const SEEN_SUITES = [
  'test/lua/seen.test.ts',
  'test/integration/seen.test.ts',
  'test/integration/seen-effects.test.ts',
  'test/property/seen.test.ts',
];
const STREAM_SUITES = ['test/lua/bury.test.ts', 'test/integration/streams-fences.test.ts'];
const DURABILITY_SUITES = ['test/integration/durability.test.ts'];
/** No other script has these. */
const OF_EFFECTS = /^lib\/(effects|follow.*|numbers)\.lua$/;
const OF_SEEN = /^(seen|agree|lib\/seen)\.lua$/;
const OF_STREAMS = /^(bury|hold|lib\/pending)\.lua$/;
/** Random lists of writes a server: fewer than the suite plays by itself. */
const EFFECT_LISTS = '1500';
/** Steps of the simulation: in fewer it finds each guard that test/simulation/guards.test.ts takes out. */
const SIMULATION_STEPS = '60000';
const LONGEST_RUN_MS = 300_000;

interface Mutant {
  file: string;
  /** Names it in the table, without a line number. */
  what: string;
  source: string;
}

type Ranged = luaparse.Node & { range: [number, number] };

function mutantsOf(file: string): Mutant[] {
  const source = readFileSync(join('lua', file), 'utf8');
  const chunk = luaparse.parse(source, { luaVersion: '5.1', ranges: true, encodingMode: 'x-user-defined' });
  const mutants: Mutant[] = [];
  const replace = (node: luaparse.Node, text: string, how: string) => {
    const [from, to] = (node as Ranged).range;
    const was = source.slice(from, to).replace(/\s+/g, ' ');
    mutants.push({ file, what: `\`${was}\` ${how}`, source: source.slice(0, from) + text + source.slice(to) });
  };
  const operands = (node: luaparse.Node) => {
    if (node.type !== 'LogicalExpression') return;
    for (const [side, other] of [
      [node.left, node.right],
      [node.right, node.left],
    ] as const) {
      // Parsed values chosen by `a and b or c` are no guards.
      if (!isCondition(side)) continue;
      const [from, to] = (other as Ranged).range;
      replace(
        side,
        node.operator === 'and' ? 'true' : 'false',
        `left out of \`${node.operator} ${source.slice(from, to).replace(/\s+/g, ' ')}\``,
      );
    }
  };
  const words = statusWords(chunk);
  walk(chunk, (node) => {
    if (node.type === 'IfClause' || node.type === 'ElseifClause') {
      replace(node.condition, 'true', 'forced true');
      replace(node.condition, 'false', 'forced false');
    }
    operands(node);
    const word = statusOf(node);
    if (word)
      replace(word, `"${words.find((other) => other !== literal(word)) ?? 'other'}"`, 'swapped for another status');
  });
  return mutants;
}

function isCondition(node: luaparse.Node): boolean {
  return (
    node.type === 'BinaryExpression' ||
    (node.type === 'UnaryExpression' && node.operator === 'not') ||
    node.type === 'CallExpression'
  );
}

function statusWords(chunk: luaparse.Chunk): string[] {
  const words = new Set<string>();
  walk(chunk, (node) => {
    const word = statusOf(node);
    if (word) words.add(literal(word));
  });
  return [...words];
}

/** The suites that a file's mutants are run against. */
function suitesOf(file: string): string[] {
  if (file === 'touch.lua') return DURABILITY_SUITES;
  if (OF_STREAMS.test(file)) return STREAM_SUITES;
  if (OF_SEEN.test(file)) return SEEN_SUITES;
  return OF_EFFECTS.test(file) ? EFFECT_SUITES : SUITES;
}

/** What the suites say: a run that hangs is ended, and says so. */
function verdictOn(file = ''): Promise<'green' | 'red' | 'hangs'> {
  return new Promise((resolve) => {
    const suites = suitesOf(file);
    const args = ['vitest', 'run', ...suites, '--bail', '1', '--typecheck.enabled=false', '--reporter=dot'];
    const run = spawn('npx', args, {
      stdio: 'ignore',
      detached: true,
      env: { ...process.env, TEST_EFFECT_LISTS: EFFECT_LISTS, TEST_STEPS: SIMULATION_STEPS },
    });
    let hangs = false;
    const timer = setTimeout(() => {
      hangs = true;
      process.kill(-(run.pid as number), 'SIGKILL');
    }, LONGEST_RUN_MS);
    run.once('exit', (code) => {
      clearTimeout(timer);
      resolve(hangs ? 'hangs' : code === 0 ? 'green' : 'red');
    });
  });
}

const wanted = process.argv.slice(2);
const files = [...readdirSync('lua'), ...readdirSync('lua/lib').map((file) => `lib/${file}`)].filter((file) =>
  file.endsWith('.lua'),
);
const mutants = files
  .filter((file) => wanted.length === 0 || wanted.some((name) => file.endsWith(`${name}.lua`)))
  .flatMap(mutantsOf);
const evidence = readFileSync('docs/evidence.md', 'utf8');
const restore = () => writeFileSync(GENERATED, renderScripts(bundleLua('lua')));
process.once('SIGINT', () => {
  restore();
  process.exit(130);
});

// The baseline goes the way of the mutants: what breaks the way itself must not pass for a mutant that was caught.
writeFileSync(GENERATED, renderScripts(bundleLua('lua', false)));
if ((await verdictOn()) !== 'green') throw new Error('The suites are red without a mutant');
const survivors: Mutant[] = [];
for (const [index, mutant] of mutants.entries()) {
  const folder = mkdtempSync(join(tmpdir(), 'redis-once-mutant-'));
  cpSync('lua', folder, { recursive: true });
  writeFileSync(join(folder, mutant.file), mutant.source);
  writeFileSync(GENERATED, renderScripts(bundleLua(folder, false)));
  const verdict = await verdictOn(mutant.file);
  if (verdict === 'green') survivors.push(mutant);
  const told = { green: 'SURVIVED', red: 'caught  ', hangs: 'hangs   ' }[verdict];
  console.log(`${index + 1} of ${mutants.length} ${told} lua/${mutant.file}: ${mutant.what}`);
  rmSync(folder, { recursive: true });
}
restore();

const unlisted = survivors.filter(({ file, what }) => !evidence.includes(`| lua/${file} | ${what} |`));
console.log(
  `${mutants.length} mutants, ${mutants.length - survivors.length} caught, ${survivors.length} survived, ${unlisted.length} of them not listed`,
);
for (const { file, what } of unlisted) console.log(`| lua/${file} | ${what} |`);
process.exitCode = unlisted.length === 0 ? 0 : 1;
