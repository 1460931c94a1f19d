/** Consumers of Redis Streams: effects, record and acknowledgement in one step, and what becomes of entries that fail. */
import { describe, expect, test, vi } from 'vitest';
import type { DedupError, OnceContext } from '../../src/index.js';
import { produceOnce, StreamConsumer, type StreamMessage } from '../../src/streams/index.js';
import {
  connect,
  expectCode,
  freshNamespace,
  gate,
  heldHandler,
  makeDedup,
  ownRedis,
  ownServer,
  until,
} from '../support/index.js';
import { GROUP, makeConsumer, makeStream } from '../support/streams.js';

/** Counts each entry's runs in Redis, once an entry. */
function counting({ data }: { data: string }) {
  return ({ id }: StreamMessage, { tx }: OnceContext) => void tx.hincrby(data, id, 1);
}

describe('an entry', () => {
  test('is given with its fields and bytes, and is acknowledged with what its handler wrote', async () => {
    const stage = makeStream();
    const [messages, held] = [[] as StreamMessage[], gate()];
    const handler = async (message: StreamMessage, { tx }: OnceContext) => {
      messages.push(message);
      tx.incr(stage.data);
      await held.opened;
    };
    const { consumer, processed, told } = makeConsumer(stage, handler);
    const bytes = Buffer.from([0xff, 0x00, 0xfe]);
    const id = (await stage.redis.xadd(
      stage.stream,
      '*',
      'a',
      '1',
      '__proto__',
      'x',
      'a',
      '2',
      'bytes',
      bytes,
    )) as string;
    await consumer.start();
    await until(() => messages.length === 1);
    expect(await stage.pending()).toMatchObject([{ id, consumer: 'one', deliveries: 1 }]);
    expect(await stage.redis.exists(stage.data)).toBe(0);
    held.open();
    await processed(1);
    expect(await stage.pending()).toEqual([]);
    expect(await stage.redis.get(stage.data)).toBe('1');
    const [message] = messages as [StreamMessage];
    expect(message).toMatchObject({ id, deliveries: 1 });
    expect(Object.entries(message.fields).slice(0, 2)).toEqual([
      ['a', '2'],
      ['__proto__', 'x'],
    ]);
    expect(message.fields).toBe(message.fields);
    expect(message.pairs.map(([name]) => String(name))).toEqual(['a', '__proto__', 'a', 'bytes']);
    expect(message.pairs[3]?.[1]).toEqual(bytes);
    expect(told.processed).toMatchObject([{ id, stream: stage.stream, group: GROUP, status: 'executed', attempt: 1 }]);
  });

  test('of a key that is done is acknowledged without a run, and each group has keys of its own', async () => {
    const stage = makeStream();
    const dedup = makeDedup();
    const handler = (_: StreamMessage, { tx, key }: OnceContext) => void tx.rpush(stage.data, key);
    const key = ({ fields }: StreamMessage) => String(fields.order);
    const { consumer, processed, told } = makeConsumer(stage, handler, { key }, dedup);
    for (const order of ['x', 'y', 'x']) await stage.add({ order });
    await consumer.start();
    await processed(3);
    expect(told.processed.map(({ status }) => status).sort()).toEqual(['executed', 'executed', 'replayed']);
    expect((await stage.redis.lrange(stage.data, 0, -1)).sort()).toEqual(['x', 'y']);
    expect(await stage.pending()).toEqual([]);
    // By default the key is the entry's, of this stream and group.
    const groups = ['g1', 'g2'].map((group) => makeConsumer(stage, counting(stage), { group }, dedup));
    await stage.redis.unlink(stage.data);
    for (const { consumer } of groups) await consumer.start();
    for (const { processed } of groups) await processed(3);
    expect(Object.values(await stage.redis.hgetall(stage.data))).toEqual(['2', '2', '2']);
  });

  test('of the same key and another payload is a dead letter at once', async () => {
    const stage = makeStream();
    const { consumer, told } = makeConsumer(stage, () => 1, {
      key: () => 'k',
      fingerprint: ({ fields }) => fields,
      deadLetter: stage.dead,
    });
    await stage.add({ cents: 1 });
    await consumer.start();
    await until(() => told.processed.length === 1);
    const id = await stage.add({ cents: 2 });
    await until(() => told.deadLettered.length === 1);
    expect(told.failed).toMatchObject([{ id, deliveries: 1, error: { code: 'FINGERPRINT_MISMATCH' } }]);
    expect(await stage.letters()).toMatchObject([{ cents: '2' }]);
    expect(await stage.pending()).toEqual([]);
  });

  test('whose write is refused, or whose handler uses up `tx`, fails and is not acknowledged', async () => {
    const stage = makeStream();
    await stage.redis.set(stage.data, 'no number');
    const { consumer, told } = makeConsumer(stage, ({ fields }, { tx }) => {
      for (let count = 0; count < Number(fields.writes); count += 1) tx.incr(stage.data);
    });
    const ids = [await stage.add({ writes: 1 }), await stage.add({ writes: 1_000 })];
    await consumer.start();
    await until(() => new Set(told.failed.map(({ id }) => id)).size === 2);
    expect((await stage.pending()).map(({ id }) => id)).toEqual(ids);
    const codeOf = (id: string | undefined) => told.failed.find((event) => event.id === id)?.error;
    expect(ids.map(codeOf)).toMatchObject([{ code: 'EFFECT_REJECTED' }, { code: 'INVALID_OPTION' }]);
  });
});

