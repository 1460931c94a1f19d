/** The demo: one feed of webhooks that are delivered more than once, handled by "check, then work" and by redis-once. */
import { randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { plainRedis } from '../../test/support/redis/index.js';
import { deliver } from './deliver.js';
import { type Deliver, WORKERS } from './delivery.js';
import { makeFeed, type Webhook } from './feed.js';
import { deliverByQueue } from './queue.js';
import { isExact, progressBar, type Result, summary, table } from './report.js';
import { deliverByStream } from './stream.js';
import { expectedSums, readSums } from './tally.js';
import type { WayName } from './ways.js';

const USAGE = `Usage: npm run demo -- [--bullmq | --streams] [--seed N] [--webhooks N] [--no-kill]

Some 330 webhooks of GitHub's are delivered one to four times each, to four worker processes at once. Their handler counts
events and bytes by repository and writes a ledger, in Redis: first by "check, then work", then by redis-once. Every so
often a worker is killed in mid-handler, and another takes its place. A table shows what the sums came to; the exit code is
1 if redis-once is not exact.

  --bullmq      deliver by a BullMQ queue, a job a delivery, to four BullMQ workers
  --streams     deliver by a Redis stream, an entry a delivery, to four consumers of a group
  --seed N      the order of deliveries of an earlier run: a whole number from 0 to ${2 ** 32 - 1}
  --webhooks N  the first N webhooks alone
  --no-kill     kill no worker (--kill, to kill some, is the default)
  --help        show this`;

const SOURCES = {
  hand: { deliver, workers: 'workers' },
  bullmq: { deliver: deliverByQueue, workers: 'workers of a BullMQ queue' },
  streams: { deliver: deliverByStream, workers: 'consumers of a Redis stream' },
} satisfies Record<string, { deliver: Deliver; workers: string }>;

class UsageError extends Error {}

try {
  const { help, ...choices } = readArguments();
  if (help) console.log(USAGE);
  else await demo(choices);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

interface Choices {
  readonly seed: number;
  /** At most so many webhooks. */
  readonly webhooks: number;
  readonly kill: boolean;
  readonly source: keyof typeof SOURCES;
}

function readArguments(): Choices & { help: boolean } {
  const values = parsedValues();
  const seed = Number(values.seed ?? randomInt(1_000_000));
  const webhooks = Number(values.webhooks ?? Number.POSITIVE_INFINITY);
  if (!/^\d+$/.test(values.seed ?? '0') || seed >= 2 ** 32) {
    throw new UsageError(`Expected \`--seed\` to be a whole number from 0 to ${2 ** 32 - 1}, got \`${values.seed}\`.`);
  }
  if (!/^[1-9]\d*$/.test(values.webhooks ?? '1')) {
    throw new UsageError(`Expected \`--webhooks\` to be a whole number from 1, got \`${values.webhooks}\`.`);
  }
  if (values.kill && values['no-kill']) throw new UsageError('Expected `--kill` or `--no-kill`, got both.');
  if (values.bullmq && values.streams) throw new UsageError('Expected `--bullmq` or `--streams`, got both.');
  const source = values.bullmq ? 'bullmq' : values.streams ? 'streams' : 'hand';
  return { seed, webhooks, kill: !values['no-kill'], source, help: values.help ?? false };
}

function parsedValues() {
  const [text, flag] = [{ type: 'string' }, { type: 'boolean' }] as const;
  try {
    const flags = { bullmq: flag, streams: flag, kill: flag, 'no-kill': flag, help: flag };
    return parseArgs({ options: { seed: text, webhooks: text, ...flags } }).values;
  } catch (error) {
    // Its first sentence says what is wrong, the rest how it might have been meant.
    throw new UsageError(`${(error as Error).message.split('. ')[0]}: \`--help\` shows what there is.`);
  }
}

async function demo({ seed, webhooks, kill, source }: Choices): Promise<void> {
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort(new Error('Interrupted.')));
  const server = await plainRedis();
  const redis = new Redis(server.url, { retryStrategy: () => null });
  // A failure is told by the command that it befalls.
  redis.on('error', () => {});
  const runId = `demo-${randomUUID()}`;
  try {
    await once(redis, 'ready');
    const feed = makeFeed(seed, webhooks);
    const expected = expectedSums(feed);
    const { deliver, workers } = SOURCES[source];
    console.log(
      `Seed ${seed}, on ${server.origin}.\n${expected.ledger.size} webhooks in ${feed.length} deliveries, to ${WORKERS} ${workers}.`,
    );
    const stage: Stage = { feed, redis, url: server.url, runId, kill, deliver, signal: interrupted.signal };
    const results = [await handleAll('check, then work', stage), await handleAll('redis-once', stage)] as const;
    console.log(table(expected, results));
    console.log(summary(expected, results));
    if (!isExact(results[1], expected)) process.exitCode = 1;
  } finally {
    // Where this fails Redis is gone, and a failure before it has said so.
    await removeKeys(redis, runId).catch(() => {});
    redis.disconnect();
    await server.stop();
  }
}

interface Stage {
  readonly feed: readonly Webhook[];
  readonly redis: Redis;
  readonly url: string;
  readonly runId: string;
  readonly kill: boolean;
  readonly deliver: Deliver;
  readonly signal: AbortSignal;
}

async function handleAll(way: WayName, { feed, redis, url, runId, kill, deliver, signal }: Stage): Promise<Result> {
  const prefix = `${runId}-${way === 'redis-once' ? 'once' : 'check'}`;
  const bar = progressBar(way, feed.length);
  try {
    const onAcknowledged = (count: number) => bar.update(count);
    const delivered = await deliver({ feed, worker: { url, way, prefix }, kill, signal, onAcknowledged });
    return { way, ...delivered, sums: await readSums(redis, prefix) };
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
