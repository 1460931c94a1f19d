/**
 * A batch of an SQS queue, as a Lambda function gets it. Messages arrive at least once, and producers send twice; each
 * order's writes are made once, and only what was not done comes again.
 *
 * Set for the queue, the function's event source and the dead-letter queue:
 *
 * - `ReportBatchItemFailures`, or what is returned here counts for nothing and failed messages are deleted.
 * - A visibility timeout beyond the function's timeout (AWS: six times that) and beyond the lease. A function that dies
 *   leaves its keys held until their leases end: a message that comes before is only reported again, and each time that
 *   it comes counts towards `maxReceiveCount`.
 * - `maxReceiveCount` with room for such times: what will never succeed ends in the dead-letter queue by it.
 * - With FIFO, a dead-letter queue lets the later messages of a group pass the one that failed.
 */
import { type Dedup, isDedupError } from 'redis-once';
import { inLanes } from './lanes.js';

/** As much of an SQS record as is needed: the types of `@types/aws-lambda` fit. */
export interface SqsRecord {
  readonly messageId: string;
  readonly body: string;
  readonly eventSourceARN: string;
  readonly attributes: { readonly MessageGroupId?: string | undefined };
}

/** What tells SQS which messages to deliver again. */
export interface SqsBatchResponse {
  batchItemFailures: { itemIdentifier: string }[];
}

interface Order {
  readonly id: string;
  readonly sku: string;
  readonly count: number;
}

/**
 * From the first sending of a message to its last copy: 4 days in the queue (`MessageRetentionPeriod`, by default), up to
 * the 14th in the dead-letter queue, and 4 more in the queue again after a redrive, which begins its time anew. For FIFO
 * queues the move to the dead-letter queue does so as well: 22 days, and one to spare.
 */
const RETENTION = '23d';

/** Standard queues may have groups, too, for fairness: there they are no order. */
const isFifo = ({ eventSourceARN }: SqsRecord) => eventSourceARN.endsWith('.fifo');

export function sqsHandler(
  dedup: Dedup,
): (event: { readonly Records: readonly SqsRecord[] }) => Promise<SqsBatchResponse> {
  // A copy in the same batch is waited for; what another consumer is at for longer comes again.
  const orders = dedup.scope('orders').with({ retention: RETENTION, waitTimeout: '1s' });

  const ship = (order: Order) =>
    // The order's own id: a copy that the producer sent, and one that was redriven, has another messageId. Another order
    // under an old id is refused, a dead letter that somebody has mended as well: `forget` its key first.
    orders.once(
      order.id,
      ({ tx }) => {
        tx.hincrby('stock', order.sku, -order.count).xadd('shipments', '*', 'order', order.id, 'sku', order.sku);
      },
      { fingerprint: order },
    );

  return async ({ Records }) => {
    // FIFO: one after another in a group, and nothing behind a message that failed. All else at once.
    const settled = await inLanes(
      Records,
      (record) => (isFifo(record) ? record.attributes.MessageGroupId : record),
      async ({ body }) => ship(JSON.parse(body) as Order),
    );
    const batchItemFailures: SqsBatchResponse['batchItemFailures'] = [];
    for (const [at, outcome] of settled.entries()) {
      // Replayed is done as well: acknowledged, and not delivered again.
      if (outcome.status === 'done') continue;
      const { messageId } = Records[at] as SqsRecord;
      batchItemFailures.push({ itemIdentifier: messageId });
      if (outcome.status === 'behind') continue;
      // Delivered again, it settles by itself; what does not is for somebody to look at.
      const { error } = outcome;
      if (!isDedupError(error) || !error.retryable) console.error(`Message ${messageId} failed:`, error);
    }
    return { batchItemFailures };
  };
}