describe('an entry that fails', () => {
  test('comes again, blocks no other, and is a dead letter after `maxDeliveries`, with fields, id and reason', async () => {
    const stage = makeStream();
    const runs = new Map<string, number[]>();
    const { consumer, told, processed } = makeConsumer(
      stage,
      ({ fields, deliveries }, { tx, attempt }) => {
        const name = String(fields.name);
        runs.set(name, [...(runs.get(name) ?? []), deliveries]);
        tx.hincrby(stage.data, name, 1);
        if (name === 'poison') throw new TypeError(`bad at ${attempt}`);
      },
      { concurrency: 2, maxDeliveries: 3, deadLetter: stage.dead },
    );
    const poison = await stage.add({ name: 'poison' });
    const good = Array.from({ length: 20 }, (_, index) => `good-${index}`);
    for (const name of good) await stage.add({ name });
    await consumer.start();
    await processed(20);
    await until(() => told.deadLettered.length === 1);
    expect(runs.get('poison')).toEqual([1, 2, 3]);
    expect(good.map((name) => runs.get(name))).toEqual(good.map(() => [1]));
    expect(await stage.redis.hgetall(stage.data)).toEqual(Object.fromEntries(good.map((name) => [name, '1'])));
    expect(await stage.pending()).toEqual([]);
    const reason = 'TypeError: bad at 3';
    expect(await stage.letters()).toEqual([
      {
        name: 'poison',
        'redis-once:stream': stage.stream,
        'redis-once:group': GROUP,
        'redis-once:id': poison,
        'redis-once:deliveries': '3',
        'redis-once:reason': reason,
      },
    ]);
    const [[letter]] = (await stage.redis.xrange(stage.dead, '-', '+')) as [[string, string[]]];
    expect(told.deadLettered).toMatchObject([{ id: poison, deliveries: 3, deadLetterId: letter, reason }]);
    expect(told.takenOver.map(({ deliveries }) => deliveries)).toEqual([2, 3]);
  });

  test('whose consumers died is not run again after `maxDeliveries`, but buried, unless its key is done', async () => {
    const stage = makeStream();
    const dedup = makeDedup();
    const done = await stage.add({ name: 'done' });
    const poison = await stage.add({ name: 'poison' });
    await stage.handOut('dead');
    for (let count = 1; count < 3; count += 1) await stage.redis.xclaim(stage.stream, GROUP, 'dead', 0, done, poison);
    await dedup.scope(stage.stream, GROUP).once(done, () => 'done elsewhere');
    const handler = vi.fn();
    const { consumer, told, processed } = makeConsumer(
      stage,
      handler,
      { maxDeliveries: 3, deadLetter: stage.dead },
      dedup,
    );
    await consumer.start();
    await processed(1);
    await until(() => told.deadLettered.length === 1);
    expect(handler).not.toHaveBeenCalled();
    expect(told.processed).toMatchObject([{ id: done, status: 'replayed', deliveries: 4 }]);
    expect(await stage.letters()).toMatchObject([
      { 'redis-once:id': poison, 'redis-once:reason': 'TooManyDeliveries: Not completed in 3 deliveries' },
    ]);
    expect(await stage.pending()).toEqual([]);
    // It is not stored as done: who mends it may run it.
    expect(await dedup.scope(stage.stream, GROUP).inspect(poison)).toMatchObject({ state: 'released' });
  });

  test('is not buried while its key is in progress elsewhere', async () => {
    const stage = makeStream();
    const namespace = freshNamespace();
    const [dedup, elsewhere] = [makeDedup({ namespace }), makeDedup({ namespace })];
    const id = await stage.add({ name: 'slow' });
    await stage.handOut('frozen');
    await stage.redis.xclaim(stage.stream, GROUP, 'frozen', 0, id);
    const { handler, started, release } = heldHandler('late');
    const running = elsewhere.scope(stage.stream, GROUP).once(id, handler);
    await started;
    const { consumer, told, processed } = makeConsumer(
      stage,
      () => 1,
      { maxDeliveries: 1, deadLetter: stage.dead },
      dedup,
    );
    await consumer.start();
    await until(() => told.postponed.length > 0);
    expect(told.postponed[0]).toMatchObject({ id, error: { code: 'IN_PROGRESS' } });
    release();
    await running;
    await processed(1);
    expect(told).toMatchObject({ deadLettered: [], processed: [{ status: 'replayed' }] });
  });

  test('without a stream of dead letters is handed out again and again', async () => {
    const stage = makeStream();
    const { consumer, told } = makeConsumer(stage, ({ deliveries }) => {
      if (deliveries < 13) throw new Error('not yet');
    });
    await stage.add({ name: 'late' });
    await consumer.start();
    await until(() => told.processed.length === 1);
    expect(told.processed).toMatchObject([{ deliveries: 13, attempt: 13 }]);
  });

  test('by its key, or by something that is no error, is told of as well', async () => {
    const stage = makeStream();
    const key = ({ fields }: StreamMessage) => {
      if (fields.key) return String(fields.key);
      throw new RangeError('no key');
    };
    const { consumer, told } = makeConsumer(stage, () => Promise.reject('a secret'), {
      key,
      maxDeliveries: 1,
      deadLetter: stage.dead,
    });
    await stage.add({ name: 'keyless' });
    await stage.add({ key: 'k' });
    await consumer.start();
    await until(() => told.deadLettered.length === 2);
    expect(new Set(told.deadLettered.map(({ reason }) => reason))).toEqual(
      new Set(['RangeError: no key', 'string was thrown']),
    );
  });

  test('by a stored failure is buried with what that failed with', async () => {
    const stage = makeStream();
    const dedup = makeDedup({ onError: 'store' });
    const fails = () => Promise.reject(new RangeError('card declined'));
    const { consumer, told } = makeConsumer(stage, fails, { key: () => 'k', deadLetter: stage.dead }, dedup);
    await stage.add({ n: 1 });
    await stage.add({ n: 2 });
    await consumer.start();
    await until(() => told.deadLettered.length === 2);
    expect(told.failed.some(({ error }) => (error as DedupError).code === 'STORED_FAILURE')).toBe(true);
    expect(told.deadLettered.map(({ reason }) => reason)).toEqual(Array(2).fill('RangeError: card declined'));
  });

  test('and cannot be buried is told of, and is not lost', async () => {
    const stage = makeStream();
    await stage.redis.set(stage.dead, 'no stream');
    const { consumer, told } = makeConsumer(stage, () => Promise.reject(new Error('fails')), {
      maxDeliveries: 1,
      deadLetter: stage.dead,
    });
    const id = await stage.add({ name: 'poison' });
    await consumer.start();
    await until(() => told.error.length > 0);
    expect(told.error[0]).toMatchObject({ operation: 'bury', error: { code: 'STORE_UNAVAILABLE' } });
    expect(await stage.pending()).toMatchObject([{ id }]);
    await stage.redis.unlink(stage.dead);
    await until(() => told.deadLettered.length === 1);
    expect(await stage.pending()).toEqual([]);
  });
});

