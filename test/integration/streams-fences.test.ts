/** Consumers that were frozen, or whose line went dead: what was handed out again since is not theirs to keep, to give back or to bury. */
import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';
import { expect, inject, onTestFinished, test } from 'vitest';
import type { OnceContext } from '../../src/index.js';
import type { StreamMessage } from '../../src/streams/index.js';
import { connect, freshNamespace, gate, makeDedup, until } from '../support/index.js';
import { GROUP, makeConsumer, makeStream, type Stream } from '../support/streams.js';

const CLAIM_IDLE = 240;

/** Two entries in the hand of a consumer, the first of which is then handed to another. */
async function stage(name: string, options = {}) {
  const stream = makeStream();
  const held = gate();
  let runs = 0;
  const handler = async ({ fields }: StreamMessage, { signal }: OnceContext) => {
    runs += 1;
    const aborted = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    await (fields.name === 'kept' ? aborted : Promise.race([held.opened, aborted]));
  };
  // Without room it takes over nothing itself.
  const frozen = makeConsumer(stream, handler, {
    claimIdle: CLAIM_IDLE,
    concurrency: 2,
    deadLetter: stream.dead,
    ...options,
  });
  const id = await stream.add({ name: 'taken' });
  const kept = await stream.add({ name: 'kept' });
  await frozen.consumer.start();
  await until(() => runs === 2);
  await stream.redis.xclaim(stream.stream, GROUP, name, 0, id);
  return { stream, held, frozen, id, kept };
}

/** When the consumer has said so many times that it is at work on an entry. */
async function renewals({ pending }: Stream, id: string, times: number): Promise<void> {
  for (let seen = 0, last = 0; seen < times; ) {
    const idleMs = (await pending()).find((entry) => entry.id === id)?.idleMs ?? 0;
    if (idleMs < last) seen += 1;
    last = idleMs;
  }
}

test.each(['other', 'one'])('an entry that was handed to `%s` since is not kept, nor buried', async (name) => {
  const { stream, held, frozen, id, kept } = await stage(name, { maxDeliveries: 1 });
  await renewals(stream, kept, 3);
  const [taken] = await stream.pending();
  expect(taken).toMatchObject({ id, consumer: name, deliveries: 2 });
  expect(taken?.idleMs).toBeGreaterThan(CLAIM_IDLE / 2);
  // With room again it would take over whatever is idle, and rightly.
  frozen.consumer.on('failed', () => void frozen.consumer.stop({ drain: 0 }));
  held.fail(new Error('late'));
  await until(() => frozen.told.failed.length === 1);
  await frozen.consumer.stop({ drain: 0 });
  expect(await stream.letters()).toEqual([]);
  expect(frozen.told.deadLettered).toEqual([]);
  expect((await stream.pending())[0]).toMatchObject({ id, consumer: name, deliveries: 2 });
});

test('an entry that was handed to another since is not given back', async () => {
  const { stream, frozen, id } = await stage('other');
  const [before] = await stream.pending();
  await frozen.dedup.scope(stream.stream, GROUP).forget(id, { force: true });
  await frozen.consumer.stop({ drain: 0 });
  const [after] = await stream.pending();
  expect(before).toMatchObject({ consumer: 'other', deliveries: 2 });
  expect(after).toMatchObject({ consumer: 'other', deliveries: 2 });
});

test('an entry that a consumer took over from itself is in hand as before, once', async () => {
  const stream = makeStream();
  const [held, begun] = [gate(), gate()];
  let runs = 0;
  const handler = async () => {
    runs += 1;
    begun.open();
    await held.opened;
    if (runs === 1) throw new Error('fails');
  };
  const options = { claimIdle: 10_000, maxDeliveries: 1, deadLetter: stream.dead, concurrency: 4 };
  const { consumer, told } = makeConsumer(stream, handler, options, makeDedup({ namespace: freshNamespace() }));
  const id = await stream.add({ n: 1 });
  await consumer.start();
  await begun.opened;
  // As it looks after the machine has slept.
  await stream.redis.call('XCLAIM', stream.stream, GROUP, 'one', '0', id, 'IDLE', '60000', 'RETRYCOUNT', '1', 'JUSTID');
  await until(async () => ((await stream.pending())[0]?.idleMs ?? 60_000) < 10_000);
  await until(async () => (await stream.pending())[0]?.deliveries === 2);
  held.open();
  await until(() => told.deadLettered.length === 1);
  expect(runs).toBe(1);
  expect(told.takenOver).toEqual([]);
});

test('an entry that is removed from the stream while it is in hand, and fails, is told of as lost', async () => {
  const { stream, held, frozen, id, kept } = await stage('one', {});
  await stream.redis.call('XCLAIM', stream.stream, GROUP, 'one', '0', id, 'RETRYCOUNT', '1', 'JUSTID');
  await stream.redis.xdel(stream.stream, id);
  await renewals(stream, kept, 2);
  held.fail(new Error('late'));
  await until(() => frozen.told.trimmed.length === 1);
  expect(frozen.told.trimmed).toMatchObject([{ id }]);
  expect((await stream.pending()).map((entry) => entry.id)).toEqual([kept]);
});

/** Before the plain Redis: connections that have read a stream can be made silent in both directions, and stay open. */
async function startRelay(): Promise<{ url: string; silence(): void }> {
  const { hostname, port } = new URL(inject('redisUrl'));
  const readers = new Set<Socket>();
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = dial(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => {}).on('close', () => to.destroy());
      from.on('data', (bytes) => {
        if (from === client && bytes.includes('xreadgroup')) readers.add(client).add(upstream);
        if (!silent.has(from)) to.write(bytes);
      });
    }
  }).listen(0, '127.0.0.1');
  const silent = new Set<Socket>();
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    url: `redis://127.0.0.1:${(server.address() as { port: number }).port}`,
    silence: () => {
      for (const socket of readers) silent.add(socket);
    },
  };
}

test('a read on a line that went silent is given up, and what it was handed comes again', async () => {
  const relay = await startRelay();
  const stream = makeStream();
  const { consumer, told, processed } = makeConsumer(
    stream,
    ({ id }, { tx }) => void tx.hincrby(stream.data, id, 1),
    {},
    makeDedup({ redisTimeout: 300 }, connect({}, relay.url)),
  );
  await consumer.start();
  const ids = [await stream.add({ n: 1 })];
  await processed(1);
  relay.silence();
  ids.push(await stream.add({ n: 2 }), await stream.add({ n: 3 }));
  await processed(3);
  expect(told.error).toMatchObject([{ operation: 'read', error: { code: 'STORE_UNAVAILABLE' } }]);
  expect(await stream.redis.hgetall(stream.data)).toEqual(Object.fromEntries(ids.map((id) => [id, '1'])));
  expect(await stream.pending()).toEqual([]);
});
