/** A Redis for everything: tests, demo, examples. Found, or provided. */
import { containerImage, hasContainers } from '../../../src/testing/container.js';
import { type RedisServer, versionOf } from '../../../src/testing/server.js';
import { ofBinary, ofImage, type ServerSource, sourceAtHand } from '../../../src/testing/sources.js';
import { debianBinary, suiteBinary } from './debian.js';
import { SERVER_VERSIONS, type ServerVersion, SOURCES } from './versions.js';

export type { RedisServer } from '../../../src/testing/server.js';
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
  const source = await findSource();
  const server = await source.start([]);
  return { url: server.url, origin: source.origin, stop: () => server.stop() };
}

/**
 * A Redis of our own, to be configured, killed and started again; never `TEST_REDIS_URL`.
 *
 * @param args as on the server's command line: `['--appendonly', 'yes']`
 * @param version of that version, whatever else is there; without it, the same as everybody's
 * @throws Error naming what to install, where there is none
 */
export async function startRedis(args: readonly string[] = [], version?: ServerVersion): Promise<RedisServer> {
  return (await (version ? sourceOf(version) : findSource())).start(args);
}

/**
 * A sentinel of our own: the server at hand, run as one. It reaches the servers that it watches by their ports on this
 * machine, which no container does.
 *
 * @param config the lines of its file of settings
 * @throws Error where the server at hand is a container
 */
export async function startSentinel(config: readonly string[]): Promise<RedisServer> {
  return (await findSource()).start(['--sentinel'], `${config.join('\n')}\n`);
}

let found: Promise<ServerSource> | undefined;

function findSource(): Promise<ServerSource> {
  found ??= seekSource();
  return found;
}

async function seekSource(): Promise<ServerSource> {
  const wanted = process.env.TEST_REDIS;
  if (wanted === 'containers') return ofImage(containerImage());
  if (wanted) return sourceOf(versionNamed(wanted));
  const atHand = await sourceAtHand();
  if (atHand) return atHand;
  const binary = await debianBinary();
  if (binary) return ofBinary(binary, "Debian's redis-server, unpacked into a cache folder");
  throw new Error(NOTHING_FOUND);
}

/** @throws Error naming the versions that there are */
function versionNamed(name: string): ServerVersion {
  const version = SERVER_VERSIONS.find((known) => known === name);
  if (!version) throw new Error(`No server is called ${name}: there are ${SERVER_VERSIONS.join(', ')}.`);
  return version;
}

const ofVersion = new Map<ServerVersion, Promise<ServerSource>>();

/** @throws Error that says why that version cannot be had, and what there is in its place */
export function sourceOf(version: ServerVersion): Promise<ServerSource> {
  const source = ofVersion.get(version) ?? seekVersion(version);
  ofVersion.set(version, source);
  return source;
}

async function seekVersion(version: ServerVersion): Promise<ServerSource> {
  const { command, image, suite } = SOURCES[version];
  if (process.env.TEST_REDIS === 'containers' || (await hasContainers())) return ofImage(image);
  const binary = await suiteBinary(suite, command).catch((cause) => {
    const message = `No ${version} could be had: start Docker (${image}), or run on Debian and let its packages be fetched.`;
    throw new Error(message, { cause });
  });
  // Suites move.
  const found = await versionOf(binary);
  const [, wanted] = version.split('-') as [string, string];
  if (!`${found}.`.startsWith(`${wanted}.`)) {
    throw new Error(
      `No ${version} could be had: Debian ${suite} had ${command} ${found} when it was fetched; to fetch it anew, ` +
        `remove redis-once/debian-${suite} from the cache folder`,
    );
  }
  return ofBinary(binary, `${command} of Debian ${suite}, unpacked into a cache folder`);
}
