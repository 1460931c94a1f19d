/** The SQS example, against a queue that behaves as SQS does, and the real Redis. */
import { afterEach, beforeEach, expect, type MockInstance, test, vi } from 'vitest';
import { type SqsBatchResponse, type SqsRecord, sqsHandler } from '../../examples/sqs-batch.js';
import { connect, freshNamespace, heldHandler, makeDedup } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';

type SqsHandler = (event: { Records: SqsRecord[] }) => Promise<SqsBatchResponse>;

interface Queued {
  readonly record: SqsRecord;
  receives: number;
  /** Of consumers that have it in hand: while there is one, it is invisible. A doubled one is visible all the same. */
  inHand: number;
}

/** What becomes of a batch: `'lost'`, the function dies before it runs; `'unacknowledged'`, after; or what it reports counts. */
type Fate = 'lost' | 'unacknowledged' | 'reported';

class FakeQueue {
  messages: Queued[] = [];
  deadLetters: SqsRecord[] = [];
  #sent = 0;

  constructor(
    readonly name: string,
    readonly maxReceiveCount: number,
    /** Is this delivery doubled? Never with FIFO. */
    readonly doubles: () => boolean = () => false,
  ) {}

  send(body: unknown, MessageGroupId?: string): void {
    this.#sent += 1;
    const messageId = `${this.name}-message-${this.#sent}`;
    const record = {
      messageId,
      body: typeof body === 'string' ? body : JSON.stringify(body),
      eventSourceARN: `arn:aws:sqs:eu-west-1:123456789012:${this.name}`,
      attributes: { MessageGroupId },
    };
    this.messages.push({ record, receives: 0, inHand: 0 });
  }

  /** As StartMessageMoveTask does: all come again, as new messages. */
  redrive(): void {
    for (const { body, attributes } of this.deadLetters.splice(0)) this.send(body, attributes.MessageGroupId);
  }

  #receive(most: number): Queued[] {
    const isFifo = this.name.endsWith('.fifo');
    // A group of which a message is in hand gives no other.
    const busy = new Set(this.messages.filter(({ inHand }) => inHand > 0).map(groupOf));
    const batch: Queued[] = [];
    for (const message of [...this.messages]) {
      if (batch.length === most) break;
      if (isFifo ? busy.has(groupOf(message)) : message.inHand > 0 && !this.doubles()) continue;
      message.receives += 1;
      if (message.receives <= this.maxReceiveCount) {
        batch.push(message);
        continue;
      }
      this.#delete(message);
      this.deadLetters.push(message.record);
    }
    for (const message of batch) message.inHand += 1;
    return batch;
  }

  #delete(message: Queued): void {
    this.messages = this.messages.filter((other) => other !== message);
  }

  /** Once round of an event source: receives a batch, runs the function, deletes what it does not report. */
  async poll(handle: SqsHandler, most = 10, fate: (batch: readonly SqsRecord[]) => Fate = () => 'reported') {
    const batch = this.#receive(most);
    const Records = batch.map(({ record }) => record);
    const befalls = fate(Records);
    if (batch.length > 0 && befalls !== 'lost') {
      const { batchItemFailures } = await handle({ Records });
      const failed = new Set(batchItemFailures.map(({ itemIdentifier }) => itemIdentifier));
      if (befalls === 'reported') {
        for (const message of batch) if (!failed.has(message.record.messageId)) this.#delete(message);
      }
    }
    for (const message of batch) message.inHand -= 1;
  }

  /** Until nothing is left. */
  async drain(handlers: readonly SqsHandler[], fate?: (batch: readonly SqsRecord[]) => Fate): Promise<void> {
    while (this.messages.length > 0) await Promise.all(handlers.map((handle) => this.poll(handle, 10, fate)));
  }
}

function groupOf({ record }: Queued): string | undefined {
  return record.attributes.MessageGroupId;
}

/** The example names its data plainly: a keyPrefix keeps each test's apart. Each consumer has a Dedup of its own. */
function stage() {
  const keyPrefix = `${freshNamespace()}-`;
  const redis = connect({ keyPrefix });
  const newDedup = () => makeDedup({ namespace: 'example' }, connect({ keyPrefix }));
  return { redis, newDedup, newHandler: () => sqsHandler(newDedup()) };
}

async function shipments(redis: ReturnType<typeof connect>): Promise<string[]> {
  return (await redis.xrange('shipments', '-', '+')).map(([, fields]) => fields[1] as string);
}

let logged: MockInstance<typeof console.error>;
beforeEach(() => {
  logged = vi.spyOn(console, 'error').mockImplementation(() => {});
});
afterEach(() => logged.mockRestore());

test('what failed is reported, the rest is done, and a batch that comes again writes nothing twice', async () => {
  const { redis, newHandler } = stage();
  const queue = new FakeQueue('orders', 3);
  const order = (id: string, count: number) => ({ id, sku: 'cup', count });
  // One that the producer sent twice, one whose write cannot be made (0.5 is no integer), and another order under an old id.
  for (const body of [order('o1', 1), order('o2', 2), 'no JSON', order('o2', 2), order('o3', 0.5)]) queue.send(body);
  const handle = newHandler();
  await queue.poll(handle);
  expect(queue.messages.map(({ record }) => record.body)).toEqual(['no JSON', JSON.stringify(order('o3', 0.5))]);
  queue.send(order('o1', 100));
  await queue.drain([handle]);
  expect(queue.deadLetters).toHaveLength(3);
  expect(await redis.hgetall('stock')).toEqual({ cup: '-3' });
  expect((await shipments(redis)).sort()).toEqual(['o1', 'o2']);
  // What will not settle by itself is told.
  expect(new Set(logged.mock.calls.map(([text]) => text))).toEqual(
    new Set(['orders-message-3', 'orders-message-5', 'orders-message-6'].map((id) => `Message ${id} failed:`)),
  );
});

