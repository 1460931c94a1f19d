/** A Redis for everything: tests, demo, examples. Found, or provided. */
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { containerImage, hasContainers, startContainer } from './container.js';
import { debianBinary } from './debian.js';
import { type RedisServer, type ServerBinary, startBinary } from './server.js';

export type { RedisServer } from './server.js';

const NOTHING_FOUND =
  'No Redis was found and none could be fetched: install one (`apt-get install redis-server`, `brew install redis`, ' +
  '`apk add redis`), start Docker, or set TEST_REDIS_URL.';

/** A server for plain use, and a word on where it comes from. */
export interface PlainRedis {
  readonly url: string;
  readonly origin: string;
  stop(): Promise<void>;
}

/**
 * A Redis to be used, not configured or killed: `TEST_REDIS_URL` if set, else a server of our own.
 *
 * @throws Error naming what to install, where there is none
 */
export async function plainRedis(): Promise<PlainRedis> {
  const url = process.env.TEST_REDIS_URL;
  if (url) return { url, origin: 'TEST_REDIS_URL', stop: async () => {} };
  const provider = await findProvider();
  const server = await provider.start([]);
  return { url: server.url, origin: provider.origin, stop: () => server.stop() };
}

/**
 * A Redis of our own, to be configured, killed and started again; never `TEST_REDIS_URL`.
 *
 * @param args as on the server's command line: `['--appendonly', 'yes']`
 * @throws Error naming what to install, where there is none
 */
export async function startRedis(args: readonly string[] = []): Promise<RedisServer> {
  return (await findProvider()).start(args);
}

interface Provider {
  readonly origin: string;
  start(args: readonly string[]): Promise<RedisServer>;
}

let found: Promise<Provider> | undefined;

function findProvider(): Promise<Provider> {
  found ??= seekProvider();
  return found;
}

async function seekProvider(): Promise<Provider> {
  const container: Provider = { origin: `a container of ${containerImage()}`, start: startContainer };
  if (process.env.TEST_REDIS === 'containers') return container;
  for (const name of ['redis-server', 'valkey-server']) {
    const command = await onPath(name);
    if (command) return ofBinary({ command }, `${name} on the PATH`);
  }
  if (await hasContainers()) return container;
  const binary = await debianBinary();
  if (binary) return ofBinary(binary, "Debian's redis-server, unpacked into a cache folder");
  throw new Error(NOTHING_FOUND);
}

function ofBinary(binary: ServerBinary, origin: string): Provider {
  return { origin, start: (args) => startBinary(binary, args) };
}

async function onPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const command = join(folder, name);
    if (
      await access(command, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return command;
  }
  return undefined;
}
