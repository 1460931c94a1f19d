/**
 * A consumer of a stream: handles each entry in four writes on `tx` and nothing else. Now and then its handler throws; one
 * kind of entry makes it throw always, and another kills the process.
 */
import { Redis } from 'ioredis';
import { Dedup } from '../../../src/index.js';
import { StreamConsumer } from '../../../src/streams/index.js';

export interface StreamArgs {
  readonly url: string;
  readonly namespace: string;
  readonly stream: string;
  readonly group: string;
  readonly consumer: string;
  readonly deadLetter: string;
  readonly maxDeliveries: number;
  /** The lease and `claimIdle`. */
  readonly leaseMs: number;
}

const args = JSON.parse(process.argv[2] as string) as StreamArgs;
const { url, namespace, stream, group, consumer: name, deadLetter, maxDeliveries, leaseMs } = args;
const redis = new Redis(url, { retryStrategy: () => 10 });
redis.on('error', () => {});
const dedup = new Dedup(redis, { namespace, lease: leaseMs, redisTimeout: '2s' });
const data = `${namespace}-data`;

const consumer = new StreamConsumer(dedup, {
  stream,
  group,
  consumer: name,
  key: ({ fields }) => String(fields.id),
  handler: async ({ fields }, { tx }) => {
    const id = String(fields.id);
    const amount = Number(fields.amount);
    tx.hincrby(`${data}-hash`, id, amount).rpush(`${data}-list`, id);
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 10));
    if (fields.kind === 'kills') process.kill(process.pid, 'SIGKILL');
    if (fields.kind === 'throws') throw new Error('always');
    if (Math.random() < 0.03) throw new Error('now and then');
    tx.xadd(`${data}-stream`, '*', 'id', id).incrby(`${data}-total`, amount);
    return { id };
  },
  concurrency: 8,
  blockMs: 50,
  claimIdle: leaseMs,
  maxDeliveries,
  deadLetter,
});
consumer.on('failed', ({ error }) => {
  // Of what is thrown here nothing else is expected.
  if (!/^(always|now and then)$|^Not completed in /.test((error as Error).message))
    process.send?.({ unexpected: String(error) });
});
await consumer.start();
process.send?.('ready');
// Then it ends, since nothing is left that keeps it alive.
let stopping = false;
process.once('message', async () => {
  stopping = true;
  await consumer.stop();
  await dedup.close();
  redis.disconnect();
  process.disconnect();
});
// The parent is gone: nothing is to be finished.
process.once('disconnect', () => stopping || process.exit());
