/** A worker process: handles, in one of the ways, the deliveries that it is handed, several at once, and tells of each. */
import { Redis } from 'ioredis';
import { isDedupError } from 'redis-once';
import type { HandOver, News } from './deliver.js';
import type { WorkerOptions } from './delivery.js';
import { handle } from './tally.js';
import { WAYS } from './ways.js';

const { url, way: name, prefix } = JSON.parse(process.argv[2] as string) as WorkerOptions;
const redis = new Redis(url);
const way = WAYS[name](redis, prefix);

process.on('message', async ({ receipt, webhook }: HandOver) => {
  const tell = (what: News['what']) => process.send?.({ receipt, what } satisfies News);
  try {
    const outcome = await way.handle(webhook.id, (to) => {
      tell('begun');
      return handle(webhook, to, prefix);
    });
    tell(outcome);
  } catch (error) {
    // What may succeed later is asked for again, as a consumer does that does not acknowledge.
    if (!isDedupError(error) || !error.retryable) throw error;
    tell('deliver again');
  }
});

// Of an interrupt at the terminal every process is told; this one ends when the feed does.
process.on('SIGINT', () => {});
process.once('disconnect', async () => {
  await way.close();
  redis.disconnect();
});

await redis.ping();
process.send?.('ready');
