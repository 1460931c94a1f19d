/** The command line: its commands, their options, and what each exit code says. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import manifest from '../../package.json' with { type: 'json' };
import { parseDuration } from '../duration.js';
import { type AddressOptions, addressOf, prefixOf } from './address.js';
import { Context, type ExitCode } from './command.js';
import { connect, type Ioredis } from './connect.js';
import { doctor } from './doctor.js';
import { tell } from './failure.js';
import { type ForgetOptions, forget } from './forget.js';
import { inspect } from './inspect.js';
import { colorsOf, type Io } from './io.js';
import { LISTED, list } from './list.js';
import { STATES, type State } from './records.js';
import { stats } from './stats.js';
import { readTarget } from './target.js';
import { toJson } from './text.js';

interface Common {
  readonly url?: string;
  readonly cluster: boolean;
  readonly namespace: string;
  readonly keyPrefix: string;
  readonly timeout: number;
  readonly json: boolean;
}

type Act<Options> = (context: Context, options: Options & Common, key: string) => Promise<ExitCode>;

const ENVIRONMENT = `
Environment:
  REDIS_URL        the URL where --url is not given: other users of the machine see no password in it
  REDISCLI_AUTH    the password where the URL has none
  NO_COLOR, FORCE_COLOR, COLUMNS

Exit code: 0 well, 1 found or refused something, 2 could not run, 130 interrupted.`;

const BEHIND_DASHES = 'A key that begins with `-` stands behind `--`, after all options.\n';

/**
 * Runs a command.
 *
 * @param argv without the program's own name
 * @param load gives ioredis, which may be missing
 */
export async function run(
  argv: readonly string[],
  io: Io,
  load: () => Promise<Ioredis> = () => import('ioredis'),
): Promise<ExitCode> {
  let code: ExitCode = 0;
  const program = makeProgram(io, async (options, act) => {
    code = await withContext(io, options, load, act);
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    const ofParser = error instanceof CommanderError;
    if (ofParser && error.exitCode === 0) return 0;
    const told = ofParser ? { code: 'USAGE', message: error.message.replace(/^error: /, '') } : tell(error);
    // The parser has said it by itself.
    if (!ofParser) io.stderr.write(`${colorsOf(io.env, io.stderr).red('error:')} ${told.message}\n`);
    if (ofParser && error.code === 'commander.unknownOption') io.stderr.write(BEHIND_DASHES);
    if (argv.includes('--json')) io.stdout.write(`${toJson({ error: told })}\n`);
    return told.code === 'INTERRUPTED' ? 130 : 2;
  }
}

async function withContext(
  io: Io,
  options: Common,
  load: () => Promise<Ioredis>,
  act: (context: Context) => Promise<ExitCode>,
): Promise<ExitCode> {
  const { cluster, namespace, keyPrefix, timeout: timeoutMs, json } = options;
  prefixOf(namespace, []);
  const target = readTarget(options.url, io.env);
  const session = await connect({ target, cluster, namespace, keyPrefix, timeoutMs }, load);
  try {
    return await act(new Context(io, session, namespace, json));
  } finally {
    await session.close();
  }
}

function makeProgram(
  io: Io,
  start: (options: Common, act: (context: Context) => Promise<ExitCode>) => Promise<void>,
): Command {
  const program = new Command('redis-once')
    .description('Looks at the records of redis-once, and at the server that holds them.')
    .version(manifest.version, '--version')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHelpWidth: () => io.stdout.columns ?? 100,
      getErrHelpWidth: () => io.stderr.columns ?? 100,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .helpCommand(false)
    .option(
      '--url <url>',
      'redis:// or rediss:// (TLS), with user:password@ and /database; default: REDIS_URL, else redis://127.0.0.1:6379',
    )
    .option('--cluster', 'the server is a node of a Cluster: look at all its primaries', false)
    .option('--namespace <name>', 'the `namespace` of the Dedup', 'once')
    .option('--key-prefix <prefix>', 'the `keyPrefix` of the program’s connection', '')
    .addOption(
      new Option('--timeout <duration>', 'the longest to wait for an answer, such as 500ms or 10s')
        .argParser(readDuration)
        .default(5_000, '5s'),
    )
    .option('--json', 'one JSON document in place of text', false)
    .addHelpText('after', ENVIRONMENT);

  const command = <Options>(name: string, description: string, act: Act<Options>): Command => {
    const made = program.command(name).description(description);
    return made.action(async () => {
      const options = made.optsWithGlobals() as Options & Common;
      await start(options, (context) => act(context, options, made.args[0] ?? ''));
    });
  };

  command('doctor', 'Is the server fit to remember? Each line ok, a warning or a danger, and what to do.', doctor);

  scoped(
    command<{ scope: string[]; state: State[]; limit: number }>(
      'list',
      'The records in progress, failed, broken or unreadable: the worst first, of each state the oldest.',
      (context, { scope, state, limit }) => list(context, { scope, states: state, limit }),
    ),
    'only records under this scope; again for the next segment',
  )
    .addOption(
      new Option('--state <state>', `one of ${STATES.join(', ')}; may be given again`)
        .argParser(collectStates)
        .default(LISTED, 'in_progress, failed, broken, unreadable'),
    )
    .option('--limit <count>', 'the most records to show', readLimit, 1_000);

  addressed(
    command<AddressOptions>('inspect', 'How a key stands.', (context, options, key) =>
      inspect(context, addressOf(key, options)),
    ),
  );

  addressed(
    command<AddressOptions & ForgetOptions>(
      'forget',
      'Removes the record of a key, once it has asked: the next call of the key runs its handler again.',
      (context, options, key) => forget(context, addressOf(key, options), options),
    ),
  )
    .option('--yes', 'do not ask', false)
    .option(
      '--force',
      'also a record in progress, whose handler then cannot commit, or one that cannot be read',
      false,
    );

  scoped(
    command<{ scope: string[] }>('stats', 'How many records of each state, and their memory by a sample.', stats),
    'only records under this scope; again for the next segment',
  );
  return program;
}

function addressed(command: Command): Command {
  command.argument('<key>', 'the key as the program gives it; after `--` where it begins with `-`');
  return scoped(command, 'a segment of dedup.scope(…); again for the next')
    .option('--slot <tag>', 'the `slot` of the call')
    .option('--redis-key', 'KEY is the Redis key, as `list` shows it', false);
}

function scoped(command: Command, description: string): Command {
  const collect = (segment: string, before: string[]) => [...before, segment];
  return command.option('--scope <segment>', description, collect, []);
}

function collectStates(text: string, before: readonly State[]): State[] {
  const state = STATES.find((known) => known === text);
  if (!state) throw new InvalidArgumentError(`It is none of ${STATES.join(', ')}.`);
  return before === LISTED ? [state] : [...before, state];
}

function readLimit(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('Expected a whole number from 1 to 999,999.');
  return Number(text);
}

function readDuration(text: string): number {
  const ms = parseDuration(/^\d+$/.test(text) ? Number(text) : text);
  if (ms === undefined || ms < 10 || ms > 600_000) {
    throw new InvalidArgumentError('Expected a whole number of ms, or one with ms, s or m, from 10ms to 10m.');
  }
  return ms;
}
