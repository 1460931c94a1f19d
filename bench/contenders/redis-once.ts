/** This library, as it is built, on a plain ioredis connection and with its options at their defaults. */
import { Redis } from 'ioredis';
import { Dedup, isDedupError } from '../../dist/index.js';
import { type ContenderType, HOLD_MS, type Opening } from './contender.js';

/** A Dedup on a connection of its own. */
export async function openDedup({ url, holdMs }: Opening): Promise<{ dedup: Dedup; close(): Promise<void> }> {
  const redis = new Redis(url);
  const dedup = new Dedup(redis, holdMs === HOLD_MS ? {} : { lease: holdMs });
  // The first exchange asks the server whether it is safe; no figure has that in it.
  await dedup.inspect('opened');
  const close = async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  };
  return { dedup, close };
}

export const redisOnce: ContenderType = {
  name: 'redis-once',
  kind: 'ours',
  dedupes: 'at the same time',
  commands: ['evalsha'],
  async open(opening) {
    const { dedup, close } = await openDedup(opening);
    return {
      call: (key, work) => dedup.once(key, work),
      isBusy: (error) => isDedupError(error, 'IN_PROGRESS'),
      close,
    };
  },
};
