/**
 * A batch of one Kafka partition, as `eachBatch` of a consumer gets it. After a rebalance or a crash all since the last
 * committed offset comes again; each message's writes are made once. Offsets are committed up to the first that failed.
 */
import type { Dedup } from '../src/index.js';

/** As much of a kafkajs batch as is needed. */
export interface KafkaBatch {
  readonly topic: string;
  readonly partition: number;
  readonly messages: readonly { readonly offset: string; readonly value: Buffer | null }[];
}

export interface KafkaPosition {
  /** To commit: the first message that is not done; null where not even the first one is. */
  readonly commit: string | null;
  /** What the first one failed with: the consumer stops there, and is given that message again. */
  readonly error?: unknown;
}

interface Payment {
  readonly account: string;
  readonly cents: number;
}

/** Topic, partition and offset name a message for good; the topic's retention says how long it can come again. */
export async function handleBatch(dedup: Dedup, { topic, partition, messages }: KafkaBatch): Promise<KafkaPosition> {
  const outcomes = await dedup.scope('kafka', topic, String(partition)).onceMany(
    messages,
    {
      key: ({ offset }) => offset,
      handler: ({ offset, value }, { tx }) => {
        const { account, cents } = JSON.parse(String(value)) as Payment;
        tx.hincrby('balances', account, cents).rpush(`statement-${account}`, `${offset} ${cents}`);
      },
    },
    { retention: '8d' },
  );
  const at = outcomes.findIndex(({ status }) => status === 'failed');
  const done = at === -1 ? outcomes.length : at;
  const last = messages[done - 1];
  const commit = last ? String(BigInt(last.offset) + 1n) : null;
  // Those behind it that are done are replayed when they come again: a failure costs no message its writes, and none twice.
  const failed = outcomes[at];
  return failed?.status === 'failed' ? { commit, error: failed.error } : { commit };
}
