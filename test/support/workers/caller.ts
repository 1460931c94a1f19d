/** Calls keys many times at once, when told to; counts handler runs in Redis, so that they add up over processes. */
import { Redis } from 'ioredis';
import { Dedup } from '../../../src/index.js';

const { url, namespace, keys, times, handlerMs } = JSON.parse(process.argv[2] as string) as {
  url: string;
  namespace: string;
  keys: string[];
  times: number;
  handlerMs: number;
};
const redis = new Redis(url);
const dedup = new Dedup(redis, { namespace });

process.once('message', async () => {
  const calls = keys.flatMap((key) =>
    Array.from({ length: times }, async () => {
      const outcome = await dedup.run(key, async () => {
        const run = await redis.incr(`${namespace}-runs-${key}`);
        await new Promise((resolve) => setTimeout(resolve, handlerMs));
        return { key, run, by: process.pid };
      });
      return { key, ...outcome };
    }),
  );
  process.send?.(await Promise.all(calls));
  redis.disconnect();
  process.disconnect();
});
process.send?.('ready');
