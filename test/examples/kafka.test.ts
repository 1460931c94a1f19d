/** The Kafka example, against a consumer group that behaves as kafkajs does, and the real Redis. */
import { expect, test } from 'vitest';
import { type BatchPayload, eachBatch, type KafkaMessage, type KafkaOptions } from '../../examples/kafka-batch.js';
import { connect, freshNamespace, makeDedup } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';

/** As much as kafkajs gives: the example takes what it needs. */
interface FakePayload extends BatchPayload {
  readonly batch: BatchPayload['batch'] & { readonly highWatermark: string; isEmpty(): boolean; lastOffset(): string };
  commitOffsetsIfNecessary(offsets?: { topics: object[] }): Promise<void>;
  uncommittedOffsets(): { topics: object[] };
  pause(): () => void;
}
type EachBatch = (payload: FakePayload) => Promise<void>;

class Expelled extends Error {
  readonly type = 'UNKNOWN_MEMBER_ID';
}

/** A partition with its group: it has one owner, and who was owner before does not know it until it asks. */
class FakePartition {
  committed = 0;
  throws = 0;
  #generation = 0;

  constructor(
    readonly messages: readonly KafkaMessage[],
    /** Asked before each step of a member: is there a rebalance now, which gives the partition to another? */
    readonly rebalances: () => boolean = () => false,
    readonly fetched = 100,
    readonly retries = 5,
  ) {}

  /** Members one after another, and at the same time, until all is committed. */
  async consume(newMember: () => EachBatch): Promise<void> {
    const members = new Set<Promise<void>>();
    const join = () => {
      const member = this.#live(newMember(), join).finally(() => members.delete(member));
      members.add(member);
    };
    while (this.committed < this.messages.length) {
      join();
      while (members.size > 0) await Promise.all(members);
    }
  }

