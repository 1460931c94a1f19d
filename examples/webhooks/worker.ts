/** A worker process: handles, in one of the ways, what it is handed, several deliveries at once, and acknowledges it. */
import { Redis } from 'ioredis';
import { isDedupError } from '../../src/index.js';
import type { Acknowledgement, HandOver, WorkerOptions } from './deliver.js';
import { Tally } from './tally.js';
import { WAYS } from './ways.js';

const options = JSON.parse(process.argv[2] as string) as WorkerOptions;
const redis = new Redis(options.url);
const way = WAYS[options.way](redis, options);
const tally = new Tally(redis, options.prefix);

process.on('message', async ({ receipt, delivery }: HandOver) => {
  const acknowledgement: Acknowledgement = { receipt, outcome: await outcomeOf(delivery, receipt) };
  process.send?.(acknowledgement);
});

// Of an interrupt at the terminal every process is told; this one ends when the feed does.
process.on('SIGINT', () => {});
process.once('disconnect', async () => {
  await way.close();
  redis.disconnect();
});

await redis.ping();
process.send?.('ready');

async function outcomeOf(delivery: HandOver['delivery'], receipt: number): Promise<Acknowledgement['outcome']> {
  try {
    return await way.handle(delivery.id, () => tally.handle(delivery, receipt));
  } catch (error) {
    // What may succeed later is asked for again, as a consumer does that does not acknowledge.
    if (isDedupError(error) && error.retryable) return 'deliver again';
    throw error;
  }
}
