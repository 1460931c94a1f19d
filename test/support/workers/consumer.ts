/** Consumes messages as they are delivered, each in four writes on `tx` and nothing else; acknowledges what is done. */
import { Redis } from 'ioredis';
import { Dedup, isDedupError } from '../../../src/index.js';
import type { Acknowledgement, Delivery } from '../consumers.js';

const { url, namespace } = JSON.parse(process.argv[2] as string) as { url: string; namespace: string };
const redis = new Redis(url, { retryStrategy: () => 10 });
redis.on('error', () => {});
const dedup = new Dedup(redis, { namespace, lease: '1s', redisTimeout: '1s', waitTimeout: '5s' });
const data = `${namespace}-data`;

process.on('message', async ({ receipt, id, amount }: Delivery) => {
  let code: string | undefined;
  try {
    await dedup.once(id, async ({ tx }) => {
      tx.hincrby(`${data}-hash`, id, amount).rpush(`${data}-list`, id);
      // What is killed here has written half of its list down, and none of it may be seen.
      await new Promise((resolve) => setImmediate(resolve));
      tx.xadd(`${data}-stream`, '*', 'id', id).incrby(`${data}-total`, amount);
      return { amount };
    });
  } catch (error) {
    if (!isDedupError(error)) throw error;
    code = error.code;
  }
  process.send?.({ receipt, code } satisfies Acknowledgement);
});
process.once('disconnect', () => redis.disconnect());
process.send?.('ready');
