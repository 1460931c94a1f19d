/** `redis-once/bullmq` beside real BullMQ, 6 and 5. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { onceProcessor } from '../../src/bullmq/index.js';
import type { DedupEvents, OnceContext } from '../../src/index.js';
import { EACH_BULLMQ, type Job, makeQueue } from '../support/bullmq.js';
import { connect, expectCode, freshNamespace, gate, heldHandler, makeDedup, until } from '../support/index.js';

interface Payment {
  order: string;
  cents: number;
}
type PaymentJob = Job<Payment>;

const byOrder = { key: (job: PaymentJob) => job.data.order };

describe.each(EACH_BULLMQ)('with %s', (_, bullmq) => {
  test('a job returns what its handler returned, and its writes are there', async () => {
    const redis = connect();
    const { queue, work, finished } = makeQueue(bullmq);
    const dedup = makeDedup({}, redis);
    const total = freshNamespace();
    work(
      onceProcessor(dedup, (job: PaymentJob, { tx, attempt }) => {
        tx.incrby(total, job.data.cents);
        return { charged: job.data.cents, attempt };
      }),
    );
    const job = await queue.add('pay', { order: 'a', cents: 1999 });
    expect(await finished(job)).toEqual({ charged: 1999, attempt: 1 });
    expect(await redis.get(total)).toBe('1999');
  });

  test('jobs of one business key run once, and all return the same', async () => {
    const redis = connect();
    const { queue, work, finished } = makeQueue(bullmq);
    const total = freshNamespace();
    let runs = 0;
    const processor = onceProcessor(
      makeDedup({}, redis),
      (job: PaymentJob, { tx }) => {
        runs += 1;
        tx.incrby(total, job.data.cents);
        return { by: job.id };
      },
      byOrder,
    );
    work(processor);
    const jobs = [];
    for (const id of ['x', 'y', 'z'])
      jobs.push(await queue.add('pay', { order: 'a', cents: 5 }, { jobId: id, attempts: 1 }));
    const values = await Promise.all(jobs.map(finished));
    expect(values).toEqual([{ by: 'x' }, { by: 'x' }, { by: 'x' }]);
    expect(runs).toBe(1);
    expect(await redis.get(total)).toBe('5');
  });

  test('without a key, a job that is retried after it completed is replayed, and an id that starts again runs', async () => {
    const { queue, work, finished, look } = makeQueue(bullmq);
    let runs = 0;
    const processor = onceProcessor(makeDedup(), () => {
      runs += 1;
      return runs;
    });
    work(processor);
    const first = await queue.add('pay', {});
    expect(await finished(first)).toBe(1);
    // Its timestamp has ms: the next must not be of the same.
    await until(() => Date.now() > first.timestamp);
    const again = (await queue.getJob(first.id as string)) as Job;
    await again.retry('completed');
    await until(async () => (await look(first)).attemptsStarted === 2 && (await look(first)).state === 'completed');
    expect((await look(first)).returnvalue).toBe(1);
    expect(runs).toBe(1);

    await queue.obliterate({ force: true });
    const second = await queue.add('pay', {});
    expect(second.id).toBe(first.id);
    expect(await finished(second)).toBe(2);
  });

  test('queues of other names, or of one name and other prefixes, never share a default key', async () => {
    const dedup = makeDedup();
    const queues = [
      makeQueue(bullmq),
      makeQueue(bullmq, 'same', freshNamespace()),
      makeQueue(bullmq, 'same', freshNamespace()),
    ];
    for (const { queue, work, finished } of queues) {
      work(onceProcessor(dedup, (job) => job.queueQualifiedName));
      const job = await queue.add('n', {}, { jobId: 'same', timestamp: 1_000 });
      expect(await finished(job)).toBe(queue.qualifiedName);
    }
  });

  test('a job whose key is in progress elsewhere is delayed till the lease ends, and loses no attempt by it', async () => {
    const dedup = makeDedup({ lease: '2s' });
    const { queue, work, finished, look } = makeQueue(bullmq);
    const held = heldHandler({ by: 'holder' });
    const holder = dedup.once('a', held.handler);
    await held.started;
    work(
      onceProcessor(dedup, () => expect.fail('ran beside the holder'), byOrder),
      { concurrency: 5 },
    );
    const job = await queue.add('pay', { order: 'a', cents: 1 });
    const delayed = await look(job).then(async (now) => {
      while (now.state !== 'delayed') now = await look(job);
      return now;
    });
    expect(delayed.delay).toBeGreaterThan(0);
    expect(delayed.delay).toBeLessThanOrEqual(2_000);
    expect(delayed).toMatchObject({ attemptsMade: 0, attemptsStarted: 1 });
    held.release();
    await holder;
    expect(await finished(job)).toEqual({ by: 'holder' });
    // The attempt that completed it counts, as every one that ends does.
    expect((await look(job)).attemptsMade).toBe(1);
    expect((await look(job)).attemptsStarted).toBeGreaterThanOrEqual(2);
  });

  test('a holder that died is taken over when its lease ends', async () => {
    const redis = connect();
    const namespace = freshNamespace();
    const gone = makeDedup({ namespace, lease: '1s' }, redis);
    const held = heldHandler(1);
    const holder = gone.once('a', held.handler);
    holder.catch(() => {});
    await held.started;
    // It renews no more, and says nothing.
    redis.disconnect();
    const { queue, work, finished } = makeQueue(bullmq);
    work(
      onceProcessor(makeDedup({ namespace, lease: '1s' }), (_job: PaymentJob, { attempt }) => ({ attempt }), byOrder),
    );
    const job = await queue.add('pay', { order: 'a', cents: 1 }, { attempts: 1 });
    expect(await finished(job)).toEqual({ attempt: 2 });
    held.release();
    await expectCode(holder, 'STORE_UNAVAILABLE');
  });

  test('what a handler throws is released, and the attempts and backoff of the job decide', async () => {
    const { queue, work, finished, look } = makeQueue(bullmq);
    const total = freshNamespace();
    const redis = connect();
    work(
      onceProcessor(makeDedup({}, redis), (_job: PaymentJob, { attempt, tx }) => {
        tx.incr(total);
        if (attempt < 3) throw new TypeError('not yet');
        return attempt;
      }),
    );
    const job = await queue.add('pay', {}, { attempts: 3, backoff: { type: 'fixed', delay: 1 } });
    expect(await finished(job)).toBe(3);
    expect((await look(job)).attemptsMade).toBe(3);
    expect(await redis.get(total)).toBe('1');

    const failing = await queue.add('pay', {}, { attempts: 2 });
    await expect(finished(failing)).rejects.toThrow('not yet');
    expect(await look(failing)).toMatchObject({ attemptsMade: 2, state: 'failed', failedReason: 'not yet' });
  });

  test('a stored failure fails the other jobs of its key at once, for the same reason', async () => {
    const { queue, work, finished, look } = makeQueue(bullmq);
    let runs = 0;
    const fail = () => {
      runs += 1;
      throw new Error('the card is declined');
    };
    work(onceProcessor(makeDedup(), fail, { ...byOrder, onError: 'store' }));
    const first = await queue.add('pay', { order: 'a', cents: 1 }, { attempts: 3 });
    await expect(finished(first)).rejects.toThrow('the card is declined');
    const second = await queue.add('pay', { order: 'a', cents: 1 }, { attempts: 3 });
    await expect(finished(second)).rejects.toThrow('the card is declined');
    expect((await look(second)).attemptsMade).toBe(1);
    expect(runs).toBe(1);
  });

  test.each([
    ['attempts that are exhausted', { maxAttempts: 1 }, /1 attempts did not complete/],
    ['another payload', { fingerprint: ({ data }: PaymentJob) => data.cents }, /another fingerprint/],
  ])('%s fail a job at once: another attempt would be told the same', async (_what, options, reason) => {
    const { queue, work, finished, look } = makeQueue(bullmq);
    const processor = onceProcessor(
      makeDedup(),
      () => {
        throw new Error('broken');
      },
      { ...byOrder, ...options },
    );
    work(processor);
    const first = await queue.add('pay', { order: 'a', cents: 1 }, { attempts: 1 });
    await expect(finished(first)).rejects.toThrow('broken');
    const second = await queue.add('pay', { order: 'a', cents: 2 }, { attempts: 5 });
    await expect(finished(second)).rejects.toThrow(reason);
    expect((await look(second)).attemptsMade).toBe(1);
  });

  test('a rate limit that a handler sets passes through, and counts neither for the job nor for the key', async () => {
    const { queue, work, finished, look } = makeQueue(bullmq);
    const attempts: number[] = [];
    const worker = work(
      onceProcessor(
        makeDedup(),
        async (_job: Job, { attempt }) => {
          attempts.push(attempt);
          if (attempt > 2) return 'done';
          await queue.rateLimit(1);
          throw bullmq.Worker.RateLimitError();
        },
        { maxAttempts: 1 },
      ),
      { limiter: { max: 100, duration: 10 } },
    );
    await worker.waitUntilReady();
    const job = await queue.add('pay', {}, { attempts: 1 });
    expect(await finished(job)).toBe('done');
    expect(attempts).toEqual([1, 2, 3]);
    expect((await look(job)).attemptsMade).toBe(1);
  });

  test('a parent that waits for its children passes through, and counts neither for the job nor for the key', async () => {
    const { queue, work, finished, look } = makeQueue(bullmq);
    const onError = 'store' as const;
    work(
      onceProcessor(
        makeDedup(),
        async (job: Job<{ child?: number }>): Promise<unknown> => {
          if (job.data.child !== undefined) return job.data.child;
          await queue.add(
            'child',
            { child: 7 },
            { jobId: 'c', parent: { id: job.id as string, queue: job.queueQualifiedName } },
          );
          if (await job.moveToWaitingChildren(job.token as string)) throw new bullmq.WaitingChildrenError();
          return Object.values(await job.getChildrenValues());
        },
        { maxAttempts: 1, onError, lease: '500ms' },
      ),
      { concurrency: 2 },
    );
    const parent = await queue.add('parent', {});
    expect(await finished(parent)).toEqual([7]);
    expect((await look(parent)).attemptsMade).toBe(1);
  });

  test('a job that is cancelled aborts the signal of its handler, with an Error of the reason', async () => {
    const { queue, work, finished } = makeQueue(bullmq);
    const started = gate<OnceContext>();
    const dedup = makeDedup();
    const worker = work(
      onceProcessor(
        dedup,
        (_job: PaymentJob, context) => {
          started.open(context);
          return new Promise((_resolve, reject) => {
            context.signal.addEventListener('abort', () => reject(context.signal.reason));
          });
        },
        byOrder,
      ),
    );
    const job = await queue.add('pay', { order: 'a', cents: 1 });
    const { signal } = await started.opened;
    worker.cancelJob(job.id as string, 'by hand');
    await expect(finished(job)).rejects.toThrow('The job was cancelled: by hand');
    expect(signal.reason).toBeInstanceOf(Error);
    expect(await dedup.inspect('a')).toMatchObject({ state: 'released' });
  });

  test.each<[what: string, ending: (signal: AbortSignal) => unknown]>([
    ['commits and is refused', () => 'late'],
    ['throws the reason of its signal', async (signal) => await until(() => signal.throwIfAborted())],
    ['throws an AbortError of Node’s', (signal) => sleep(60_000, 'late', { signal })],
  ])('a holder that lost its key and %s waits for the taker, and loses no attempt', async (_what, ending) => {
    const redis = connect();
    const dedup = makeDedup({ lease: '500ms' }, redis);
    const { queue, work, finished, look } = makeQueue(bullmq);
    const [taken, started] = [gate(), gate()];
    work(
      onceProcessor(
        dedup,
        async (_job: PaymentJob, { signal }) => {
          started.open();
          await taken.opened;
          return ending(signal);
        },
        byOrder,
      ),
    );
    const job = await queue.add('pay', { order: 'a', cents: 1 }, { attempts: 1 });
    await started.opened;
    await dedup.forget('a', { force: true });
    await dedup.once('a', () => 'taker');
    taken.open();
    expect(await finished(job)).toBe('taker');
    expect((await look(job)).attemptsMade).toBe(1);
  });

  test('a Dedup that closes fails no job: another worker finishes it', async () => {
    const namespace = freshNamespace();
    const { queue, work, finished, look } = makeQueue(bullmq);
    const closing = makeDedup({ namespace });
    const started = gate();
    const hung = () => {
      started.open();
      return new Promise<string>(() => {});
    };
    const worker = work(onceProcessor(closing, hung, byOrder));
    const job = await queue.add('pay', { order: 'a', cents: 1 }, { attempts: 1 });
    await started.opened;
    await closing.close({ drain: 0 });
    await until(async () => (await look(job)).state === 'delayed');
    await worker.close();
    work(onceProcessor(makeDedup({ namespace }), () => 'other', byOrder));
    expect(await finished(job)).toBe('other');
    expect((await look(job)).attemptsMade).toBe(1);
  });

  test('an error of the library that a handler throws is the handler’s: it is told as any other', async () => {
    const dedup = makeDedup();
    const held = heldHandler(1);
    const inner = dedup.once('inner', held.handler);
    await held.started;
    const { queue, work, finished } = makeQueue(bullmq);
    const processor = onceProcessor(dedup, () => dedup.once('inner', () => 2, { onInProgress: 'throw' }), byOrder);
    work(processor);
    const job = await queue.add('pay', { order: 'a', cents: 1 });
    await expect(finished(job)).rejects.toThrow('Another attempt holds the key');
    held.release();
    await inner;
  });

  test('with `record: set` jobs of a key run once and return nothing; a window that is too short is told once', async () => {
    const dedup = makeDedup();
    const shorter: DedupEvents['shortRetention'][] = [];
    onTestFinished(dedup.on('shortRetention', (event) => shorter.push(event)));
    const record = dedup.seen('done', { window: '1h' });
    const { queue, work, finished } = makeQueue(bullmq);
    let runs = 0;
    // The queue of these tests has results of any kind, and a Job holds its result type both ways.
    work(onceProcessor(dedup, () => ({ run: ++runs }), { ...byOrder, record, lease: '20s' }) as never);
    for (const order of ['a', 'a', 'b']) {
      const job = await queue.add('pay', { order, cents: 1 }, { delay: 3 * 3_600_000 });
      await job.promote();
      expect(await finished(job)).toBeNull();
    }
    expect(runs).toBe(2);
    expect(await record.addMany(['a', 'b', 'c'])).toEqual([false, false, true]);
    expect(shorter).toMatchObject([{ key: 'a', retentionMs: 3_600_000 }]);
  });

  test('a record outlives the job’s latest copy; a shorter retention is kept, and told once', async () => {
    const dedup = makeDedup({ retention: '1m' });
    const shorter: DedupEvents['shortRetention'][] = [];
    onTestFinished(dedup.on('shortRetention', (event) => shorter.push(event)));
    const { queue, work, finished } = makeQueue(bullmq);
    // 3 d of delay, backoffs of 1 h and 2 h, one stall of 10 s and 20 s.
    const [lockDuration, stalledInterval] = [10_000, 20_000];
    const job = { attempts: 3, backoff: { type: 'exponential', delay: 3_600_000 }, delay: 3 * 86_400_000 };
    const neededMs = 3 * 86_400_000 + 3 * 3_600_000 + 30_000;
    const options = { lockDuration, stalledInterval };
    const worker = work(
      onceProcessor(dedup, () => 1, byOrder),
      options,
    );
    const first = await queue.add('pay', { order: 'a', cents: 1 }, job);
    await first.promote();
    await finished(first);
    const { expiresInMs } = (await dedup.inspect('a')) ?? {};
    expect(expiresInMs).toBeLessThanOrEqual(neededMs);
    expect(expiresInMs).toBeGreaterThan(neededMs - 60_000);
    expect(shorter).toEqual([]);
    await worker.close();

    work(
      onceProcessor(dedup, () => 1, { ...byOrder, retention: '1h' }),
      options,
    );
    for (const order of ['b', 'c']) {
      const given = await queue.add('pay', { order, cents: 1 }, job);
      await given.promote();
      await finished(given);
    }
    expect((await dedup.inspect('b'))?.expiresInMs).toBeLessThanOrEqual(3_600_000);
    expect(shorter).toMatchObject([{ key: 'b', retentionMs: 3_600_000, neededMs }]);
  });
});
