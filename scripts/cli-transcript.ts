/** What docs/cli.md shows of each command: played on a server with a record in every state. */
import { shellWords } from '../src/cli/address.js';
import { populate, runCli } from '../test/support/cli.js';
import { type RedisServer, startRedis } from '../test/support/redis/index.js';

const NAMESPACE = 'shop';
const COMMON = ['--namespace', NAMESPACE];

interface Scene {
  readonly name: string;
  readonly argv: readonly string[];
  /** Of the terminal. */
  readonly columns: number;
}

const WIDE = 140;

/** On a server that forgets. */
const UNFIT: Scene = { name: 'doctor-unfit', argv: ['doctor', ...COMMON], columns: 80 };

const SCENES: readonly Scene[] = [
  { name: 'doctor', argv: ['doctor', ...COMMON], columns: WIDE },
  { name: 'list', argv: ['list', ...COMMON], columns: WIDE },
  { name: 'list-narrow', argv: ['list', '--scope', 'payments', ...COMMON], columns: 60 },
  { name: 'inspect', argv: ['inspect', 'order:1009', ...COMMON], columns: WIDE },
  {
    name: 'inspect-scoped',
    argv: ['inspect', '--scope', 'payments', '--scope', 'eu', 'order:1004', ...COMMON],
    columns: WIDE,
  },
  { name: 'inspect-json', argv: ['inspect', 'order:1001', '--json', ...COMMON], columns: WIDE },
  { name: 'inspect-none', argv: ['inspect', 'order:4711', ...COMMON], columns: WIDE },
  { name: 'forget-running', argv: ['forget', 'order:1009', '--yes', ...COMMON], columns: WIDE },
  { name: 'forget', argv: ['forget', 'order:1006', '--yes', ...COMMON], columns: WIDE },
  { name: 'stats', argv: ['stats', ...COMMON], columns: WIDE },
  { name: 'unreachable', argv: ['list', '--url', 'redis://app:secret@127.0.0.1:1', ...COMMON], columns: WIDE },
];

/** Of each scene, the text between its fences. */
export async function transcripts(): Promise<Map<string, string>> {
  const [fit, unfit] = await Promise.all([
    startRedis(['--appendonly', 'yes', '--appendfsync', 'always']),
    startRedis(['--maxmemory', '1gb', '--maxmemory-policy', 'allkeys-lru']),
  ]);
  const { release } = await populate(fit.url, NAMESPACE);
  try {
    const told = new Map([['doctor-unfit', await play(UNFIT, unfit)]]);
    for (const scene of SCENES) told.set(scene.name, await play(scene, fit));
    return told;
  } finally {
    await release();
    await Promise.all([fit.stop(), unfit.stop()]);
  }
}

async function play({ argv, columns }: Scene, { url, port }: RedisServer): Promise<string> {
  const { code, stdout, stderr } = await runCli(argv, { env: { REDIS_URL: url, COLUMNS: String(columns) } });
  const ended = code === 0 ? '' : `# exit code ${code}\n`;
  const text = `$ npx redis-once ${shellWords(argv)}\n${stdout}${stderr}${ended}`;
  return text.replaceAll(`:${port}`, ':6379').trimEnd();
}

/**
 * A transcript without what differs from run to run: figures, the server's name, how fast it answered. Two runs of the same
 * code have the same.
 */
export function shapeOf(transcript: string): string {
  return (
    transcript
      .replace(/^(ok|warning) +(latency|clock) .*(\n {22}.*)*/gm, '$2')
      // Only a slow answer makes one more.
      .replace(/^(?:All is well|(\d+ dangers?)?(?:, )?(?:\d+ warnings?)?)[.]$/gm, '$1')
      .replace(/(Redis|Valkey) [\d.]+/g, 'SERVER')
      .replace(/(\d[\d.,]*) (ms|s|m|h|d|bytes|KiB|MiB|GiB|%)(?![a-z])( \d+ (s|m|h))?/g, '#')
      .replace(/\d[\d.,]*\d{5}/g, '#')
      .replace(/[0-9a-f]{32}/g, '#')
      .replace(/: \d+(,?)$/gm, ': #$1')
      .replace(/ +/g, ' ')
  );
}

/** The page with other transcripts between its marks; a scene that has kept its shape keeps its text. */
export function withTranscripts(page: string, told: ReadonlyMap<string, string>): string {
  const left = new Set(told.keys());
  const written = page.replace(
    /(<!-- transcript (\S+): made by `npm run docs:cli` -->\n```text\n)([\s\S]*?)(\n```\n)/g,
    (whole, begin: string, name: string, old: string, end: string) => {
      const text = told.get(name);
      if (text === undefined) throw new Error(`There is no transcript ${name}`);
      left.delete(name);
      return shapeOf(old) === shapeOf(text) ? whole : begin + text + end;
    },
  );
  if (left.size > 0) throw new Error(`The page has no place for: ${[...left].join(', ')}`);
  return written;
}
