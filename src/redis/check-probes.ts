/** The lines of a report that are tried out on the server. */
import { performance } from 'node:perf_hooks';
import { newToken } from '../token.js';
import type { CheckName, Looking, ServerCheck } from './check.js';
import { ExchangeError } from './exchange.js';
import type { ServerConnection } from './ioredis.js';
import type { Scripts } from './scripts.js';

const SLOW_MS = 20;
const SPIKE_MS = 250;
const PINGS = 50;
const FEWEST_PINGS = 5;
/** A far server is not asked for longer. */
const LONGEST_PINGING_MS = 1_000;
const SKEW_MS = 5_000;
const CLOCK_READINGS = 5;

/** What to do about what the scripts were refused for. */
const FIXES: Record<string, string> = {
  OOM: 'Memory is full, and new work is refused: raise maxmemory or shorten the retention',
  READONLY: 'Connect to the primary',
  MISCONF: 'It refuses writes since it cannot persist them: see the server log',
  NOREPLICAS: 'It refuses writes for want of replicas (min-replicas-to-write): see to them',
  NOPERM: 'Grant it to the Redis user: the page on operations in the documentation has all that one needs',
  BUSY: 'A script of others holds the server: find out whose it is',
  CLUSTERDOWN: 'The Cluster lacks a node or slots: see CLUSTER INFO',
};

/** For refusals that are not among these. */
const ELSE = 'The page on errors in the documentation says what it means';

/**
 * Which of a list of commands, each a list of words, the user may not give. An array of their indexes, from 0; false where
 * the server cannot tell, before Redis 7.0. It asks, and runs none of them.
 */
const REFUSED_BY_ACL = `
if not redis.acl_check_cmd then return false end
local refused = {}
for index, words in ipairs(cjson.decode(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if not (known and allowed) then refused[#refused + 1] = index - 1 end
end
return refused`;

export function isRefused(error: unknown, code: string): boolean {
  return error instanceof ExchangeError && error.code === code;
}

/** May the user do what calls need, what wakes waiters, and what sets of seen ids need? */
export async function permissions(
  { connection, scripts, ...looking }: Looking,
  node: ServerConnection,
): Promise<ServerCheck> {
  const name = 'permissions';
  const prefix = connection.keyPrefix + looking.prefix;
  const [calls, hints, sets] = [
    commandsOfCalls(`${prefix}:check`),
    looking.channel === '' ? [] : commandsOfHints(looking.channel),
    commandsOfSets(`{0}:${prefix}::seen:check:0`),
  ];
  const words = JSON.stringify([...calls, ...hints, ...sets]);
  let refused: unknown;
  try {
    refused = await connection.within(node.call('EVAL', [REFUSED_BY_ACL, '0', words]), scripts.deadline());
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    const fix = FIXES[error.code ?? ''] ?? ELSE;
    return { name, level: 'danger', detail: `EVAL: ${error.message}`, fix };
  }
  if (!Array.isArray(refused)) {
    return { name, level: 'ok', detail: 'not told by this server; the scripts below say' };
  }
  const missing = (from: number, commands: string[][]) =>
    commands.filter((_, index) => refused.includes(from + index)).map(([command = '']) => command.toLowerCase());
  const [forCalls, forHints, forSets] = [
    missing(0, calls),
    missing(calls.length, hints),
    missing(calls.length + hints.length, sets),
  ];
  if (forCalls.length > 0) {
    const detail = `not for keys \`${prefix}:*\`: ${forCalls.join(', ')}`;
    return { name, level: 'danger', detail, fix: FIXES.NOPERM as string };
  }
  if (forHints.length > 0) {
    const detail = `not for the channel \`${looking.channel}\`: ${forHints.join(', ')}`;
    const fix = 'Waiters poll, which is slower: grant it to the Redis user';
    return { name, level: 'warning', detail, fix };
  }
  const but = forSets.length > 0 ? `, but for sets of seen ids: ${forSets.join(', ')}` : '';
  return { name, level: 'ok', detail: `all that calls need${but}` };
}

function commandsOfCalls(key: string): string[][] {
  const [evalsha, evaluate] = ['EVALSHA', 'EVAL'].map((command) => [command, 'x', '1', key]) as [string[], string[]];
  return [
    evalsha,
    evaluate,
    ['GET', key],
    ['SET', key, 'x'],
    ['SETRANGE', key, '0', 'x'],
    ['PEXPIRE', key, '1'],
    ['PTTL', key],
    ['UNLINK', key],
    ['TIME'],
  ];
}

function commandsOfHints(channel: string): string[][] {
  return [
    ['PUBLISH', channel, 'x'],
    ['SUBSCRIBE', channel],
    ['UNSUBSCRIBE', channel],
  ];
}

