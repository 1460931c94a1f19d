/**
 * An `eachBatch` of kafkajs. After a rebalance, a crash or a throw, all since the last committed offset comes again, also
 * while its former owner is still at it; each message's writes are made once.
 *
 * ```js
 * await consumer.run({ eachBatchAutoResolve: false, eachBatch: eachBatch(dedup) });
 * ```
 *
 * Order: messages of one Kafka key are done one after another, those of different keys at once, some dozens at a time. A
 * message is begun when the one before it of its key is done, by this consumer or by another: so writes of one key come in
 * the order of the offsets, also across a rebalance. Among keys there is none.
 */
import { type Dedup, isDedupError } from 'redis-once';
import { inLanes } from './lanes.js';

export interface KafkaMessage {
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

/** As much of kafkajs' `EachBatchPayload` as is needed: its own type fits. */
export interface BatchPayload {
  readonly batch: { readonly topic: string; readonly partition: number; readonly messages: readonly KafkaMessage[] };
  resolveOffset(offset: string): void;
  heartbeat(): Promise<void>;
  commitOffsetsIfNecessary(): Promise<void>;
  isRunning(): boolean;
  isStale(): boolean;
}

export interface KafkaOptions {
  /**
   * Takes a message that failed `ATTEMPTS` times, which is then passed over; another topic, for instance. It may be given
   * one twice. Without it a message that will never succeed holds up its partition, as with any `eachBatch` that throws.
   */
  readonly deadLetter?: (message: KafkaMessage, error: Error) => Promise<unknown>;
}

interface Payment {
  readonly account: string;
  readonly cents: number;
}

/** Done between two heartbeats: fewer than fit into the consumer's `sessionTimeout`, 30 s by default. */
const AT_A_TIME = 32;
const ATTEMPTS = 5;

export function eachBatch(dedup: Dedup, { deadLetter }: KafkaOptions = {}): (payload: BatchPayload) => Promise<void> {
  // The topic keeps messages for 7 days (`retention.ms`, by default), and its open segment for longer.
  const payments = dedup.scope('kafka').with({ retention: '15d', ...(deadLetter && { maxAttempts: ATTEMPTS }) });

  return async ({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary, isRunning, isStale }) => {
    // Topic, partition and offset name a message. A topic that is deleted and made again begins at 0 once more: then the
    // fingerprint refuses what would else pass for done. What a producer sent twice has two offsets: if the payload has an
    // id of its own, that is the better key.
    const partition = payments.scope(batch.topic, String(batch.partition));

    const settle = async (message: KafkaMessage) => {
      const { offset, value } = message;
      const pay = () =>
        partition.once(
          offset,
          ({ tx }) => {
            // A tombstone of a compacted topic.
            if (value === null) return;
            const { account, cents } = JSON.parse(String(value)) as Payment;
            tx.hincrby('balances', account, cents).rpush(`statement-${account}`, `${offset} ${cents}`);
          },
          { fingerprint: value?.toString('base64') ?? null },
        );
      try {
        await pay();
      } catch (error) {
        if (!deadLetter || !isDedupError(error, 'ATTEMPTS_EXHAUSTED')) throw error;
        await deadLetter(message, error);
      }
    };

    for (let from = 0; from < batch.messages.length; from += AT_A_TIME) {
      // Stopped, or another offset was sought: what is left is not resolved, and comes again where it is wanted.
      if (!isRunning() || isStale()) return;
      const messages = batch.messages.slice(from, from + AT_A_TIME);
      const settled = await inLanes(messages, ({ key, offset }) => key?.toString('base64') ?? offset, settle);
      // Committed is up to the first that is not done. What is done behind it is replayed when it comes again.
      const stop = settled.findIndex(({ status }) => status !== 'done');
      const last = messages[(stop === -1 ? messages.length : stop) - 1];
      if (last) resolveOffset(last.offset);
      const failed = settled[stop];
      // kafkajs commits what is resolved, and fetches again from there.
      if (failed?.status === 'failed') throw failed.error;
      await commitOffsetsIfNecessary();
      // Throws where the group is being rebalanced: kafkajs joins it again.
      await heartbeat();
    }
  };
}