describe('an entry of another consumer', () => {
  test('is taken over when that has not been heard of, and not while it is at work', async () => {
    const stage = makeStream();
    const namespace = freshNamespace();
    const { handler, started, release } = heldHandler(undefined);
    // Long enough for a machine that is slow today.
    const claimIdle = 3_000;
    const busy = makeConsumer(stage, handler, { concurrency: 1, claimIdle }, makeDedup({ namespace }));
    const id = await stage.add({ name: 'slow' });
    await busy.consumer.start();
    await started;
    const other = makeConsumer(stage, counting(stage), { consumer: 'two', claimIdle }, makeDedup({ namespace }));
    await other.consumer.start();
    const dead = await stage.add({ name: 'of the dead' });
    await until(() => other.told.processed.length === 1);
    // The other looks for idle entries four times as often, and the busy one says all along that it is there.
    let [renewed, last] = [0, 0];
    await until(async () => {
      const [entry] = await stage.pending();
      if (entry && entry.idleMs < last) renewed += 1;
      last = entry?.idleMs ?? 0;
      return renewed === 3;
    });
    expect(await stage.pending()).toMatchObject([{ id, consumer: 'one', deliveries: 1 }]);
    expect([...other.told.takenOver, ...other.told.postponed]).toEqual([]);
    release();
    await busy.processed(1);
    expect(other.told.processed.map(({ id: done }) => done)).toEqual([dead]);
  });

  test('that died is run, and a key that its attempt holds is waited for without being counted', async () => {
    const stage = makeStream();
    const namespace = freshNamespace();
    const ids = [await stage.add({ n: 1 }), await stage.add({ n: 2 })];
    await stage.handOut('dead');
    // The dead one held the first one's key.
    const { handler, started, release } = heldHandler(undefined);
    const held = makeDedup({ namespace })
      .scope(stage.stream, GROUP)
      .once(ids[0] as string, handler);
    await started;
    const { consumer, told, processed } = makeConsumer(
      stage,
      counting(stage),
      {},
      makeDedup({ namespace, lease: 200 }),
    );
    await consumer.start();
    await until(() => told.postponed.length > 0);
    await until(() => told.processed.length > 0);
    expect(told.processed).toMatchObject([{ id: ids[1], deliveries: 2, status: 'executed' }]);
    const [postponed] = await stage.pending();
    expect(postponed).toMatchObject({ id: ids[0], deliveries: 1 });
    release();
    await held;
    await processed(2);
    expect(told.processed[1]).toMatchObject({ id: ids[0], status: 'replayed', deliveries: 2 });
  });

  test('that is gone from the stream is told of as lost', async () => {
    const stage = makeStream();
    const id = await stage.add({ n: 1 });
    await stage.handOut('dead');
    await stage.redis.xdel(stage.stream, id);
    const { consumer, told } = makeConsumer(stage, () => 1);
    await consumer.start();
    await until(() => told.trimmed.length === 1);
    expect(told.trimmed).toEqual([{ stream: stage.stream, group: GROUP, id }]);
    expect(await stage.pending()).toEqual([]);
  });
});