  /** One member's life, from its join to the end of the topic, its expulsion, or its crash. */
  async #live(handle: EachBatch, rebalance: () => void): Promise<void> {
    this.#generation += 1;
    const generation = this.#generation;
    // What was resolved and not committed is forgotten: all since the last commit comes again.
    let resolved = this.committed;
    const ask = () => {
      if (generation !== this.#generation) throw new Expelled();
    };
    const step = () => {
      if (generation === this.#generation && this.rebalances()) rebalance();
    };
    const commit = async () => {
      ask();
      this.committed = resolved;
    };
    for (let failures = 0; resolved < this.messages.length; ) {
      const messages = this.messages.slice(resolved, resolved + this.fetched);
      const lastOffset = () => messages.at(-1)?.offset as string;
      const payload: FakePayload = {
        batch: {
          topic: 'payments',
          partition: 3,
          highWatermark: String(this.messages.length),
          messages,
          isEmpty: () => messages.length === 0,
          lastOffset,
        },
        resolveOffset: (offset) => {
          resolved = Number(BigInt(offset) - BigInt(this.messages[0]?.offset ?? 0)) + 1;
        },
        heartbeat: async () => {
          step();
          ask();
        },
        // As without autoCommitInterval and autoCommitThreshold, the default: offsets are committed after the batch.
        commitOffsetsIfNecessary: async () => ask(),
        uncommittedOffsets: () => ({ topics: [] }),
        pause: () => () => {},
        isRunning: () => {
          step();
          return true;
        },
        isStale: () => false,
      };
      try {
        try {
          await handle(payload);
        } catch (error) {
          if (error instanceof Expelled) throw error;
          this.throws += 1;
          failures += 1;
          await commit();
          if (failures > this.retries) return;
          continue;
        }
        await commit();
        failures = 0;
      } catch (error) {
        if (error instanceof Expelled) return;
        throw error;
      }
    }
  }
}

/** The example names its data plainly: a keyPrefix keeps each test's apart. Each member has a Dedup of its own. */
function stage(options: KafkaOptions = {}) {
  const keyPrefix = `${freshNamespace()}-`;
  const newMember = () => eachBatch(makeDedup({ namespace: 'example' }, connect({ keyPrefix })), options);
  return { redis: connect({ keyPrefix }), newMember };
}

function payment(offset: number | string, account: string, cents: unknown): KafkaMessage {
  return {
    offset: String(offset),
    key: Buffer.from(account),
    value: Buffer.from(JSON.stringify({ account, cents })),
  };
}

test('sums are exact and each account is in order, however often the group is rebalanced in mid-batch', async () => {
  const { redis, newMember } = stage();
  const seed = chooseSeed();
  console.log(`Seed ${seed}`);
  const random = seededRandom(seed);
  const messages = Array.from({ length: 400 }, (_, offset) =>
    payment(offset, `a${Math.floor(random() * 6)}`, 1 + Math.floor(random() * 100)),
  );
  let left = 25;
  const partition = new FakePartition(messages, () => left > 0 && random() < 0.3 && left-- > 0);
  await partition.consume(newMember);
  expect(partition.throws).toBe(0);
  expect(left).toBeLessThan(25);
  for (let account = 0; account < 6; account += 1) {
    const own = messages.filter(({ key }) => String(key) === `a${account}`);
    const cents = own.map(({ value }) => Number(JSON.parse(String(value)).cents));
    expect(await redis.hget('balances', `a${account}`)).toBe(String(cents.reduce((sum, one) => sum + one, 0)));
    expect(await redis.lrange(`statement-a${account}`, 0, -1)).toEqual(
      own.map(({ offset }, i) => `${offset} ${cents[i]}`),
    );
  }
});

test('a message that fails holds up its partition: what is before it is committed, what is behind it is written once', async () => {
  const { redis, newMember } = stage();
  const messages = [payment(10, 'a', 1), payment(11, 'a', 'none'), payment(12, 'a', 4), payment(13, 'b', 8)];
  const partition = new FakePartition(messages);
  // Until it crashes: six times is it given the message, and the one of another account that is behind it.
  let members = 0;
  const once = () => {
    members += 1;
    return members === 1 ? newMember() : expect.fail('A second member');
  };
  await expect(partition.consume(once)).rejects.toThrow('A second member');
  expect([partition.committed, partition.throws]).toEqual([1, 6]);
  expect(await redis.hgetall('balances')).toEqual({ a: '1', b: '8' });
});

test('with a dead-letter topic it is passed over after five attempts', async () => {
  const dead: string[] = [];
  const { redis, newMember } = stage({ deadLetter: async ({ offset }) => dead.push(offset) });
  const messages = [payment(10, 'a', 1), payment(11, 'a', 'none'), payment(12, 'a', 4), payment(13, 'b', 8)];
  const partition = new FakePartition(messages);
  await partition.consume(newMember);
  expect([partition.committed, partition.throws, dead]).toEqual([4, 5, ['11']]);
  expect(await redis.hgetall('balances')).toEqual({ a: '5', b: '8' });
});

test('a batch that is stale, or a consumer that stops, resolves only what is done', async () => {
  const { redis, newMember } = stage();
  const messages = Array.from({ length: 100 }, (_, offset) => payment(offset, 'a', 1));
  for (const ending of ['isStale', 'isRunning'] as const) {
    let asked = 0;
    const resolved: string[] = [];
    await newMember()({
      batch: { topic: ending, partition: 0, messages },
      resolveOffset: (offset) => resolved.push(offset),
      heartbeat: async () => {},
      commitOffsetsIfNecessary: async () => {},
      isRunning: () => true,
      isStale: () => false,
      [ending]: () => {
        asked += 1;
        return (ending === 'isStale') === asked > 1;
      },
    });
    expect(resolved).toEqual(['31']);
  }
  expect(await redis.hget('balances', 'a')).toBe('64');
});

test('offsets past 2^53 keep their digits, tombstones are passed over, and a topic made again is refused', async () => {
  const { redis, newMember } = stage();
  const big = '9007199254740993';
  const partition = new FakePartition([payment(big, 'a', 32), { offset: '9007199254740994', key: null, value: null }]);
  await partition.consume(newMember);
  expect(partition.committed).toBe(2);
  expect(await redis.lrange('statement-a', 0, -1)).toEqual([`${big} 32`]);
  const again = new FakePartition([payment(big, 'a', 64)], undefined, 1, 0);
  let members = 0;
  const once = () => (members++ === 0 ? newMember() : expect.fail('A second member'));
  await expect(again.consume(once)).rejects.toThrow('A second member');
  expect(await redis.hget('balances', 'a')).toBe('32');
});
