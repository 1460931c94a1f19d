/**
 * A batch of an SQS queue, as a Lambda function gets it. Messages arrive at least once; each one's writes are made once,
 * and only those that failed come again.
 */
import { type Dedup, isDedupError } from '../src/index.js';

/** As much of an SQS event as is needed: the types of `@types/aws-lambda` fit. */
export interface SqsEvent {
  readonly Records: readonly { readonly messageId: string; readonly body: string }[];
}

/** What tells SQS which messages to deliver again; asked for by `ReportBatchItemFailures`. */
export interface SqsBatchResponse {
  batchItemFailures: { itemIdentifier: string }[];
}

interface Order {
  readonly sku: string;
  readonly count: number;
}

/**
 * A copy that the producer sent twice has another messageId: where the body has an id of its own, use that. The retention
 * must exceed the queue's own, of 4 days by default.
 */
export function sqsHandler(dedup: Dedup): (event: SqsEvent) => Promise<SqsBatchResponse> {
  // A copy in the same batch is waited for; what another consumer is at for longer comes again.
  const orders = dedup.scope('orders').with({ retention: '5d', waitTimeout: '1s' });
  return async ({ Records }) => {
    const outcomes = await orders.onceMany(Records, {
      key: ({ messageId }) => messageId,
      handler: ({ body, messageId }, { tx }) => {
        const { sku, count } = JSON.parse(body) as Order;
        tx.hincrby('stock', sku, -count).xadd('shipments', '*', 'message', messageId, 'sku', sku);
      },
    });
    // Replayed is done as well: acknowledged, and not delivered again.
    const failed = outcomes.flatMap((outcome) => (outcome.status === 'failed' ? [outcome] : []));
    for (const { error, key } of failed) {
      // Delivered again, it settles by itself; what will never succeed ends in the dead-letter queue.
      if (!isDedupError(error) || !error.retryable) console.error(`Message ${key} failed:`, error);
    }
    return { batchItemFailures: failed.map(({ item }) => ({ itemIdentifier: item.messageId })) };
  };
}
