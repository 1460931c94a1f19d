/**
 * A flow: an order whose lines are reserved by jobs of their own, and which is confirmed when they are done. Each job's
 * writes are made once, however often the flow is added and its jobs are run.
 */
import type { FlowJob, Job } from 'bullmq';
import type { Dedup } from 'redis-once';
import { onceProcessor } from 'redis-once/bullmq';

export interface Order {
  readonly id: string;
  readonly lines: readonly Line[];
}

interface Line {
  readonly sku: string;
  readonly count: number;
}

interface LineOfOrder extends Line {
  readonly order: string;
}

export function orderFlow({ id, lines }: Order): FlowJob {
  const children = lines.map((line) => ({ name: 'reserve', queueName: 'lines', data: { ...line, order: id } }));
  return { name: 'confirm', queueName: 'orders', data: { id }, children };
}

/** For a worker of the queue `lines`. A kind of work, a scope: the keys of lines and orders never meet. */
export function reserveLine(dedup: Dedup) {
  return onceProcessor(
    dedup.scope('lines'),
    ({ data: { sku, count } }: Job<LineOfOrder, number>, { tx }) => {
      tx.hincrby('stock', sku, -count);
      return count;
    },
    { key: ({ data: { order, sku } }) => JSON.stringify([order, sku]) },
  );
}

/** For a worker of the queue `orders`. BullMQ runs the parent when all of its children are completed. */
export function confirmOrder(dedup: Dedup) {
  return onceProcessor(
    dedup.scope('orders'),
    async (job: Job<{ id: string }, { pieces: number }>, { tx }) => {
      // What a child returns is the same in every run: a replay gives the stored value.
      const counts = Object.values(await job.getChildrenValues<number>());
      const pieces = counts.reduce((sum, count) => sum + count, 0);
      tx.xadd('confirmed', '*', 'order', job.data.id, 'pieces', pieces);
      return { pieces };
    },
    { key: ({ data: { id } }) => id },
  );
}
