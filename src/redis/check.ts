/** Is the server fit? What `check` reports: each line is ok, a warning or a danger, with what to do about it. */
import { performance } from 'node:perf_hooks';
import { newToken } from '../token.js';
import { type Connection, ExchangeError } from './connection.js';
import type { Scripts } from './scripts.js';
import { masters } from './server.js';

export type CheckName =
  | 'version'
  | 'eviction'
  | 'memory'
  | 'persistence'
  | 'replication'
  | 'permissions'
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

export interface ServerReport {
  /** Redis or Valkey, and its version; null where INFO is denied. */
  readonly server: string | null;
  /** No line is a danger. */
  readonly ok: boolean;
  readonly checks: readonly ServerCheck[];
}

type Info = Map<string, string>;

const OLDEST = [6, 2];
const SLOW_MS = 20;
const SKEW_MS = 5_000;
const LITTLE_HEADROOM = 0.1;

/**
 * Looks at every primary; a line tells the worst of them.
 *
 * @param probeKey a key of the library's own, used and removed
 * @throws ExchangeError when Redis is not reached
 */
export async function checkServer(connection: Connection, scripts: Scripts, probeKey: string): Promise<ServerReport> {
  const nodes = await masters(connection, scripts.deadline(), []);
  const infos = nodes.map(parseInfo);
  const checks = [
    ...[version, eviction, memory, persistence, replication].map((look) => worst(infos.map(look))),
    await permissions(scripts, probeKey),
    await latency(connection, scripts),
    await clock(connection, scripts),
  ];
  const [info] = infos as [Info];
  return { server: nameOf(info), ok: checks.every(({ level }) => level !== 'danger'), checks };
}

function parseInfo(text: string): Info {
  return new Map(
    [...text.matchAll(/^([\w-]+):(.*?)\r?$/gm)].map(([, name, value]) => [name as string, value as string]),
  );
}

function nameOf(info: Info): string | null {
  if (info.has('valkey_version')) return `Valkey ${info.get('valkey_version')}`;
  return info.has('redis_version') ? `Redis ${info.get('redis_version')}` : null;
}

function worst(checks: ServerCheck[]): ServerCheck {
  const order = ['danger', 'warning', 'ok'];
  return [...checks].sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level))[0] as ServerCheck;
}

function unread(name: CheckName): ServerCheck {
  return { name, level: 'warning', detail: 'INFO cannot be read', fix: 'Allow the user INFO, or look for yourself' };
}

function version(info: Info): ServerCheck {
  const text = info.get('redis_version');
  if (text === undefined) return unread('version');
  const [major = 0, minor = 0] = text.split('.').map(Number);
  const detail = nameOf(info) as string;
  if (major > (OLDEST[0] as number) || (major === OLDEST[0] && minor >= (OLDEST[1] as number))) {
    return { name: 'version', level: 'ok', detail };
  }
  return { name: 'version', level: 'danger', detail, fix: 'Use Redis 6.2 or later, or Valkey' };
}

function eviction(info: Info): ServerCheck {
  const policy = info.get('maxmemory_policy');
  if (policy === undefined) return unread('eviction');
  if (policy === 'noeviction') return { name: 'eviction', level: 'ok', detail: 'noeviction' };
  if (info.get('maxmemory') === '0') {
    const fix = 'Set maxmemory-policy to noeviction before a maxmemory is set';
    return { name: 'eviction', level: 'warning', detail: `${policy}, without a maxmemory`, fix };
  }
  return {
    name: 'eviction',
    level: 'danger',
    detail: `${policy}: records may be evicted`,
    fix: 'Set maxmemory-policy to noeviction',
  };
}

