/** A Redis whose clock the test sets, live. Always Debian's Redis 7.0: under newer servers libfaketime crashes. */
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { type RedisServer, startBinary } from '../../../src/testing/server.js';
import { binaryWithClock } from './debian.js';

export interface ClockedServer extends RedisServer {
  /** Sets its clock so many ms ahead of the machine's, or behind it. Returns when the server sees it. */
  setClock(offsetMs: number): Promise<void>;
}

/** Further than a server may lag in one test: it tells one offset from another. */
const TOLERANCE_MS = 60_000;

/** @throws Error naming what is missing, where Debian's packages cannot be had */
export async function startClocked(args: readonly string[] = []): Promise<ClockedServer> {
  const folder = await mkdtemp(join(tmpdir(), 'redis-once-clock-'));
  const offsetFile = join(folder, 'offset');
  const write = async (offsetMs: number) => {
    const seconds = (offsetMs / 1_000).toFixed(3);
    // At once, so that the server never reads half of it.
    await writeFile(`${offsetFile}-next`, `${offsetMs < 0 ? '' : '+'}${seconds}`);
    await rename(`${offsetFile}-next`, offsetFile);
  };
  await write(0);
  const binary = await binaryWithClock(offsetFile).catch((cause) => {
    throw new Error('A server whose clock can be set needs the packages of Debian bookworm (libfaketime).', { cause });
  });
  const server = await startBinary(binary, args);
  // It is ended with the server, and asks no other again.
  const redis = new Redis(server.url, { retryStrategy: () => null });
  redis.on('error', () => {});
  return {
    url: server.url,
    port: server.port,
    kill: () => server.kill(),
    restart: () => server.restart(),
    freeze: () => server.freeze(),
    wake: () => server.wake(),
    stop: async () => {
      // Killed, it would leave what libfaketime shares.
      await redis.shutdown('NOSAVE').catch(() => {});
      redis.disconnect();
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
    setClock: async (offsetMs) => {
      await write(offsetMs);
      for (;;) {
        const [seconds] = (await redis.time()).map(Number) as [number];
        if (Math.abs(seconds * 1_000 - offsetMs - Date.now()) < TOLERANCE_MS) return;
      }
    },
  };
}
