/** Is the server fit to remember? A record that is evicted is an effect that happens twice. */
import type { Connection } from './connection.js';
import type { ExchangeError } from './exchange.js';
import { versionIn } from './version.js';

/** What INFO tells of the server; `policy` null where it could not be read. */
export interface Fitness {
  /** The name and version of a server that is too old to be used. */
  readonly tooOld: string | undefined;
  readonly evicts: boolean;
  readonly policy: string | null;
  /** Null where it could not be read, and in Cluster, where each node has its own. */
  readonly history: History | null;
  /** Every primary was asked. In Cluster one may be out of reach, which is no matter for what the others have. */
  readonly isWhole: boolean;
}

type Memory = Pick<Fitness, 'evicts' | 'policy'>;

/** Where in which sequence of writes a primary is: https://redis.io/docs/latest/operate/oss_and_stack/management/replication/ */
export interface History {
  readonly id: string;
  readonly offset: number;
  /** The history that it went on from when it was promoted, and up to where. */
  readonly before: { readonly id: string; readonly offset: number };
}

const reports = new WeakMap<Connection, { epoch: number; report: Promise<Fitness> }>();

/**
 * Asks once per connection and again after a reconnect. INFO, since CONFIG is often denied.
 *
 * @throws ExchangeError when Redis is not reached
 */
export function fitnessOf(connection: Connection, deadline: number): Promise<Fitness> {
  const known = reports.get(connection);
  if (known?.epoch === connection.epoch) return known.report;
  const report = read(connection, deadline);
  reports.set(connection, { epoch: connection.epoch, report });
  // Only a good report is kept: a policy may be set right while the connection stands.
  report.then(
    ({ evicts, isWhole }) => (evicts || !isWhole) && reports.delete(connection),
    () => reports.delete(connection),
  );
  return report;
}

async function read(connection: Connection, deadline: number): Promise<Fitness> {
  const answers = await askMasters(connection, deadline);
  const infos = answers.filter((answer) => typeof answer === 'string');
  if (infos.length === 0) throw answers[0];
  const tooOld = infos.map(versionIn).find((version) => version?.isTooOld)?.name;
  const nodes = infos.map(parseMemoryInfo);
  const worst = nodes.find(({ evicts }) => evicts) ?? nodes.find(({ policy }) => policy === null) ?? nodes[0];
  const history = connection.isCluster ? null : parseReplicationInfo(infos[0] as string);
  return { tooOld, ...(worst as Memory), history, isWhole: infos.length === answers.length };
}

/**
 * Does a server that answers after a reconnect have all that was known of the one before? `behind`: it lacks some of it;
 * `unproven`: it was started or promoted since, and what was written after the last look cannot be told.
 */
export function lossBetween(earlier: History, now: History): 'behind' | 'unproven' | undefined {
  if (now.id === earlier.id) return now.offset < earlier.offset ? 'behind' : undefined;
  if (now.before.id === earlier.id && now.before.offset < earlier.offset) return 'behind';
  return 'unproven';
}

/** INFO of every primary: an empty text where the user may not ask, an error in the place of each that is not reached. */
async function askMasters(connection: Connection, deadline: number) {
  const denied = (error: unknown) => {
    if ((error as ExchangeError).code === 'NOPERM') return '';
    throw error;
  };
  if (!connection.isCluster) return [await connection.command('info', [], deadline).then(String, denied)];
  // One that is ready knows its nodes.
  await connection.ready(deadline);
  const asked = connection.primaries.map((node) =>
    connection.within(node.call('info', []), deadline).then(String, denied),
  );
  return Promise.all(asked.map((answer) => answer.catch((error) => error as ExchangeError)));
}

function parseMemoryInfo(info: string): Memory {
  const maxmemory = /^maxmemory:(\d+)/m.exec(info)?.[1];
  const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1];
  if (maxmemory === undefined || policy === undefined) return { evicts: false, policy: null };
  return { evicts: maxmemory !== '0' && policy !== 'noeviction', policy };
}

function parseReplicationInfo(info: string): History | null {
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1];
  const [id, offset] = [field('master_replid'), field('master_repl_offset')];
  if (id === undefined || offset === undefined) return null;
  // The first offset that the two do not share.
  const before = { id: field('master_replid2') ?? '', offset: Number(field('second_repl_offset') ?? 0) - 1 };
  return { id, offset: Number(offset), before };
}
