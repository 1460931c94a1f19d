/**
 * Runs the tests on every server, Node and client that is supported, one cell after another, and writes what came of it
 * into docs/compatibility.json and docs/compatibility.md. `npm run test:matrix -- --help` says how to run a part.
 */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { SERVER_VERSIONS } from '../test/support/redis/versions.js';
import { cellsOf, isProvided, nameOf, SUITES, suitesOf } from './matrix/cells.js';
import { HEAD, rowOf, writePage } from './matrix/page.js';
import {
  type CellResult,
  hasPassed,
  keepResults,
  keptResults,
  type SuiteResult,
  withResult,
} from './matrix/results.js';
import { NODES, placeOf, runSuite } from './matrix/run.js';

const USAGE = `npm run test:matrix -- [options]

Without options each server, each Node and each version of a client is run in turn, the rest being the oldest server, this
Node and the newest clients. Each option may be given several times; then each is run with each.

  --server NAME    ${SERVER_VERSIONS.join(', ')}
  --image NAME     of Redis or Valkey, such as redis:7.2-alpine, where a Docker engine answers
  --node MAJOR     ${NODES.join(', ')}
  --ioredis MAJOR  6, 5
  --bullmq MAJOR   6, 5
  --suite NAME     ${SUITES.join(', ')}
  --page           run nothing, and make docs/compatibility.md of what is kept`;

const list = { type: 'string', multiple: true } as const;

function readOptions() {
  const { values } = parseArgs({
    options: {
      server: list,
      image: list,
      node: list,
      ioredis: list,
      bullmq: list,
      suite: list,
      page: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  const { server = [], image = [], suite = SUITES, node, ioredis, bullmq } = values;
  const unknown = [...server.filter((name) => !isProvided(name)), ...suite.filter((name) => !SUITES.includes(name))];
  if (unknown.length > 0) throw new Error(`There is no ${unknown.join(', ')}.`);
  const servers = [...server, ...image];
  const asked = { server: servers.length > 0 ? servers : undefined, node, ioredis, bullmq };
  return { ...values, suites: suite, cells: cellsOf(asked, NODES) };
}

function options(): ReturnType<typeof readOptions> {
  try {
    return readOptions();
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

const { help, page, cells, suites: wantedSuites } = options();
if (help) {
  console.log(USAGE);
  process.exit(0);
}
if (page) {
  writePage(keptResults());
  process.exit(0);
}
if (NODES.length === 1) console.log(`Only Node ${NODES[0]}, which runs this: others are had on Linux x64 alone.`);
let kept = keptResults();
const results: CellResult[] = [];
for (const [index, cell] of cells.entries()) {
  const title = `${index + 1}/${cells.length} ${nameOf(cell)}`;
  console.log(`\n${title}`);
  const place = await placeOf(cell).catch((error: unknown) => told(error));
  if (typeof place === 'string') {
    console.log(`not had: ${place}`);
    note({ ...cell, notHad: place });
    continue;
  }
  console.log(`${place.found.server}, ${place.found.origin}`);
  const suites: Record<string, SuiteResult> = {};
  const wanted = suitesOf(cell).filter((name) => wantedSuites.includes(name));
  for (const [at, name] of wanted.entries()) {
    console.log(`\n${title}: ${name}, suite ${at + 1} of ${wanted.length}`);
    suites[name] = await runSuite(place, name);
    // After each, so that nothing is lost where the run is ended.
    note({ ...cell, found: place.found, suites: { ...suites } });
  }
}
const table = new Table({ head: HEAD, style: { head: [], border: [] } });
table.push(...results.map(rowOf));
console.log(`\n${table}`);
for (const result of results) {
  const failures = 'found' in result ? Object.values(result.suites).flatMap(({ failures }) => failures) : [];
  for (const failure of failures) console.log(`failed on ${nameOf(result)}: ${failure}`);
}
// A cell that has none of the suites that were asked for has no result.
process.exitCode = results.length === cells.length && results.every(hasPassed) ? 0 : 1;

/** Keeps what is known of a cell by now. */
function note(result: CellResult): void {
  const at = results.findIndex((other) => nameOf(other) === nameOf(result));
  results.splice(at === -1 ? results.length : at, 1, result);
  kept = withResult(kept, result);
  keepResults(kept);
  writePage(kept);
}

/** Why, in one line: of what apt or npm wrote, the last. */
function told(error: unknown): string {
  const { message, cause } = error as Error;
  const reason = cause === undefined ? '' : `: ${(cause as Error).message.trim().split('\n').at(-1)}`;
  return `${message.trim().split('\n')[0]}${reason}`.replaceAll('|', '/');
}