function commandsOfSets(key: string): string[][] {
  return [
    ['SADD', key, '1'],
    ['SMISMEMBER', key, '1'],
    ['PEXPIREAT', key, '1'],
  ];
}

/** Plays a whole life, as calls will. */
export async function scriptsRun(scripts: Scripts, key: string | undefined): Promise<ServerCheck> {
  if (key === undefined)
    return { name: 'scripts', level: 'ok', detail: 'not tried: this node has no keys of the namespace' };
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
    const { fields } = await scripts.call('claim', key, claim);
    const [, fence, born] = fields.map(String) as [string, string, string];
    await scripts.call('renew', key, { token, fence, lease_ms: leaseMs, ttl_ms: ttlMs });
    await scripts.call('commit', key, { token, fence, born, run: 0, retention_ms: ttlMs, channel: '', result: '' });
    await scripts.call('inspect', key, {});
    await scripts.call('forget', key, { force: '1' });
    return { name: 'scripts', level: 'ok', detail: 'claim, renew, commit, inspect and forget run' };
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error;
    const fix = FIXES[error.code ?? ''] ?? ELSE;
    return { name: 'scripts', level: 'danger', detail: error.message, fix };
  }
}

export async function latency({ connection, scripts }: Looking, node: ServerConnection): Promise<ServerCheck> {
  const name = 'latency';
  const times: number[] = [];
  const begin = performance.now();
  try {
    while (times.length < PINGS && (times.length < FEWEST_PINGS || performance.now() - begin < LONGEST_PINGING_MS)) {
      const start = performance.now();
      await connection.within(node.call('PING', []), scripts.deadline());
      times.push(performance.now() - start);
    }
  } catch (error) {
    return untried(name, 'PING', error);
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.ceil(times.length * share) - 1] as number;
  const [p50, p99] = [at(0.5), at(0.99)];
  const detail = `${p50.toFixed(1)} ms a round trip, 99 % within ${p99.toFixed(1)} ms (${times.length} PINGs)`;
  if (p50 > SLOW_MS) {
    return { name, level: 'warning', detail, fix: 'Every call pays two round trips: bring Redis nearer' };
  }
  if (p99 > SPIKE_MS) {
    return { name, level: 'warning', detail, fix: 'Something holds the server or this process up: see SLOWLOG' };
  }
  return { name, level: 'ok', detail };
}

/** By the reading that took the least time, whose middle is when the server read its clock, give or take half of it. */
export async function clock({ connection, scripts }: Looking, node: ServerConnection): Promise<ServerCheck> {
  const name = 'clock';
  let best = { aheadMs: 0, tookMs: Number.POSITIVE_INFINITY };
  try {
    for (let reading = 0; reading < CLOCK_READINGS; reading += 1) {
      const [start, startedAt] = [performance.now(), Date.now()];
      const reply = await connection.within(node.call('TIME', []), scripts.deadline());
      const tookMs = performance.now() - start;
      const [seconds = 0, micros = 0] = (reply as (string | number)[]).map(Number);
      if (tookMs < best.tookMs) best = { aheadMs: seconds * 1_000 + micros / 1_000 - startedAt - tookMs / 2, tookMs };
    }
  } catch (error) {
    return untried(name, 'TIME', error);
  }
  const aheadMs = Math.round(best.aheadMs);
  const apart = `${Math.abs(aheadMs).toLocaleString('en-US')} ms ${aheadMs < 0 ? 'behind' : 'ahead of'}`;
  const detail = `${aheadMs === 0 ? 'as' : apart} this process, give or take ${Math.ceil(best.tookMs / 2)} ms`;
  if (Math.abs(aheadMs) <= SKEW_MS) return { name, level: 'ok', detail };
  return {
    name,
    level: 'warning',
    detail,
    fix: 'Leases and retentions follow the server clock alone: that it differs does no harm, that it is set right by a jump does. See to its synchronisation',
  };
}

/** Where the policy may be read; CONFIG is often denied. */
export async function appendFsync(
  { connection, scripts }: Looking,
  node: ServerConnection,
): Promise<string | undefined> {
  try {
    const reply = await connection.within(node.call('CONFIG', ['GET', 'appendfsync']), scripts.deadline());
    // A list of names and values, or by the client's own mapping a Map or an object.
    if (Array.isArray(reply)) return String(reply.flat()[1]);
    return String(reply instanceof Map ? reply.get('appendfsync') : (reply as Record<string, unknown>).appendfsync);
  } catch (error) {
    if (error instanceof ExchangeError) return undefined;
    throw error;
  }
}

function untried(name: CheckName, command: string, error: unknown): ServerCheck {
  if (!(error instanceof ExchangeError)) throw error;
  const fix = error.code === 'NOPERM' ? `Allow the user ${command}` : (FIXES[error.code ?? ''] ?? ELSE);
  return { name, level: 'warning', detail: `${command}: ${error.message}`, fix };
}
