/** What both measurements need: the server's own time for a command, and where the numbers go. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';

/** Calls under way at once: the server is never out of work, so that no call begins with a cold cache. */
const AT_ONCE = 256;

/**
 * Sends the calls and reads from INFO commandstats what they took: server time per key, in µs.
 *
 * @param command of which each call must be one
 */
export async function microsPerKey<T>(
  redis: Redis,
  command: string,
  keys: number,
  calls: readonly T[],
  send: (call: T, index: number) => Promise<unknown>,
): Promise<number> {
  await redis.config('RESETSTAT');
  let next = 0;
  const sender = async () => {
    for (let index = next++; index < calls.length; index = next++) await send(calls[index] as T, index);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, sender));
  const stats = new RegExp(`cmdstat_${command}:calls=(\\d+),usec=(\\d+)`).exec(await redis.info('commandstats'));
  if (Number(stats?.[1]) !== calls.length) {
    throw new Error(`Expected ${calls.length} calls of ${command}, got ${stats?.[0] ?? 'none'}`);
  }
  return Number(stats?.[2]) / keys;
}

/** Where and on what it was measured. */
export async function circumstances(redis: Redis) {
  const info = await redis.info('server');
  const valkey = /valkey_version:(\S+)/.exec(info)?.[1];
  return {
    measuredOn: new Date().toISOString().slice(0, 10),
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, node: process.version },
    server: valkey ? `Valkey ${valkey}` : `Redis ${/redis_version:(\S+)/.exec(info)?.[1]}`,
  };
}

/** Keeps results as data, in bench/results. */
export function writeResults(name: string, results: object): void {
  const folder = fileURLToPath(new URL('../results/', import.meta.url));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}${name}.json`, `${JSON.stringify(results, null, 2)}\n`);
}
