/** The Redis that test Dedups are on: the one that `TEST_REDIS_URL` names, else one of this process's own. */
import type { RedisServer } from './server.js';
import { sourceAtHand } from './sources.js';

const NO_REDIS =
  'No Redis for tests: put redis-server or valkey-server on the PATH, install testcontainers where a Docker engine ' +
  'answers, or name a server by TEST_REDIS_URL';
/** Tests come one after another: a server that nobody uses is kept for the next one. */
const KEPT_MS = 2_000;

/** A server in use by one test. */
export interface ServerOfTests {
  readonly url: string;
  release(): void;
}

let own: Promise<RedisServer> | undefined;
let users = 0;
let idle: NodeJS.Timeout | undefined;

/** @throws Error saying what there is to do, where there is none */
export async function serverOfTests(): Promise<ServerOfTests> {
  const named = process.env.TEST_REDIS_URL;
  if (named) return { url: named, release: () => {} };
  clearTimeout(idle);
  users += 1;
  try {
    own ??= start();
    const { url } = await own;
    return { url, release };
  } catch (error) {
    own = undefined;
    release();
    throw error;
  }
}

async function start(): Promise<RedisServer> {
  const source = await sourceAtHand();
  if (!source) throw new Error(NO_REDIS);
  return source.start(['--appendonly', 'no']);
}

function release(): void {
  users -= 1;
  if (users === 0) idle = setTimeout(stop, KEPT_MS).unref();
}

function stop(): void {
  void own?.then((server) => server.stop());
  own = undefined;
}
