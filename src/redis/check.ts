/** Is the server fit? What `check` reports: each line is ok, a warning or a danger, with what to do about it. */
import { randomBytes } from 'node:crypto';
import { infoChecks, parseInfo } from './check-info.js';
import { appendFsync, clock, isRefused, latency, permissions, scriptsRun } from './check-probes.js';
import type { Connection } from './connection.js';
import { ExchangeError } from './exchange.js';
import type { ServerConnection } from './ioredis.js';
import type { Scripts } from './scripts.js';
import { versionIn } from './version.js';

export type CheckName =
  | 'version'
  | 'eviction'
  | 'memory'
  | 'persistence'
  | 'replication'
  | 'permissions'
  | 'scripts'
  | 'latency'
  | 'clock';

export interface ServerCheck {
  readonly name: CheckName;
  readonly level: 'ok' | 'warning' | 'danger';
  /** What was found. */
  readonly detail: string;
  /** What to do; where there is something to do. */
  readonly fix?: string;
}

/** One server. */
export interface NodeReport {
  /** Its host and port, or the path of its socket; null where the client does not tell, as behind Sentinel. */
  readonly address: string | null;
  /** Redis or Valkey, and its version; null where INFO is denied. */
  readonly server: string | null;
  /** Of a server that answers to nothing, the one line that says so. */
  readonly checks: readonly ServerCheck[];
}

export interface ServerReport {
  /** Redis or Valkey, and its version; null where INFO is denied. */
  readonly server: string | null;
  /** No line is a danger. */
  readonly ok: boolean;
  /** In a Cluster, each line as it is where it is worst. */
  readonly checks: readonly ServerCheck[];
  /** Every primary of the Cluster, or the one server. */
  readonly nodes: readonly NodeReport[];
}

/** What is looked with, and on whose behalf. */
export interface Looking {
  readonly connection: Connection;
  readonly scripts: Scripts;
  /** The namespace and scopes, escaped and joined: keys under its `::check:` are used, and removed. */
  readonly prefix: string;
  /** Of the hints; empty where there are none. */
  readonly channel: string;
}

/** Of a Cluster's node with a single slot, one key in 16,384 is its own. */
const MOST_TRIED_KEYS = 200_000;
const LEVELS = ['danger', 'warning', 'ok'];

/** @throws ExchangeError when Redis is not reached */
export async function reportOn(looking: Looking): Promise<ServerReport> {
  const { connection, scripts } = looking;
  await connection.ready(scripts.deadline());
  const nodes = await Promise.all(connection.primaries.map((node) => checkNode(looking, node)));
  const checks = worstOf(nodes.flatMap((node) => node.checks));
  return {
    server: nodes.find(({ server }) => server !== null)?.server ?? null,
    ok: checks.every(({ level }) => level !== 'danger'),
    checks,
    nodes,
  };
}

async function checkNode(looking: Looking, node: ServerConnection): Promise<NodeReport> {
  const { connection, scripts } = looking;
  const address = addressOf(node);
  let text: string;
  try {
    text = String(await connection.within(node.call('INFO', []), scripts.deadline()));
  } catch (error) {
    if (!isRefused(error, 'NOPERM')) return { address, server: null, checks: [silence(error, connection.isCluster)] };
    text = '';
  }
  const info = parseInfo(text);
  const version = versionIn(text);
  const key = keyOn(connection, node, `${looking.prefix}::check:`);
  const fsync = info.get('aof_enabled') === '1' ? await appendFsync(looking, node) : undefined;
  const checks = [
    ...infoChecks(version, info, fsync),
    await permissions(looking, node),
    await scriptsRun(scripts, key),
    await latency(looking, node),
    await clock(looking, node),
  ];
  return { address, server: version?.name ?? null, checks };
}

/** A server that is busy or does not answer is a finding; where it is the only one, no answer is the caller's error. */
function silence(error: unknown, isCluster: boolean): ServerCheck {
  if (!(error instanceof ExchangeError)) throw error;
  if (error.code === 'BUSY') {
    return {
      name: 'scripts',
      level: 'danger',
      detail: 'the server is busy with a script of others, and answers nothing else',
      fix: 'Find out whose it is (CLIENT LIST, once it has ended); until then calls wait, and are refused after redisTimeout',
    };
  }
  if (error.code === 'LOADING') {
    const fix = 'Wait: until it has, calls wait, and are refused after redisTimeout';
    return { name: 'persistence', level: 'danger', detail: 'the server is loading its data', fix };
  }
  if (!isCluster) throw error;
  return {
    name: 'latency',
    level: 'danger',
    detail: error.message,
    fix: 'Calls for keys of this node fail: see to it',
  };
}

/** Each kind of line once, in order, as it is where it is worst. */
function worstOf(checks: readonly ServerCheck[]): ServerCheck[] {
  const worst = new Map<CheckName, ServerCheck>();
  for (const check of checks) {
    const known = worst.get(check.name);
    if (!known || LEVELS.indexOf(check.level) < LEVELS.indexOf(known.level)) worst.set(check.name, check);
  }
  return [...worst.values()];
}

/** A key that this server has; none where it serves no slots, or the `keyPrefix` puts all keys into another's. */
function keyOn(connection: Connection, node: ServerConnection, prefix: string): string | undefined {
  const random = randomBytes(16).toString('hex');
  for (let tried = 0; tried < MOST_TRIED_KEYS; tried += 1) {
    const key = `${prefix}${random}:${tried}`;
    if (connection.serverOf(key) === node) return key;
  }
  return undefined;
}

function addressOf({ options: { host, port, path } }: ServerConnection): string | null {
  if (path) return path;
  return host && port ? `${host.includes(':') ? `[${host}]` : host}:${port}` : null;
}
