/** Consumes messages as they are delivered, each in some writes on `tx` and nothing else; acknowledges what is done. */
import { Cluster, Redis } from 'ioredis';
import { Cluster as Cluster5 } from 'ioredis5';
import { Dedup, type Effects, isDedupError } from '../../../src/index.js';
import type { Acknowledgement, Delivery, Place } from '../consumers.js';

const { url, nodes, namespace, ioredis } = JSON.parse(process.argv[2] as string) as Place & { ioredis: 5 | 6 };
const redis = nodes
  ? new (ioredis === 5 ? Cluster5 : Cluster)([...nodes])
  : new Redis(url as string, { retryStrategy: () => 10 });
redis.on('error', () => {});
const settings = { namespace, lease: '1s', redisTimeout: '1s', waitTimeout: '5s' } as const;
const plain = new Dedup(redis, settings);
const durable = new Dedup(redis, { ...settings, durability: { replicas: 1, timeout: '300ms' } });

/** In a slot, keys come and go as well, with or without another write before. */
function comeAndGo(tx: Effects, data: string, { id, amount }: Delivery): void {
  if (amount % 4 === 0) tx.del(`${data}-last`).set(`${data}-last`, id);
  if (amount % 4 === 1) tx.del(`${data}-last`);
  if (amount % 4 === 2) tx.set(`${data}-last`, id);
}

process.on('message', async (delivery: Delivery) => {
  const { receipt, id, amount, slot, way, isDurable } = delivery;
  const from = performance.now();
  const dedup = isDurable ? durable : plain;
  const data = `${slot === undefined ? '' : `{${slot}}`}${namespace}-data`;
  const first = (tx: Effects) => tx.hincrby(`${data}-hash`, id, amount).rpush(`${data}-list`, id);
  const rest = (tx: Effects) => {
    tx.xadd(`${data}-stream`, '*', 'id', id, 'by', receipt).incrby(`${data}-total`, amount);
    if (slot !== undefined) comeAndGo(tx, data, delivery);
  };
  let acknowledgement: Partial<Acknowledgement>;
  try {
    let result: unknown;
    if (way === 'apply') result = (await dedup.apply(id, (tx) => rest(first(tx)), { slot })).replies;
    else {
      result = await dedup.once(
        id,
        async ({ tx }) => {
          first(tx);
          // What is killed here has written half of its list down, and none of it may be seen.
          await new Promise((resolve) => setImmediate(resolve));
          rest(tx);
          return { amount, by: receipt };
        },
        { slot },
      );
    }
    acknowledgement = { result: JSON.stringify(result) };
  } catch (error) {
    if (!isDedupError(error)) throw error;
    acknowledgement = { code: error.code };
  }
  process.send?.({ receipt, ms: performance.now() - from, ...acknowledgement } satisfies Acknowledgement);
});
process.once('disconnect', () => redis.disconnect());
process.send?.('ready');