function memory(info: Info): ServerCheck {
  const [used, limit] = [Number(info.get('used_memory')), Number(info.get('maxmemory'))];
  if (Number.isNaN(used) || Number.isNaN(limit)) return unread('memory');
  const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(0)} MiB`;
  if (limit === 0) return { name: 'memory', level: 'ok', detail: `${mib(used)} used, no maxmemory` };
  const detail = `${mib(used)} of ${mib(limit)} used`;
  if (used > limit * (1 - LITTLE_HEADROOM)) {
    return {
      name: 'memory',
      level: 'warning',
      detail,
      fix: 'New work is refused when memory is full: raise maxmemory or shorten the retention',
    };
  }
  return { name: 'memory', level: 'ok', detail };
}

function persistence(info: Info): ServerCheck {
  const aof = info.get('aof_enabled');
  if (aof === undefined) return unread('persistence');
  if (info.get('aof_last_write_status') === 'err' || info.get('rdb_last_bgsave_status') === 'err') {
    return {
      name: 'persistence',
      level: 'danger',
      detail: 'the last write to disk failed',
      fix: 'See the server log: writes may be refused (MISCONF)',
    };
  }
  if (aof === '1') return { name: 'persistence', level: 'ok', detail: 'append-only file' };
  const fix = 'A restart forgets what came after the last snapshot, and it runs again: set appendonly yes';
  return { name: 'persistence', level: 'warning', detail: 'no append-only file', fix };
}

function replication(info: Info): ServerCheck {
  const role = info.get('role');
  if (role === undefined) return unread('replication');
  if (role !== 'master') {
    return { name: 'replication', level: 'danger', detail: 'a read-only replica', fix: 'Connect to the primary' };
  }
  const replicas = Number(info.get('connected_slaves') ?? 0);
  if (replicas === 0) return { name: 'replication', level: 'ok', detail: 'a primary without replicas' };
  const fix = 'Replication is asynchronous: a failover can lose the last results, and then their handlers run again';
  return { name: 'replication', level: 'warning', detail: `a primary with ${replicas} replicas`, fix };
}

/** Plays a whole life, as the scripts will. */
async function permissions(scripts: Scripts, probeKey: string): Promise<ServerCheck> {
  const token = newToken();
  const [leaseMs, ttlMs] = [1_000, 60_000];
  try {
    const claim = {
      token,
      fingerprint: '',
      lease_ms: leaseMs,
      ttl_ms: ttlMs,
      retention_ms: ttlMs,
      max_attempts: 0,
      waits: '0',
    };
    const { fields } = await scripts.call('claim', probeKey, claim);
    const [, fence, born] = fields.map(String) as [string, string, string];
    await scripts.call('renew', probeKey, { token, fence, lease_ms: leaseMs, ttl_ms: ttlMs });
    await scripts.call('commit', probeKey, {
      token,
      fence,
      born,
      run: 0,
      retention_ms: ttlMs,
      channel: '',
      result: '',
    });
    await scripts.call('inspect', probeKey, {});
    await scripts.call('forget', probeKey, { force: '1' });
    return { name: 'permissions', level: 'ok', detail: 'all scripts run' };
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    return {
      name: 'permissions',
      level: 'danger',
      detail: error.message,
      fix: 'See docs/operations.md for what the Redis user needs',
    };
  }
}

async function latency(connection: Connection, scripts: Scripts): Promise<ServerCheck> {
  const times: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    const start = performance.now();
    await connection.command('ping', [], scripts.deadline());
    times.push(performance.now() - start);
  }
  const median = times.sort((a, b) => a - b)[2] as number;
  const detail = `${median.toFixed(1)} ms a round trip`;
  if (median <= SLOW_MS) return { name: 'latency', level: 'ok', detail };
  return { name: 'latency', level: 'warning', detail, fix: 'Every call pays two round trips: bring Redis nearer' };
}

async function clock(connection: Connection, scripts: Scripts): Promise<ServerCheck> {
  const [seconds, micros] = ((await connection.command('time', [], scripts.deadline())) as string[]).map(Number) as [
    number,
    number,
  ];
  const skewMs = Math.round(Math.abs(seconds * 1_000 + micros / 1_000 - Date.now()));
  const detail = `${skewMs} ms apart from this process`;
  if (skewMs <= SKEW_MS) return { name: 'clock', level: 'ok', detail };
  return {
    name: 'clock',
    level: 'warning',
    detail,
    fix: 'Leases and retentions follow the server clock: see to its synchronisation',
  };
}
