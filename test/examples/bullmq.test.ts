/** The examples for BullMQ, with real queues. */
import type { Processor } from 'bullmq';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { confirmOrder, type Order, orderFlow, reserveLine } from '../../examples/bullmq/flow.js';
import { connectionOf, EACH_BULLMQ, makeQueue } from '../support/bullmq.js';
import { connect, freshNamespace, heldHandler, makeDedup, until } from '../support/index.js';
import { WORKER_OPTIONS } from '../support/packages.js';

/** The examples name their data plainly: a keyPrefix keeps each test's apart. */
function stage() {
  const keyPrefix = `${freshNamespace()}-`;
  const redis = connect({ keyPrefix });
  return { keyPrefix, redis };
}

describe.each(EACH_BULLMQ)('with %s', (_, bullmq) => {
  test('a sandboxed processor writes once, and waits for a key that is held elsewhere', async () => {
    const { keyPrefix, redis } = stage();
    const dedup = makeDedup({ namespace: 'invoices', lease: '1s' }, redis);
    const { queue, work, finished, look } = makeQueue(bullmq);
    work(new URL('../../examples/bullmq/sandbox.ts', import.meta.url), {
      concurrency: 2,
      workerForkOptions: {
        execArgv: [...WORKER_OPTIONS],
        env: { ...process.env, REDIS_URL: inject('redisUrl'), KEY_PREFIX: keyPrefix },
      },
    });
    const held = heldHandler({ booked: 0 });
    const holder = dedup.once('held', held.handler);
    await held.started;
    const waiting = await queue.add('book', { number: 'held', cents: 1 }, { attempts: 1 });
    await until(async () => (await look(waiting)).state === 'delayed');
    const jobs = [];
    for (const number of ['2026-1', '2026-2', '2026-1']) jobs.push(await queue.add('book', { number, cents: 500 }));
    for (const job of jobs) expect(await finished(job)).toEqual({ booked: 500 });
    expect(await redis.get('booked')).toBe('1000');
    held.release();
    await holder;
    expect(await finished(waiting)).toEqual({ booked: 0 });
    expect((await look(waiting)).attemptsMade).toBe(1);
  });

  test('a flow that is added twice reserves its lines once and confirms its order once', async () => {
    const { redis } = stage();
    const dedup = makeDedup({ namespace: 'shop' }, redis);
    const prefix = freshNamespace();
    const [lines, orders] = ['lines', 'orders'].map((name) => makeQueue(bullmq, name, prefix)) as [Queue, Queue];
    lines.work(reserveLine(dedup) as Processor);
    orders.work(confirmOrder(dedup) as Processor);
    const flows = new bullmq.FlowProducer({ connection: connectionOf(inject('redisUrl')), prefix });
    onTestFinished(() => flows.close());
    const order: Order = {
      id: 'o1',
      lines: [
        { sku: 'cup', count: 2 },
        { sku: 'pot', count: 1 },
      ],
    };
    for (let added = 0; added < 2; added += 1) {
      const { job } = await flows.add(orderFlow(order));
      expect(await orders.finished(job)).toEqual({ pieces: 3 });
    }
    expect(await redis.hgetall('stock')).toEqual({ cup: '-2', pot: '-1' });
    expect(await redis.xlen('confirmed')).toBe(1);
  });
});

type Queue = ReturnType<typeof makeQueue>;
