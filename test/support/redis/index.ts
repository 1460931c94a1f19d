/** A Redis for everything: tests, demo, examples. Found, or provided. */
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { containerImage, hasContainers, startContainer } from './container.js';
import { debianBinary, suiteBinary } from './debian.js';
import { type RedisServer, type ServerBinary, startBinary } from './server.js';
import { SERVER_VERSIONS, type ServerVersion, SOURCES } from './versions.js';

export type { RedisServer } from './server.js';
export type { ServerVersion } from './versions.js';

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
 * @param version of that version, whatever else is there; without it, the same as everybody's
 * @throws Error naming what to install, where there is none
 */
export async function startRedis(args: readonly string[] = [], version?: ServerVersion): Promise<RedisServer> {
  return (await (version ? providerOf(version) : findProvider())).start(args);
}

/**
 * A sentinel of our own: the server at hand, run as one. It reaches the servers that it watches by their ports on this
 * machine, which no container does.
 *
 * @param config the lines of its file of settings
 * @throws Error where the server at hand is a container
 */
export async function startSentinel(config: readonly string[]): Promise<RedisServer> {
  return (await findProvider()).start(['--sentinel'], `${config.join('\n')}\n`);
}

interface Provider {
  readonly origin: string;
  start(args: readonly string[], config?: string): Promise<RedisServer>;
}

let found: Promise<Provider> | undefined;

function findProvider(): Promise<Provider> {
  found ??= seekProvider();
  return found;
}

async function seekProvider(): Promise<Provider> {
  const wanted = process.env.TEST_REDIS;
  if (wanted === 'containers') return ofImage(containerImage());
  if (wanted) return providerOf(versionNamed(wanted));
  for (const name of ['redis-server', 'valkey-server']) {
    const command = await onPath(name);
    if (command) return ofBinary({ command }, `${name} on the PATH`);
  }
  if (await hasContainers()) return ofImage(containerImage());
  const binary = await debianBinary();
  if (binary) return ofBinary(binary, "Debian's redis-server, unpacked into a cache folder");
  throw new Error(NOTHING_FOUND);
}

/** @throws Error naming the versions that there are */
function versionNamed(name: string): ServerVersion {
  const version = SERVER_VERSIONS.find((known) => known === name);
  if (!version) throw new Error(`TEST_REDIS is ${name}, which is none of: containers, ${SERVER_VERSIONS.join(', ')}.`);
  return version;
}

const ofVersion = new Map<ServerVersion, Promise<Provider>>();

function providerOf(version: ServerVersion): Promise<Provider> {
  const provider = ofVersion.get(version) ?? seekVersion(version);
  ofVersion.set(version, provider);
  return provider;
}

async function seekVersion(version: ServerVersion): Promise<Provider> {
  const { command, image, suite } = SOURCES[version];
  if (process.env.TEST_REDIS === 'containers' || (await hasContainers())) return ofImage(image);
  try {
    return ofBinary(await suiteBinary(suite, command), `${command} of Debian ${suite}, unpacked into a cache folder`);
  } catch (cause) {
    const message = `No ${version} could be had: start Docker (${image}), or run on Debian and let its packages be fetched.`;
    throw new Error(message, { cause });
  }
}

function ofImage(image: string): Provider {
  return {
    origin: `a container of ${image}`,
    start: async (args, config) => {
      if (config !== undefined) throw new Error('Sentinels are run of a server on this machine, not of a container.');
      return startContainer(image, args);
    },
  };
}

function ofBinary(binary: ServerBinary, origin: string): Provider {
  return { origin, start: (args, config) => startBinary(binary, args, config) };
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
