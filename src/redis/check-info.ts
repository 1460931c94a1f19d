/** The lines of a report that are read from INFO. */
import type { CheckName, ServerCheck } from './check.js';
import { NEEDED_SERVER, type ServerVersion } from './version.js';

export type Info = ReadonlyMap<string, string>;

const LITTLE_HEADROOM_PERCENT = 10;
const FAR_BEHIND_S = 10;
const MIB = 1024 * 1024;

export function parseInfo(text: string): Info {
  return new Map(
    [...text.matchAll(/^([\w-]+):(.*?)\r?$/gm)].map(([, name, value]) => [name as string, value as string]),
  );
}

/** @param fsync the policy of the append-only file; undefined where it cannot be read */
export function infoChecks(found: ServerVersion | null, info: Info, fsync: string | undefined): ServerCheck[] {
  return [version(found), eviction(info), memory(info), persistence(info, fsync), replication(info)];
}

function unread(name: CheckName): ServerCheck {
  return { name, level: 'warning', detail: 'INFO cannot be read', fix: 'Allow the user INFO, or look for yourself' };
}

function version(found: ServerVersion | null): ServerCheck {
  if (found === null) return unread('version');
  const { name: detail, isTooOld } = found;
  if (!isTooOld) return { name: 'version', level: 'ok', detail };
  return { name: 'version', level: 'danger', detail, fix: `Use ${NEEDED_SERVER}` };
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

/** Without a maxmemory, the machine's own is the limit. */
function memory(info: Info): ServerCheck {
  const [used, limit] = [Number(info.get('used_memory')), Number(info.get('maxmemory'))];
  if (Number.isNaN(used) || Number.isNaN(limit)) return unread('memory');
  const most = limit || Number(info.get('total_system_memory') ?? 0);
  const mib = (bytes: number) => `${Math.round(bytes / MIB).toLocaleString('en-US')} MiB`;
  if (most === 0) return { name: 'memory', level: 'ok', detail: `${mib(used)} used, no maxmemory` };
  const freePercent = Math.max(0, Math.floor((1 - used / most) * 100));
  const of = limit ? `of ${mib(limit)} used` : `used, no maxmemory, of a machine of ${mib(most)}`;
  const detail = `${mib(used)} ${of}: ${freePercent} % free`;
  if (freePercent >= LITTLE_HEADROOM_PERCENT) return { name: 'memory', level: 'ok', detail };
  const fix = limit
    ? 'New work is refused when memory is full: raise maxmemory or shorten the retention'
    : 'The machine ends a Redis that takes all its memory: set a maxmemory, give it more or shorten the retention';
  return { name: 'memory', level: 'warning', detail, fix };
}

function persistence(info: Info, fsync: string | undefined): ServerCheck {
  const aof = info.get('aof_enabled');
  if (aof === undefined) return unread('persistence');
  if (info.get('aof_last_write_status') === 'err' || info.get('rdb_last_bgsave_status') === 'err') {
    return {
      name: 'persistence',
      level: 'danger',
      detail: `the last ${info.get('rdb_last_bgsave_status') === 'err' ? 'snapshot' : 'write to the append-only file'} failed`,
      fix: 'See the server log: writes may be refused (MISCONF)',
    };
  }
  if (aof !== '1') {
    const fix = 'A restart forgets what is in no snapshot, and it runs again: set appendonly yes';
    return { name: 'persistence', level: 'warning', detail: 'no append-only file', fix };
  }
  const detail = `append-only file, ${fsync ? `appendfsync ${fsync}` : 'appendfsync cannot be read'}`;
  if (fsync !== 'no') return { name: 'persistence', level: 'ok', detail };
  const fix = 'A machine that dies forgets what the kernel had not written yet: set appendfsync everysec or always';
  return { name: 'persistence', level: 'warning', detail, fix };
}

function replication(info: Info): ServerCheck {
  const role = info.get('role');
  if (role === undefined) return unread('replication');
  if (role !== 'master') {
    return { name: 'replication', level: 'danger', detail: 'a read-only replica', fix: 'Connect to the primary' };
  }
  const replicas = replicasOf(info);
  if (replicas.length === 0) return { name: 'replication', level: 'ok', detail: 'a primary without replicas' };
  const behindBytes = Math.max(...replicas.map(({ offset }) => Number(info.get('master_repl_offset')) - offset), 0);
  const behindS = Math.max(...replicas.map(({ lagS }) => lagS), 0);
  const good = info.get('min_slaves_good_slaves');
  const detail = [
    `a primary with ${replicas.length} ${replicas.length === 1 ? 'replica' : 'replicas'}`,
    `the furthest ${behindS} s and ${behindBytes.toLocaleString('en-US')} bytes behind`,
    good === undefined ? 'min-replicas-to-write is not set' : `min-replicas-to-write is set and ${good} count`,
  ].join(', ');
  const lost = replicas.filter(({ state }) => state !== 'online').length;
  const fix =
    lost > 0 || behindS > FAR_BEHIND_S
      ? 'A replica is not up to date: were it promoted, all since then would run again. See to it'
      : 'Replication is asynchronous: a failover can lose the last results, and then their handlers run again. Where that must not be, use `durability`';
  return { name: 'replication', level: 'warning', detail, fix };
}

/** `slave0:ip=…,port=…,state=online,offset=…,lag=…` */
function replicasOf(info: Info): { state: string | undefined; offset: number; lagS: number }[] {
  return [...info]
    .filter(([name]) => /^slave\d+$/.test(name))
    .map(([, text]) => {
      const fields = new Map(text.split(',').map((field) => field.split('=') as [string, string]));
      return {
        state: fields.get('state'),
        offset: Number(fields.get('offset') ?? 0),
        lagS: Number(fields.get('lag') ?? 0),
      };
    });
}
