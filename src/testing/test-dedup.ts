/** A Dedup on a real Redis for one test, whose keys and data meet nobody else's. */
import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import type { Codec, JsonCodec } from '../codec.js';
import { Dedup } from '../dedup.js';
import type { DedupOptions } from '../options.js';
import { serverOfTests } from './server-of-tests.js';

/** What a test is given. */
export interface TestDedup<C extends Codec = JsonCodec> {
  readonly dedup: Dedup<C>;
  /**
   * The connection of `dedup`. It prefixes every key, those on `tx` too: code that names its data plainly (`balance:42`) is
   * tested as it is, and meets no other test's.
   */
  readonly redis: Redis;
  /** The server. */
  readonly url: string;
  /** What stands before every key. */
  readonly keyPrefix: string;
  /** Cuts running handlers off, removes every key with the prefix, and closes the connection. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Makes a Dedup for one test, in a namespace of its own, on a real Redis: the server that `TEST_REDIS_URL` names, else
 * `redis-server` or `valkey-server` from the `PATH`, else a container, where the package testcontainers is installed and a
 * Docker engine answers. A server that is started here ends with the process, even a killed one. No server is downloaded.
 *
 * @param options as for a Dedup; `namespace` where the code under test depends on it
 * @throws Error saying what there is to do, where no Redis is found or the named one is not reached
 * @throws InvalidOptionError naming the option that is wrong
 * @example
 * ```ts
 * import { createTestDedup } from 'redis-once/testing';
 *
 * const { dedup, redis, close } = await createTestDedup();
 * await dedup.once(payment.id, ({ tx }) => void tx.incrby('total', payment.cents));
 * console.log(await redis.get('total'));
 * await close();
 * ```
 */
export async function createTestDedup<C extends Codec = JsonCodec>(
  options: DedupOptions<C> = {},
): Promise<TestDedup<C>> {
  const namespace = `test-${randomUUID()}`;
  const keyPrefix = `${namespace}:`;
  const { url, release } = await serverOfTests();
  let redis: Redis | undefined;
  try {
    redis = await connected(url, keyPrefix);
    const dedup = new Dedup<C>(redis, { namespace, ...options });
    const close = closing(dedup, redis, keyPrefix, release);
    return { dedup, redis, url, keyPrefix, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    redis?.disconnect();
    release();
    throw error;
  }
}

/** @throws Error where the server is not reached at once */
async function connected(url: string, keyPrefix: string): Promise<Redis> {
  const redis = new Redis(url, { keyPrefix, lazyConnect: true });
  let cause: unknown;
  redis.on('error', (error) => {
    cause = error;
  });
  try {
    await redis.connect();
    return redis;
  } catch (error) {
    redis.disconnect();
    const { host, port } = redis.options;
    throw new Error(`The Redis for tests was not reached at ${host}:${port} (TEST_REDIS_URL, where it is set)`, {
      cause: cause ?? error,
    });
  }
}

function closing(dedup: Dedup<Codec>, redis: Redis, keyPrefix: string, release: () => void): () => Promise<void> {
  let closed: Promise<void> | undefined;
  const close = async () => {
    try {
      await dedup.close({ drain: 0 });
      if (redis.status === 'ready') await removeKeys(redis, keyPrefix);
    } finally {
      await disconnected(redis);
      release();
    }
  };
  return () => {
    closed ??= close();
    return closed;
  };
}

/** `disconnect` alone has only begun it. */
async function disconnected(redis: Redis): Promise<void> {
  // Of one that waits to connect again ioredis tells no end.
  if (redis.status === 'end' || redis.status === 'reconnecting') return redis.disconnect();
  const ended = new Promise((resolve) => redis.once('end', resolve));
  redis.disconnect();
  await ended;
}

/** ioredis prefixes the keys of a command, and neither a pattern nor what a scan finds. */
async function removeKeys(redis: Redis, keyPrefix: string): Promise<void> {
  for await (const page of redis.scanBufferStream({ match: `${keyPrefix}*`, count: 1_000 })) {
    const keys = (page as Buffer[]).map((key) => key.subarray(keyPrefix.length));
    if (keys.length > 0) await redis.unlink(...keys);
  }
}
