/** Which Redis: a URL, taken apart. No message repeats it, since it may hold a password. */
import { Failure } from './failure.js';

export interface Target {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly tls: boolean;
}

const EXAMPLE = 'redis://user:password@host:6379/0, or rediss:// for TLS';
const DEFAULT_URL = 'redis://127.0.0.1:6379';
const DEFAULT_PORT = 6379;

/**
 * `--url`, else `REDIS_URL`, else the local server. A password that the URL lacks is that of `REDISCLI_AUTH`, as for
 * redis-cli.
 *
 * @throws Failure, `USAGE`
 */
export function readTarget(url: string | undefined, env: NodeJS.ProcessEnv): Target {
  const origin = url === undefined ? 'REDIS_URL' : '--url';
  const { protocol, hostname, port, username, password, pathname, search, hash } = parse(
    url ?? (env.REDIS_URL || DEFAULT_URL),
    origin,
  );
  if (protocol !== 'redis:' && protocol !== 'rediss:') throw wrong(origin, 'it begins with neither');
  if (hostname === '') throw wrong(origin, 'it names no host');
  const db = /^\/?(\d{0,9})$/.exec(pathname)?.[1];
  if (db === undefined) throw wrong(origin, 'its path is not the number of a database');
  if (search !== '' || hash !== '') {
    throw wrong(origin, 'it has a `?` or `#`, which in a password are written as %3F and %23');
  }
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? DEFAULT_PORT : Number(port),
    username: decode(username, origin),
    password: decode(password, origin) ?? (env.REDISCLI_AUTH || undefined),
    db: Number(db),
    tls: protocol === 'rediss:',
  };
}

/** As people write it, without the login. */
export function placeOf({ host, port }: Target): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function parse(text: string, origin: string): URL {
  try {
    return new URL(text);
  } catch {
    throw wrong(origin, 'it is no URL; in a password, characters other than letters and digits are written as %XX');
  }
}

function decode(text: string, origin: string): string | undefined {
  try {
    return text === '' ? undefined : decodeURIComponent(text);
  } catch {
    throw wrong(origin, 'a `%` in the login is written as %25');
  }
}

function wrong(origin: string, why: string): Failure {
  return new Failure('USAGE', `${origin} is not such as ${EXAMPLE}: ${why}`);
}
