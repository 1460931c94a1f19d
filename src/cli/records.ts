/** Records as the commands show them, one by one or all of a namespace. */
import { inspectRecord } from '../call/records.js';
import { storeUnavailable } from '../call/verdicts.js';
import { isDedupError } from '../errors.js';
import { readRecordKey } from '../key.js';
import type { RecordInfo } from '../outcome.js';
import { ExchangeError } from '../redis/exchange.js';
import type { ServerConnection } from '../redis/ioredis.js';
import { type Address, argumentsOf } from './address.js';
import { type Session, serverNowMs } from './connect.js';

/** `unreadable`: under a record's key is what no version of the library that this one knows has written. */
export type State = RecordInfo['state'] | 'unreadable';

export const STATES: readonly State[] = ['broken', 'unreadable', 'failed', 'in_progress', 'released', 'completed'];

/** One record, as `--json` gives it; docs/cli.md. */
export interface Entry {
  readonly key: string | null;
  readonly scope: readonly (string | null)[];
  readonly slot: string | null;
  readonly redisKey: string;
  readonly arguments: readonly string[];
  readonly state: State;
  readonly attempt: number | null;
  readonly fence: number | null;
  /** Since the last attempt took the key. */
  readonly ageMs: number | null;
  readonly leaseRemainingMs: number | null;
  /** Null for a record that stays. */
  readonly expiresInMs: number | null;
  readonly resultBytes: number | null;
  readonly fingerprint: string | null;
}

/** What stands under a record's key; `info` null where it cannot be read. */
export interface Found {
  readonly address: Address;
  readonly info: RecordInfo | null;
}

export function stateOf({ info }: Found): State {
  return info?.state ?? 'unreadable';
}

/** @param serverNowMs by the server's clock, which fences are of */
export function entryOf({ address, info }: Found, serverNowMs: number): Entry {
  const { redisKey, names } = address;
  return {
    key: names.key,
    scope: names.scope,
    slot: names.slot,
    redisKey,
    arguments: argumentsOf(address),
    state: info?.state ?? 'unreadable',
    attempt: info?.attempt ?? null,
    fence: info?.fence ?? null,
    // A fence is the time of its claim, in µs, unless the clock has gone back since.
    ageMs: info && Math.max(0, Math.round(serverNowMs - info.fence / 1_000)),
    leaseRemainingMs: info?.leaseRemainingMs ?? null,
    expiresInMs: info && Number.isFinite(info.expiresInMs) ? info.expiresInMs : null,
    resultBytes: info?.resultBytes ?? null,
    fingerprint: info?.fingerprint ?? null,
  };
}

/**
 * How a key stands; null where there is no record.
 *
 * @throws StoreUnavailableError
 */
async function look({ parts }: Session, address: Address): Promise<Found | null> {
  const { redisKey, names } = address;
  try {
    const info = await inspectRecord(parts, { key: names.key ?? redisKey, redisKey });
    return info && { address, info };
  } catch (error) {
    if (!isDedupError(error, 'CODEC')) throw error;
    return { address, info: null };
  }
}

/** As `look`, in full. */
export async function inspectEntry(session: Session, address: Address): Promise<Entry | null> {
  const found = await look(session, address);
  return found && entryOf(found, await serverNowMs(session));
}

export interface Walk {
  readonly session: Session;
  /** Of the keys that count: the namespace and scopes, escaped and joined. */
  readonly prefix: string;
  readonly signal: AbortSignal;
  /** How many keys of all have been passed, nearly. */
  readonly onProgress: (passed: number, all: number | undefined) => void;
}

/** Enough that a million keys are a thousand round trips, and few enough that none of them holds the server up. */
const SCAN_COUNT = 1_000;
/** Each is read on the server as a whole, whatever its result: so many at once. */
const INSPECTED_AT_ONCE = 64;

/**
 * The keys of the namespace, page by page, by SCAN on each primary. A key that is there all the time comes at least once,
 * and may come twice, as SCAN has it. Ends early when the signal aborts.
 */
async function* keysOf({ session, prefix, signal, onProgress }: Walk): AsyncGenerator<string[]> {
  const { connection, scripts } = session.parts;
  const { keyPrefix, primaries } = connection;
  // A slot may stand before the namespace, whose own characters mean nothing to SCAN.
  const pattern = `${escapeGlob(keyPrefix)}*${prefix}:*`;
  const ask = async (server: ServerConnection, command: string, args: string[]) => {
    try {
      return await connection.within(server.call(command, args), scripts.deadline());
    } catch (error) {
      if (!(error instanceof ExchangeError)) throw error;
      throw storeUnavailable(undefined, error, `${command} was not answered`);
    }
  };
  const all = await sizeOf(primaries.map((server) => ask(server, 'DBSIZE', [])));
  let passed = 0;
  for (const server of primaries) {
    let cursor = '0';
    do {
      const page = await ask(server, 'SCAN', [cursor, 'MATCH', pattern, 'COUNT', String(SCAN_COUNT)]);
      const [next, keys] = page as [string, string[]];
      cursor = String(next);
      passed += SCAN_COUNT;
      onProgress(all === undefined ? passed : Math.min(passed, all), all);
      yield keys.map((key) => key.slice(keyPrefix.length));
    } while (cursor !== '0' && !signal.aborted);
    if (signal.aborted) return;
  }
}

/** The records among the keys, page by page. */
export async function* recordsOf(walk: Walk, namespace: string): AsyncGenerator<Found[]> {
  for await (const keys of keysOf(walk)) {
    const addresses = keys.flatMap((redisKey) => addressIn(redisKey, namespace, walk.prefix) ?? []);
    for (let from = 0; from < addresses.length; from += INSPECTED_AT_ONCE) {
      const some = addresses.slice(from, from + INSPECTED_AT_ONCE);
      const looks = await Promise.all(some.map((address) => look(walk.session, address)));
      yield looks.filter((found) => found !== null);
    }
  }
}

/** @param namespace and `prefix` escaped */
function addressIn(redisKey: string, namespace: string, prefix: string): Address | undefined {
  const names = readRecordKey(redisKey, namespace);
  if (!names) return undefined;
  const path = names.slot === null ? redisKey : redisKey.slice(names.slot.length + 3);
  return path.startsWith(`${prefix}:`) ? { redisKey, names } : undefined;
}

/** Undefined where the user may not ask. */
async function sizeOf(sizes: Promise<unknown>[]): Promise<number | undefined> {
  try {
    return (await Promise.all(sizes)).reduce<number>((sum, size) => sum + Number(size), 0);
  } catch {
    return undefined;
  }
}

function escapeGlob(text: string): string {
  return text.replace(/[\\*?[\]^]/g, String.raw`\$&`);
}
