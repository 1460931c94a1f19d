/** A connection of the command's own, and what is said where there is none. */
import type { Cluster, Redis } from 'ioredis';
import type { Parts } from '../call/parts.js';
import { Dedup } from '../dedup.js';
import { INSIDE } from '../inside.js';
import { Failure } from './failure.js';
import { placeOf, type Target } from './target.js';

export interface ConnectOptions {
  readonly target: Target;
  readonly cluster: boolean;
  readonly namespace: string;
  readonly keyPrefix: string;
  readonly timeoutMs: number;
}

export interface Session {
  readonly dedup: Dedup;
  readonly parts: Parts;
  /** The server that was named, without the login. */
  readonly place: string;
  close(): Promise<void>;
}

export type Ioredis = Pick<typeof import('ioredis'), 'Redis' | 'Cluster'>;

const LONGEST_KEY_BYTES = 64 * 1024;
const LOGIN_MISSING = /^NOAUTH/;
const LOGIN_REFUSED = /^WRONGPASS|invalid (username-)?password|AUTH.*without any password/i;

/**
 * @param load ioredis, a peer of the package, which may be missing
 * @throws Failure
 */
export async function connect(options: ConnectOptions, load: () => Promise<Ioredis>): Promise<Session> {
  const { Redis, Cluster } = await load().catch((cause: unknown) => {
    throw new Failure('NO_IOREDIS', 'ioredis is not installed beside redis-once: npm install ioredis', { cause });
  });
  const { target, cluster, keyPrefix, timeoutMs } = options;
  const { host, port, username, password, db, tls } = target;
  if (cluster && db !== 0) throw new Failure('USAGE', 'A Cluster has no database but 0: leave the number away');
  const login = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls ? { tls: {} } : {}),
    connectTimeout: timeoutMs,
    connectionName: 'redis-once-cli',
  };
  const one = new Redis({
    ...login,
    host,
    port,
    family: 0,
    db,
    keyPrefix: cluster ? '' : keyPrefix,
    lazyConnect: true,
    // Whether it is ready is asked by each command: one that is loading can be looked at.
    enableReadyCheck: false,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
  });
  await open(one, target, timeoutMs);
  try {
    await checkKind(one, target, cluster);
  } catch (error) {
    one.disconnect();
    throw error;
  }
  if (!cluster) return sessionOf(one, options);
  one.disconnect();
  const all = new Cluster([{ host, port }], {
    keyPrefix,
    lazyConnect: true,
    enableReadyCheck: false,
    clusterRetryStrategy: () => null,
    slotsRefreshTimeout: timeoutMs,
    redisOptions: { ...login, family: 0 },
    // The name in a certificate is that which the Cluster announces, not the address that it leads to.
    ...(tls ? { dnsLookup: (name: string, found: (error: null, address: string) => void) => found(null, name) } : {}),
  });
  await open(all, target, timeoutMs);
  return sessionOf(all, options);
}

/** Connects and is answered, or says why not. */
async function open(redis: Redis | Cluster, target: Target, timeoutMs: number): Promise<void> {
  let first: Error | undefined;
  redis.on('error', (error: Error & { lastNodeError?: Error }) => {
    first ??= error.lastNodeError ?? error;
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' });
    timer = setTimeout(() => reject(error), timeoutMs);
  });
  try {
    await Promise.race([redis.connect().then(() => answered(redis)), late]);
    // Such as a database that is out of range: the connection stands, on another one.
    if (first) throw first;
  } catch (error) {
    redis.disconnect();
    throw failureOf(first ?? (error as Error), target);
  } finally {
    clearTimeout(timer);
  }
}

/** A refusal is an answer, unless it is the login that is refused. */
async function answered(redis: Redis | Cluster): Promise<void> {
  try {
    await redis.ping();
  } catch (error) {
    const { name, message } = error as Error;
    if (name !== 'ReplyError' || LOGIN_MISSING.test(message)) throw error;
  }
}

/** Of a node of a Cluster, one connection would see only its part. */
async function checkKind(redis: Redis, target: Target, cluster: boolean): Promise<void> {
  const info = await redis.info('cluster').catch(() => '');
  const enabled = /^cluster_enabled:(\d)/m.exec(String(info))?.[1];
  if (enabled === '1' && !cluster) {
    throw new Failure('USAGE', `${placeOf(target)} is a node of a Cluster: add --cluster`);
  }
  if (enabled === '0' && cluster) {
    throw new Failure('USAGE', `${placeOf(target)} is no node of a Cluster: leave --cluster away`);
  }
}

function failureOf(error: Error & { code?: string }, target: Target): Failure {
  const place = placeOf(target);
  const { code = '', name, message } = error;
  const of = (failure: Failure['code'], text: string) => new Failure(failure, text, { cause: error });
  if (LOGIN_REFUSED.test(message)) {
    return of('LOGIN_REFUSED', `${place} refused the login: user or password is wrong`);
  }
  if (LOGIN_MISSING.test(message)) {
    return of('LOGIN_REFUSED', `${place} wants a login: give it in the URL, or the password in REDISCLI_AUTH`);
  }
  if (/protocol error|unknown RESP type/i.test(message) || name === 'ParserError') {
    return of('NOT_REDIS', `What answers at ${place} does not speak as Redis does`);
  }
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return of('UNREACHABLE', `There is no host of the name ${target.host}, or it cannot be looked up (${code})`);
    case 'ECONNREFUSED':
      return of('UNREACHABLE', `No server listens at ${place} (${code})`);
    case 'ETIMEDOUT':
      return of('UNREACHABLE', `${place} did not answer${target.tls ? ' by TLS' : ''} in time (--timeout)`);
  }
  if (target.tls && (/^ERR_SSL|^ERR_TLS|CERT|^EPROTO/.test(code) || /SSL|certificate/i.test(message))) {
    return of('UNREACHABLE', `No TLS with ${place} (${code || message})`);
  }
  if (name === 'ReplyError') return of('REFUSED', `${place} answered: ${message}`);
  if (code === 'ECONNRESET' || /connection is closed/i.test(message)) {
    const hint = target.tls ? 'is it Redis, with TLS?' : 'is it Redis, and without TLS?';
    return of('UNREACHABLE', `${place} closed the connection without an answer: ${hint}`);
  }
  return of('UNREACHABLE', `${place} cannot be used: ${code || message}`);
}

function sessionOf(redis: Redis | Cluster, { target, namespace, timeoutMs }: ConnectOptions): Session {
  const dedup = new Dedup(redis, {
    namespace,
    redisTimeout: timeoutMs,
    maxKeyBytes: LONGEST_KEY_BYTES,
    // Nothing is run here: what the server may do to records is for `doctor` to tell.
    allowEviction: true,
  });
  return {
    dedup,
    parts: dedup[INSIDE].parts,
    place: placeOf(target),
    close: async () => {
      await dedup.close({ drain: 0 });
      redis.disconnect();
    },
  };
}

/** By the clock that fences and leases are of. */
export async function serverNowMs({ parts: { connection, scripts } }: Session): Promise<number> {
  const reply = (await connection.command('time', [], scripts.deadline())) as (string | number)[];
  const [seconds = 0, micros = 0] = reply.map(Number);
  return seconds * 1_000 + micros / 1_000;
}
