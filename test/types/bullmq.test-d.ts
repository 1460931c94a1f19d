import { type Job, type Processor, Worker } from 'bullmq';
import { expectTypeOf, test } from 'vitest';
import { onceProcessor } from '../../src/bullmq/index.js';
import type { Dedup, OnceContext, SeenSet } from '../../src/index.js';

interface Order {
  id: string;
  cents: number;
}
interface Receipt {
  charged: number;
  note?: string;
}
type Names = 'charge' | 'refund';

declare const dedup: Dedup;
declare const lossless: Dedup<{ encode(value: unknown): Buffer; decode(bytes: Buffer): unknown }>;
const connection = { host: 'localhost' };

test('data, result and name of the job are those of the worker that it is made for', () => {
  () =>
    new Worker<Order, Receipt, Names>(
      'orders',
      onceProcessor(dedup, async (job, context) => {
        expectTypeOf(job).toEqualTypeOf<Job<Order, Receipt, Names>>();
        expectTypeOf(context).toEqualTypeOf<OnceContext>();
        return { charged: job.data.cents };
      }),
      { connection },
    );
  () =>
    new Worker<Order, Receipt>(
      'orders',
      onceProcessor(dedup, (job) => ({ charged: job.data.cents, note: job.name }), {
        key: (job) => job.data.id,
        fingerprint: (job) => job.data,
        slot: (job) => job.data.id,
        retention: '7d',
      }),
      { connection },
    );
});

test('a result that the worker does not have is refused', () => {
  () =>
    new Worker<Order, Receipt>(
      'orders',
      // @ts-expect-error: Receipt wants `charged`
      onceProcessor(dedup, async () => ({ paid: 1 })),
      { connection },
    );
});

test('by itself, it says what it takes and gives, as BullMQ writes it', () => {
  const processor = onceProcessor<Order, Receipt, Names>(lossless, async () => ({ charged: 1 }));
  expectTypeOf(processor).toExtend<Processor<Order, Receipt, Names>>();
  const annotated = onceProcessor(dedup, async (job: Job<Order, Receipt>) => ({ charged: job.data.cents }));
  expectTypeOf(annotated).toExtend<Processor<Order, Receipt>>();
  () => new Worker<Order, Receipt>('orders', annotated, { connection });
});

test('jobs whose record is a mark return nothing', () => {
  const record = {} as SeenSet;
  const processor = onceProcessor<Order, Names>(dedup, async (job) => ({ charged: job.data.cents }), { record });
  expectTypeOf(processor).toExtend<Processor<Order, undefined, Names>>();
  () =>
    new Worker<Order, undefined>(
      'orders',
      onceProcessor(dedup, (job) => ({ charged: job.data.cents }), { record, key: (job) => job.data.id }),
      { connection },
    );
  () =>
    new Worker<Order, Receipt>(
      'orders',
      // @ts-expect-error: a mark keeps no receipt
      onceProcessor(dedup, (job) => ({ charged: job.data.cents }), { record, key: (job) => job.data.id }),
      { connection },
    );
  // @ts-expect-error: a mark has no room for a fingerprint
  onceProcessor(dedup, async () => 1, { record, fingerprint: () => 1 });
});

test('options that a processor sets itself are refused', () => {
  const handler = async () => ({ charged: 1 });
  // @ts-expect-error: a job in progress elsewhere is delayed
  onceProcessor(dedup, handler, { onInProgress: 'wait' });
  // @ts-expect-error
  onceProcessor(dedup, handler, { waitTimeout: '1s' });
  // @ts-expect-error: BullMQ's is passed on
  onceProcessor(dedup, handler, { signal: new AbortController().signal });
});
