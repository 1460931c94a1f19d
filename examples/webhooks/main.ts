/** The demo: one feed of webhooks that arrive more than once, handled by "check, then work" and by redis-once. */
import { randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { plainRedis } from '../../test/support/redis/index.js';
import { deliver } from './deliver.js';
import { type Delivery, makeFeed } from './feed.js';
import { progressBar, type Result, summary, table } from './report.js';
import { Tally } from './tally.js';
import type { WayName } from './ways.js';

const USAGE = `Usage: npm run demo -- [--seed N] [--kill]

Some 330 webhooks of GitHub's arrive one to four times each and are handed to four worker processes at once: first by
"check, then work", then by redis-once. A table shows what each of the two came to.

  --seed N   the order of arrivals of an earlier run: a whole number from 0 to ${2 ** 32 - 1}
  --kill     kill a worker every so often, and put another in its place
  --help     show this`;

class UsageError extends Error {}

try {
  const { seed, kill, help } = readArguments();
  if (help) console.log(USAGE);
  else await demo(seed, kill);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

function readArguments(): { seed: number; kill: boolean; help: boolean } {
  const values = parsedValues();
  const seed = Number(values.seed ?? randomInt(1_000_000));
  if (!/^\d+$/.test(values.seed ?? '0') || seed >= 2 ** 32) {
    throw new UsageError(`Expected \`--seed\` to be a whole number from 0 to ${2 ** 32 - 1}, got \`${values.seed}\`.`);
  }
  return { seed, kill: values.kill ?? false, help: values.help ?? false };
}

function parsedValues() {
  try {
    return parseArgs({ options: { seed: { type: 'string' }, kill: { type: 'boolean' }, help: { type: 'boolean' } } })
      .values;
  } catch (error) {
    // Its first sentence says what is wrong, the rest how it might have been meant.
    throw new UsageError(`${(error as Error).message.split('. ')[0]}: \`--help\` shows what there is.`);
  }
}

async function demo(seed: number, kill: boolean): Promise<void> {
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort(new Error('Interrupted.')));
  const server = await plainRedis();
  const redis = new Redis(server.url, { retryStrategy: () => null });
  // A failure is told by the command that it befalls.
  redis.on('error', () => {});
  const runId = `demo-${randomUUID()}`;
  try {
    await once(redis, 'ready');
    console.log(`Seed ${seed}, on ${server.origin}.`);
    const stage: Stage = { feed: makeFeed(seed), redis, url: server.url, runId, kill, signal: interrupted.signal };
    const results = [await handleAll('check, then work', stage), await handleAll('redis-once', stage)] as const;
    console.log(table(results, kill));
    console.log(summary(results, kill));
    if (results[1].handledTwice > 0) process.exitCode = 1;
  } finally {
    // Where this fails Redis is gone, and a failure before it has said so.
    await removeKeys(redis, runId).catch(() => {});
    redis.disconnect();
    await server.stop();
  }
}

interface Stage {
  readonly feed: readonly Delivery[];
  readonly redis: Redis;
  readonly url: string;
  readonly runId: string;
  readonly kill: boolean;
  readonly signal: AbortSignal;
}

async function handleAll(way: WayName, { feed, redis, url, runId, kill, signal }: Stage): Promise<Result> {
  const prefix = `${runId}-${way === 'redis-once' ? 'once' : 'check'}`;
  // Short, where workers are killed: a key is free again when the lease of its dead holder has run out.
  const lease = kill ? '2s' : '30s';
  const bar = progressBar(way, feed.length);
  try {
    const delivered = await deliver(feed, { url, way, prefix, lease }, kill, signal, (count) => bar.update(count));
    const { cutOff, ...counts } = delivered;
    const tally = new Tally(redis, prefix);
    return {
      way,
      deliveries: new Set(feed).size,
      arrivals: feed.length,
      deliveredAgain: cutOff.size,
      ...counts,
      ...(await tally.runs(cutOff)),
      events: await tally.events(),
    };
  } finally {
    bar.stop();
  }
}

/** All keys of this run, and no others: the server may be shared. */
async function removeKeys(redis: Redis, runId: string): Promise<void> {
  let cursor = '0';
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', `${runId}*`, 'COUNT', 1000);
    if (keys.length > 0) await redis.unlink(keys);
    cursor = next;
  } while (cursor !== '0');
}
