/** A lock of @sesamecare-oss/redlock around "look, else work and store". */
import { Redlock } from '@sesamecare-oss/redlock';
import { Redis } from 'ioredis';
import { type ContenderType, RETENTION_MS } from './contender.js';

export const redlock: ContenderType = {
  name: 'redlock + check',
  kind: 'peer',
  dedupes: 'at the same time',
  // Its scripts run GET and SET as well: the server's count does not tell which are whose.
  async open({ url, holdMs }) {
    const redis = new Redis(url);
    // Its scripts select a database.
    const locks = new Redlock([redis as never], { db: Number(new URL(url).pathname.slice(1)) });
    return {
      call: (key, work) =>
        locks.using([`lock:${key}`], holdMs, async () => {
          const earlier = await redis.get(key);
          if (earlier !== null) return earlier;
          const result = await work();
          await redis.set(key, result, 'PX', RETENTION_MS);
          return result;
        }),
      isBusy: (error) => (error as Error).name === 'ExecutionError',
      async close() {
        redis.disconnect();
      },
    };
  },
};
