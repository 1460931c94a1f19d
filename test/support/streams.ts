/** Streams of the tests: a stream and group that no other test has, consumers that stop with their test, and looks at both. */
import type { Redis } from 'ioredis';
import { onTestFinished } from 'vitest';
import type { Dedup } from '../../src/index.js';
import { StreamConsumer, type StreamConsumerEvents, type StreamConsumerOptions } from '../../src/streams/index.js';
import { connect, freshNamespace, makeDedup, until } from './index.js';

export interface Pending {
  readonly id: string;
  readonly consumer: string;
  readonly idleMs: number;
  readonly deliveries: number;
}

export const GROUP = 'group';

export function makeStream(redis: Redis = connect(), stream: string = freshNamespace()) {
  const names = Object.fromEntries(['data', 'dead'].map((name) => [name, `${stream}-${name}`]));
  const { data, dead } = names as { data: string; dead: string };
  return {
    redis,
    stream,
    data,
    dead,
    add: async (fields: Record<string, string | number>): Promise<string> =>
      (await redis.xadd(stream, '*', ...Object.entries(fields).flat())) as string,
    /** Hands what is new to a consumer that never does anything with it. */
    handOut: async (consumer: string, count = 100): Promise<void> => {
      await redis.xgroup('CREATE', stream, GROUP, '0', 'MKSTREAM').catch(() => {});
      await redis.xreadgroup('GROUP', GROUP, consumer, 'COUNT', count, 'STREAMS', stream, '>');
    },
    pending: async (): Promise<Pending[]> => {
      const rows = (await redis.xpending(stream, GROUP, '-', '+', 10_000)) as [string, string, number, number][];
      return rows.map(([id, consumer, idleMs, deliveries]) => ({ id, consumer, idleMs, deliveries }));
    },
    letters: async (): Promise<Record<string, string>[]> => {
      const entries = await redis.xrange(dead, '-', '+');
      return entries.map(([, words]) =>
        Object.fromEntries(words.flatMap((word, at) => (at % 2 ? [] : [[word, words[at + 1] as string]]))),
      );
    },
  };
}

export type Stream = ReturnType<typeof makeStream>;

/** A consumer and all that it tells; stopped with the test, its handlers cut off. */
export function makeConsumer(
  { stream }: Pick<Stream, 'stream'>,
  handler: StreamConsumerOptions['handler'],
  options: Partial<StreamConsumerOptions> = {},
  dedup: Dedup = makeDedup({ lease: 1_000 }),
) {
  const consumer = new StreamConsumer(dedup, {
    stream,
    group: GROUP,
    consumer: 'one',
    blockMs: 50,
    claimIdle: 100,
    handler,
    ...options,
  });
  onTestFinished(() => consumer.stop({ drain: 0 }));
  const told: { [E in keyof StreamConsumerEvents]: StreamConsumerEvents[E][] } = {
    processed: [],
    failed: [],
    postponed: [],
    takenOver: [],
    deadLettered: [],
    trimmed: [],
    error: [],
  };
  for (const event of Object.keys(told) as (keyof StreamConsumerEvents)[]) {
    consumer.on(event, (payload) => void (told[event] as unknown[]).push(payload));
  }
  return {
    consumer,
    told,
    dedup,
    /** When so many entries are done. */
    processed: (count: number) => until(() => told.processed.length >= count),
  };
}
