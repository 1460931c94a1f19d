/**
 * A worker process of the consumer group: reads the stream in one of the ways. It tells of each run that it begins and each
 * entry that it has acknowledged.
 */
import { Redis } from 'ioredis';
import { Dedup } from 'redis-once';
import { StreamConsumer } from 'redis-once/streams';
import type { WorkerOptions } from './delivery.js';
import { GROUP, streamsOf } from './stream.js';
import { handle, type Writer } from './tally.js';
import { WAYS } from './ways.js';
import type { RunNews } from './workers.js';

const { url, way, prefix } = JSON.parse(process.argv[2] as string) as WorkerOptions;
const redis = new Redis(url);
const { stream, deadLetter } = streamsOf(prefix);
const consumer = `worker-${process.pid}`;
const CONCURRENCY = 8;
/** Short, so that what a killed worker had in hand is soon taken over. */
const CLAIM_IDLE_MS = 1_000;
const BLOCK_MS = 250;

const tell = (news: RunNews) => process.send?.(news);

/** An entry, and its fields as the parent named them. */
async function run(delivery: string, fields: Readonly<Record<string, string>>, to: Writer): Promise<void> {
  const webhook = { id: String(fields.id), payload: JSON.parse(String(fields.payload)) };
  tell({ delivery, begunFor: webhook.id });
  await handle(webhook, to, prefix);
}

/** A loop over the group's commands: what others left, else what is new; each entry acknowledged when it is done. */
async function checkThenWork(): Promise<void> {
  const way = WAYS['check, then work'](redis, prefix);
  const reader = redis.duplicate();
  const consume = async ([id, words]: Entry) => {
    const fields = { [words[0]]: words[1], [words[2]]: words[3] };
    await way.handle(String(fields.id), (to) => run(id, fields, to));
    await redis.xack(stream, GROUP, id);
    tell({ delivery: id });
  };
  const left = async () => {
    const reply = await reader.xautoclaim(stream, GROUP, consumer, CLAIM_IDLE_MS, '0-0', 'COUNT', CONCURRENCY);
    return reply[1] as Entry[];
  };
  const fresh = async () => {
    const count = ['COUNT', CONCURRENCY, 'BLOCK', BLOCK_MS] as const;
    const reply = await reader.xreadgroup('GROUP', GROUP, consumer, ...count, 'STREAMS', stream, '>');
    return ((reply as [string, Entry[]][] | null)?.[0]?.[1] ?? []) as Entry[];
  };
  process.send?.('ready');
  for (;;) {
    const found = await left();
    await Promise.all((found.length > 0 ? found : await fresh()).map(consume));
  }
}

type Entry = [id: string, words: [string, string, string, string]];

async function redisOnce(): Promise<void> {
  const dedup = new Dedup(redis, { namespace: `${prefix}-records`, lease: '1s' });
  const reading = new StreamConsumer(dedup, {
    stream,
    group: GROUP,
    consumer,
    deadLetter,
    key: ({ fields }) => String(fields.id),
    handler: ({ id, fields }, { tx }) => run(id, fields, tx),
    concurrency: CONCURRENCY,
    blockMs: BLOCK_MS,
    claimIdle: CLAIM_IDLE_MS,
  });
  reading.on('processed', ({ id }) => tell({ delivery: id }));
  await reading.start();
  process.send?.('ready');
}

// Of an interrupt at the terminal every process is told; this one ends when the feed does.
process.on('SIGINT', () => {});
process.once('disconnect', () => process.exit());
await (way === 'redis-once' ? redisOnce() : checkThenWork());