test('a message that another consumer has in hand is reported, and done by then when it comes again', async () => {
  const { redis, newDedup, newHandler } = stage();
  const { handler, started, release } = heldHandler(undefined);
  const order = { id: 'o1', sku: 'cup', count: 1 };
  const elsewhere = newDedup().scope('orders').once('o1', handler, { fingerprint: order });
  await started;
  const queue = new FakeQueue('orders', 3);
  queue.send(order);
  const handle = newHandler();
  await queue.poll(handle);
  expect(queue.messages).toHaveLength(1);
  release();
  await elsewhere;
  await queue.poll(handle);
  expect(queue.messages).toHaveLength(0);
  expect(await redis.exists('stock')).toBe(0);
  expect(logged).not.toHaveBeenCalled();
});

test('sums are exact: doubled deliveries, functions that die, producers that send twice, a redrive of the dead letters', async () => {
  const { redis, newHandler } = stage();
  const seed = chooseSeed();
  console.log(`Seed ${seed}`);
  const random = seededRandom(seed);
  const queue = new FakeQueue('orders', 6, () => random() < 0.3);
  const orders = Array.from({ length: 120 }, (_, i) => ({ id: `o${i}`, sku: `sku-${i % 3}`, count: 1 + (i % 7) }));
  for (const order of orders) {
    queue.send(order);
    if (random() < 0.2) queue.send(order);
  }
  await redis.hset('stock', 'broken', 'none');
  queue.send({ id: 'poison', sku: 'broken', count: 5 });
  // Done each time and never acknowledged, as by a function that always times out: it dies of its receives.
  const fate = (batch: readonly SqsRecord[]): Fate => {
    if (batch.some(({ body }) => body.includes('"o7"'))) return 'unacknowledged';
    const chance = random();
    return chance < 0.15 ? 'lost' : chance < 0.3 ? 'unacknowledged' : 'reported';
  };
  await queue.drain([newHandler(), newHandler(), newHandler()], fate);
  const dead = queue.deadLetters.map(({ body }) => (JSON.parse(body) as { id: string }).id);
  expect(dead).toEqual(expect.arrayContaining(['poison', 'o7']));
  // Redriven messages have new ids, and their orders' ids are the old ones.
  await redis.hdel('stock', 'broken');
  queue.redrive();
  await queue.drain([newHandler()]);
  expect(queue.deadLetters).toEqual([]);

  const stock: Record<string, number> = {};
  for (const { sku, count } of [...orders, { sku: 'broken', count: 5 }]) stock[sku] = (stock[sku] ?? 0) - count;
  expect(await redis.hgetall('stock')).toEqual(
    Object.fromEntries(Object.entries(stock).map(([sku, sum]) => [sku, String(sum)])),
  );
  expect((await shipments(redis)).sort()).toEqual([...orders.map(({ id }) => id), 'poison'].sort());
});

test('FIFO: nothing of a group passes a message that failed, other groups go on, and the order is kept', async () => {
  const { redis, newHandler } = stage();
  const queue = new FakeQueue('orders.fifo', 1_000);
  const ids = Array.from({ length: 12 }, (_, i) => `${'ab'[i % 2]}${Math.floor(i / 2)}`);
  // Of one group, the second message cannot be written.
  for (const id of ids) queue.send({ id, sku: `cup-${id}`, count: id === 'a1' ? 0.5 : 1 }, id[0]);
  const handle = newHandler();
  await queue.poll(handle, 12);
  expect(await shipments(redis)).toEqual(expect.arrayContaining(['a0', 'b0', 'b1', 'b2', 'b3', 'b4', 'b5']));
  expect(await redis.xlen('shipments')).toBe(7);
  expect(queue.messages.map(({ record }) => JSON.parse(record.body).id)).toEqual(['a1', 'a2', 'a3', 'a4', 'a5']);
  // Those behind it were not tried, and only the one that failed is told.
  expect(logged).toHaveBeenCalledTimes(1);
});

test('FIFO: the order of each group is kept while functions die, and each message is done once', async () => {
  const { redis, newHandler } = stage();
  const seed = chooseSeed();
  console.log(`Seed ${seed}`);
  const random = seededRandom(seed);
  const queue = new FakeQueue('orders.fifo', 1_000);
  const ids = Array.from({ length: 90 }, (_, i) => `${'abc'[i % 3]}${Math.floor(i / 3)}`);
  for (const id of ids) queue.send({ id, sku: 'cup', count: 1 }, id[0]);
  const fates: Fate[] = ['lost', 'unacknowledged', 'reported'];
  await queue.drain([newHandler(), newHandler()], () => fates[Math.floor(random() * 3)] as Fate);
  expect(await redis.hget('stock', 'cup')).toBe('-90');
  const done = await shipments(redis);
  for (const group of 'abc') {
    expect(done.filter((id) => id.startsWith(group))).toEqual(ids.filter((id) => id.startsWith(group)));
  }
});