describe('a consumer', () => {
  test('has no more in hand than its concurrency, and half of that of what failed before', async () => {
    const stage = makeStream();
    for (let n = 0; n < 10; n += 1) await stage.add({ n });
    await stage.handOut('dead', 5);
    const [open, running] = [gate(), { now: 0, old: 0, most: 0, mostOld: 0 }];
    const handler = async ({ deliveries }: StreamMessage) => {
      const old = deliveries > 1 ? 1 : 0;
      running.now += 1;
      running.old += old;
      running.most = Math.max(running.most, running.now);
      running.mostOld = Math.max(running.mostOld, running.old);
      await open.opened;
      await new Promise((resolve) => setImmediate(resolve));
      running.now -= 1;
      running.old -= old;
    };
    const { consumer, processed } = makeConsumer(stage, handler, { concurrency: 4 });
    await until(async () => (await stage.pending()).every(({ idleMs }) => idleMs > 100));
    await consumer.start();
    await until(() => running.now === 4);
    expect(running.old).toBe(2);
    expect((await stage.pending()).filter((entry) => entry.consumer === 'one')).toHaveLength(4);
    open.open();
    await processed(10);
    expect(running).toMatchObject({ most: 4, mostOld: 2 });
    expect(await stage.pending()).toEqual([]);
  });

  test('runs those that were handed out often one at a time, and counts none for another', async () => {
    const stage = makeStream();
    const ids: string[] = [];
    for (let n = 0; n < 6; n += 1) ids.push(await stage.add({ n }));
    await stage.handOut('dead');
    await stage.redis.xclaim(stage.stream, GROUP, 'dead', 0, ...ids, 'IDLE', 60_000, 'RETRYCOUNT', 4);
    const [running, most] = [new Set<string>(), [] as number[]];
    const handler = async ({ id, deliveries }: StreamMessage) => {
      running.add(id);
      most.push(running.size);
      expect(deliveries).toBe(5);
      // As they stand in Redis, should this process die now.
      const others = (await stage.pending()).filter((entry) => entry.id !== id);
      expect(others.map((entry) => entry.deliveries)).toEqual(others.map(() => 4));
      running.delete(id);
    };
    // Idle entries are looked for every 15 s, and when one of these is done.
    const options = { claimIdle: 60_000, maxDeliveries: 5, deadLetter: stage.dead };
    const { consumer, processed, told } = makeConsumer(stage, handler, options);
    await consumer.start();
    await processed(6);
    expect(most).toEqual([1, 1, 1, 1, 1, 1]);
    expect(told).toMatchObject({ failed: [], deadLettered: [] });
  });

  test('takes a backlog over as fast as it is done, however long its reads may block, and reads what is new meanwhile', async () => {
    const stage = makeStream();
    for (let n = 0; n < 60; n += 1) await stage.add({ n });
    await stage.handOut('dead');
    const ids = (await stage.pending()).map(({ id }) => id);
    await stage.redis.xclaim(stage.stream, GROUP, 'dead', 0, ...ids, 'IDLE', 90_000, 'JUSTID');
    const { handler, started, release } = heldHandler(undefined);
    const held = new Set<unknown>();
    const options = { claimIdle: 60_000, blockMs: 60_000, concurrency: 4 };
    const { consumer, processed, told } = makeConsumer(
      stage,
      (message) => {
        // Two of the old ones hang, and fill the room that there is for such.
        if (held.size === 2 || message.deliveries === 1) return;
        held.add(message.id);
        return handler();
      },
      options,
    );
    await consumer.start();
    await started;
    await stage.add({ n: 'new' });
    await processed(1);
    expect(told.processed).toMatchObject([{ deliveries: 1 }]);
    release();
    await processed(61);
    expect(told).toMatchObject({ failed: [], postponed: [] });
    // Lest the end of this test wait for a read.
    void consumer.stop();
    await stage.add({ n: 'last' });
  });

  test('begins where it is told to, makes group and stream, and makes the group again', async () => {
    const stage = makeStream();
    await stage.add({ n: 1 });
    const late = makeConsumer(stage, counting(stage), { startId: '$' });
    await late.consumer.start();
    const id = await stage.add({ n: 2 });
    await late.processed(1);
    expect(late.told.processed.map((event) => event.id)).toEqual([id]);
    const none = makeStream();
    const { consumer, processed, told } = makeConsumer(none, counting(none));
    await consumer.start();
    await none.add({ n: 1 });
    await processed(1);
    await none.redis.xgroup('DESTROY', none.stream, GROUP);
    await none.add({ n: 2 });
    await processed(3);
    // From the start: the first is replayed, since its record stands.
    expect(told.processed.map(({ status }) => status).sort()).toEqual(['executed', 'executed', 'replayed']);
    expect(Object.values(await none.redis.hgetall(none.data))).toEqual(['1', '1']);
    expect(told.error[0]).toMatchObject({ operation: 'read' });
  });

  test('that stops lets its handlers finish, takes nothing more, and leaves the connection open', async () => {
    const stage = makeStream();
    const { handler, started, release } = heldHandler(undefined);
    const { consumer, told } = makeConsumer(stage, handler);
    const id = await stage.add({ n: 1 });
    await consumer.start();
    await started;
    const stopped = consumer.stop();
    release();
    await stopped;
    expect(told.processed).toMatchObject([{ id }]);
    const next = await stage.add({ n: 2 });
    await consumer.stop();
    await expectCode(consumer.start(), 'CLOSED');
    expect(await stage.pending()).toEqual([]);
    const successor = makeConsumer(stage, counting(stage));
    await successor.consumer.start();
    await successor.processed(1);
    expect(successor.told.processed).toMatchObject([{ id: next, deliveries: 1 }]);
  });

  test('that stops leaves what it cannot finish to others at once, uncounted', async () => {
    const stage = makeStream();
    const namespace = freshNamespace();
    const begun = gate();
    const handler = async (_: StreamMessage, { signal }: OnceContext) => {
      begun.open();
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    // Idle entries are looked for every 15 s: who finds this one need not wait.
    const claimIdle = 60_000;
    const { consumer, told } = makeConsumer(stage, handler, { claimIdle }, makeDedup({ namespace }));
    const id = await stage.add({ n: 1 });
    await consumer.start();
    await begun.opened;
    await consumer.stop({ drain: 10 });
    expect(told.postponed).toMatchObject([{ id, inMs: 0, error: { code: 'CLOSED' } }]);
    const other = makeConsumer(stage, counting(stage), { consumer: 'two', claimIdle }, makeDedup({ namespace }));
    await other.consumer.start();
    await other.processed(1);
    expect(other.told.processed).toMatchObject([{ id, deliveries: 1, status: 'executed' }]);
  });

  test('that stops waits for no handler that heeds no signal, and nothing comes of what that returns later', async () => {
    const stage = makeStream();
    const namespace = freshNamespace();
    const [begun, held, late] = [gate(), gate(), gate()];
    const handler = async ({ id }: StreamMessage, { tx }: OnceContext) => {
      tx.hincrby(stage.data, id, 100);
      begun.open();
      await held.opened;
      late.open();
    };
    // Neither the take-over nor a redisTimeout may be what the test waits for.
    const [claimIdle, redisTimeout] = [60_000, '10m'] as const;
    const { consumer, told } = makeConsumer(stage, handler, { claimIdle }, makeDedup({ namespace, redisTimeout }));
    const id = await stage.add({ n: 1 });
    await consumer.start();
    await begun.opened;
    await consumer.stop({ drain: 10 });
    expect(told.postponed).toMatchObject([{ id, inMs: 0, error: { code: 'CLOSED' } }]);
    const other = makeConsumer(stage, counting(stage), { consumer: 'two', claimIdle }, makeDedup({ namespace }));
    await other.consumer.start();
    await other.processed(1);
    held.open();
    await late.opened;
    expect(other.told.processed).toMatchObject([{ id, deliveries: 1, status: 'executed' }]);
    expect(await stage.redis.hget(stage.data, id)).toBe('1');
    expect(told.processed).toEqual([]);
  });

  test('that stops leaves an entry to others, uncounted, whose lease was lost before', async () => {
    const stage = makeStream();
    const dedup = makeDedup({ lease: '1s' });
    const [begun, lost] = [gate(), gate()];
    const handler = () => {
      begun.open();
      return new Promise<void>(() => {});
    };
    const options = { key: () => 'k', maxDeliveries: 1, deadLetter: stage.dead, claimIdle: 60_000 };
    const { consumer, told } = makeConsumer(stage, handler, options, dedup);
    dedup.on('leaseLost', () => lost.open());
    const id = await stage.add({ n: 1 });
    await consumer.start();
    await begun.opened;
    await dedup.forget('k', { force: true });
    await lost.opened;
    await consumer.stop({ drain: 0 });
    expect(told).toMatchObject({ failed: [], deadLettered: [], postponed: [{ id, inMs: 0 }] });
    const other = makeConsumer(stage, counting(stage), { ...options, consumer: 'two' }, makeDedup());
    await other.consumer.start();
    await other.processed(1);
    expect(other.told.processed).toMatchObject([{ id, deliveries: 1, status: 'executed' }]);
  });

  test('stops with its Dedup, whose handlers finish', async () => {
    const stage = makeStream();
    const { handler, started, release } = heldHandler(undefined);
    const { consumer, told, dedup } = makeConsumer(stage, handler);
    await stage.add({ n: 1 });
    await consumer.start();
    await started;
    const closed = dedup.close();
    release();
    await closed;
    await consumer.stop();
    expect(told.processed).toHaveLength(1);
    expect(await stage.pending()).toEqual([]);
  });

  test('stops with the connection of its Dedup, and takes nothing more into its hand', async () => {
    const stage = makeStream();
    const redis = connect();
    const { consumer, told, processed } = makeConsumer(stage, counting(stage), {}, makeDedup({}, redis));
    await consumer.start();
    await stage.add({ n: 1 });
    await processed(1);
    redis.disconnect();
    await until(() => redis.status === 'end');
    await consumer.stop();
    await expectCode(consumer.start(), 'CLOSED');
    expect(told).toMatchObject({ postponed: [], error: [] });
    // Also where nobody stops it.
    const name = freshNamespace();
    const other = connect({ connectionName: name });
    const left = makeConsumer(stage, counting(stage), { consumer: 'two' }, makeDedup({}, other));
    await left.consumer.start();
    other.disconnect();
    await until(async () => !String(await stage.redis.client('LIST')).includes(name));
    await stage.add({ n: 2 });
    expect(await stage.pending()).toEqual([]);
  });

  test('does not start with a Dedup that is closed', async () => {
    const stage = makeStream();
    const { consumer, dedup } = makeConsumer(stage, counting(stage));
    await dedup.close();
    await expectCode(consumer.start(), 'CLOSED');
  });

  test.each(['its Dedup closes', 'it stops already'])('is stopped sooner by a shorter drain, while %s', async (how) => {
    const stage = makeStream();
    const begun = gate();
    const handler = async (_: StreamMessage, { signal }: OnceContext) => {
      begun.open();
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    const { consumer, told, dedup } = makeConsumer(stage, handler);
    const id = await stage.add({ n: 1 });
    await consumer.start();
    await begun.opened;
    const first = how === 'it stops already' ? consumer.stop({ drain: '24h' }) : dedup.close({ drain: '24h' });
    await consumer.stop({ drain: 0 });
    await first;
    expect(told.postponed).toMatchObject([{ id, inMs: 0, error: { code: 'CLOSED' } }]);
  });

  test('goes on when its connection is killed, and while Redis refuses no entry fails', async () => {
    const server = await ownServer();
    const stage = makeStream(connect({}, server.url));
    const mine = connect({ connectionName: 'mine' }, server.url);
    const dedup = makeDedup({ lease: 1_000 }, mine);
    const { consumer, processed, told } = makeConsumer(
      stage,
      counting(stage),
      { maxDeliveries: 5, deadLetter: stage.dead },
      dedup,
    );
    await consumer.start();
    await stage.add({ n: 1 });
    await processed(1);
    const clients = String(await stage.redis.client('LIST'));
    const blocked = clients.split('\n').filter((line) => /cmd=xreadgroup/.test(line));
    expect(blocked).toHaveLength(1);
    for (const line of blocked) await stage.redis.client('KILL', 'ID', /id=(\d+)/.exec(line)?.[1] as string);
    await stage.add({ n: 2 });
    await processed(2);
    // Records may be evicted now: nothing is run, and nothing is held against the entries.
    await stage.redis.config('SET', 'maxmemory', '1gb', 'maxmemory-policy', 'allkeys-lru');
    const dropped = new Promise((resolve) => mine.once('close', resolve));
    for (const [, id] of clients.matchAll(/^id=(\d+) .* name=mine /gm))
      await stage.redis.client('KILL', 'ID', id as string);
    await dropped;
    await stage.add({ n: 3 });
    await until(() => told.postponed.length > 0);
    expect(told.postponed[0]).toMatchObject({ error: { code: 'UNSAFE_SERVER' } });
    await stage.redis.config('SET', 'maxmemory-policy', 'noeviction');
    await processed(3);
    expect(told).toMatchObject({ failed: [], deadLettered: [] });
    expect(await stage.pending()).toEqual([]);
  });

  test('cannot start where Redis is not reached, and may be started later', async () => {
    const redis = connect({ maxRetriesPerRequest: 0, retryStrategy: () => 10 }, await ownRedis());
    const stage = makeStream(redis);
    await redis.set(stage.stream, 'no stream');
    const { consumer, processed } = makeConsumer(stage, counting(stage), {}, makeDedup({}, redis));
    const error = await expectCode(consumer.start(), 'STORE_UNAVAILABLE');
    expect(error.message).toContain('the consumer has not started');
    await redis.unlink(stage.stream);
    await consumer.start();
    await stage.add({ n: 1 });
    await processed(1);
  });

  test("reads for as long as it says, whatever times out on the caller's connection", async () => {
    const stage = makeStream();
    const redis = connect({ commandTimeout: 40, socketTimeout: 60, enableAutoPipelining: true, stringNumbers: true });
    const { consumer, processed, told } = makeConsumer(stage, counting(stage), { blockMs: 300 }, makeDedup({}, redis));
    await consumer.start();
    await new Promise((resolve) => setTimeout(resolve, 400));
    await stage.add({ n: 1 });
    await processed(1);
    expect(told.error).toEqual([]);
  });

  test('refuses options that are wrong, naming them', async () => {
    const dedup = makeDedup({ namespace: 'orders' });
    const good = { stream: 's', group: 'g', consumer: 'c', handler: () => 1 };
    const make = (options: object) => () => new StreamConsumer(dedup, { ...good, ...options });
    for (const [options, sentence] of [
      [{ stream: undefined }, '`stream` to be given'],
      [{ consumer: '' }, '`consumer` to be a non-empty string'],
      [{ handler: 1 }, '`handler` to be a function of the message and its context'],
      [{ key: 'k' }, '`key` to be a function of the message'],
      [{ startId: 'x' }, '`startId` to be `$` or the id of an entry'],
      [{ batchSize: 0 }, '`batchSize`'],
      [{ blockMs: 0 }, '`blockMs`'],
      [{ claimIdle: '1ms' }, '`claimIdle`'],
      [{ concurrency: 0 }, '`concurrency`'],
      [{ maxDeliveries: 3 }, '`deadLetter` where `maxDeliveries`'],
      [{ deadLetter: 's' }, '`deadLetter` to be another stream'],
      [{ stream: 'orders:s' }, '`orders:` is the namespace'],
      [{ deadLetter: 'orders:dead' }, '`orders:` is the namespace'],
      [{ noack: true }, '`noack` is not an option'],
    ] as const) {
      expect(make(options), sentence).toThrow(sentence);
    }
    const consumer = make({})();
    expect(() => consumer.on('nothing' as never, () => {})).toThrow('Expected an event');
    await expect(consumer.stop({ drain: 'never' } as never)).rejects.toThrow('`drain`');
  });
});

describe('produceOnce', () => {
  test('adds an entry to a stream, or elements to a list, once per key', async () => {
    const { redis, stream, data } = makeStream();
    const dedup = makeDedup();
    const add = (key: string) => produceOnce(dedup, key, { stream, fields: { n: 1, bytes: Buffer.from([0xff]) } });
    const [one, copy] = await Promise.all([add('a'), add('a')]);
    expect([one.status, copy.status].sort()).toEqual(['executed', 'replayed']);
    expect(one.id).toBe(copy.id);
    expect((await redis.xrangeBuffer(stream, '-', '+')).map(([id, words]) => [String(id), words])).toEqual([
      [one.id, [Buffer.from('n'), Buffer.from('1'), Buffer.from('bytes'), Buffer.from([0xff])]],
    ]);
    const push = () => produceOnce(dedup, 'b', { list: data, values: ['x', 'y'] });
    expect([await push(), await push()]).toEqual([
      { status: 'executed', length: 2 },
      { status: 'replayed', length: 2 },
    ]);
    expect(await redis.lrange(data, 0, -1)).toEqual(['x', 'y']);
    for (let n = 0; n < 300; n += 1) await produceOnce(dedup, `m${n}`, { stream, fields: { n }, maxLength: 10 });
    expect(await redis.xlen(stream)).toBeLessThan(200);
  });

  test('refuses what is no target', async () => {
    const dedup = makeDedup({ namespace: 'orders' });
    for (const target of [
      {},
      null,
      undefined,
      'x',
      { stream: 1, fields: { n: 1 } },
      { stream: 's', fields: null },
      { stream: 's', fields: { n: 1 }, maxLen: 5 },
      { list: 'l', values: ['x'], fields: {} },
    ]) {
      await expectCode(produceOnce(dedup, 'k', target as never), 'INVALID_OPTION');
    }
    await expectCode(produceOnce(dedup, 'k', { stream: 'orders:s', fields: { n: 1 } }), 'INVALID_OPTION');
    await expectCode(produceOnce(dedup, 'k', { stream: 's', fields: {} }), 'INVALID_OPTION');
    const odd = { stream: undefined, list: freshNamespace(), values: ['x'], fields: undefined };
    expect(await produceOnce(dedup, 'odd', odd as never)).toMatchObject({ length: 1 });
    await expectCode(produceOnce({} as never, 'k', { stream: 's', fields: { n: 1 } }), 'INVALID_OPTION');
    expect(() => new StreamConsumer({} as never, {} as never)).toThrow('Expected a Dedup, got');
  });
});
