/** The example of effects outside Redis: services that keep keys or compare fences, an outbox, and attempts cut off anywhere. */
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import {
  type Mail,
  type Mailer,
  MailUnsure,
  type Order,
  type Orders,
  type Payments,
  placeOrder,
  sendMail,
} from '../../examples/effects-outside.js';
import type { Dedup, RecordInfo } from '../../src/index.js';
import { connect, expectCode, freshNamespace, type Gate, gate, makeDedup } from '../support/index.js';

const ORDER: Order = { id: 'o1', cents: 1999, address: 'a@example.org' };
/** Where docs/protocol.md has the end of the lease in a record. */
const LEASE_OFFSET = 30;

/** Keeps keys: the same key again is answered with the first charge. */
class FakePayments implements Payments {
  readonly charges = new Map<string, { chargeId: string; cents: number }>();
  calls = 0;

  async charge({ idempotencyKey, cents }: { idempotencyKey: string; cents: number }): Promise<{ chargeId: string }> {
    this.calls += 1;
    const charge = this.charges.get(idempotencyKey) ?? { chargeId: `charge-${this.charges.size + 1}`, cents };
    this.charges.set(idempotencyKey, charge);
    return charge;
  }
}

/** Compares fences, as an UPDATE with a condition does. */
class FakeOrders implements Orders {
  readonly rows = new Map<string, { chargeId: string; fence: number; saves: number }>();
  readonly refused: number[] = [];

  async save(id: string, { chargeId }: { chargeId: string }, fence: number): Promise<boolean> {
    const { fence: highest = 0, saves = 0 } = this.rows.get(id) ?? {};
    if (highest > fence) {
      this.refused.push(fence);
      return false;
    }
    this.rows.set(id, { chargeId, fence, saves: saves + 1 });
    return true;
  }
}

class FakeMailer implements Mailer {
  readonly sent: Mail[] = [];

  async send(mail: Mail): Promise<void> {
    this.sent.push(mail);
  }
}

/** A service whose calls are done, and whose answers come when the test lets them. */
function slow<A extends unknown[], T>(
  call: (...args: A) => Promise<T>,
): { call: (...args: A) => Promise<T>; done: Gate; answer: Gate } {
  const [done, answer] = [gate(), gate()];
  return {
    done,
    answer,
    call: async (...args) => {
      const result = await call(...args);
      done.open();
      await answer.opened;
      return result;
    },
  };
}

/** Two processes, each with a Dedup of its own. The example names its data plainly: a keyPrefix keeps each test's apart. */
function stage() {
  const keyPrefix = `${freshNamespace()}-`;
  const redis = connect({ keyPrefix });
  const newDedup = () => makeDedup({ namespace: 'example' }, connect({ keyPrefix }));
  return { redis, frozen: newDedup(), taker: newDedup(), payments: new FakePayments(), orders: new FakeOrders() };
}

/** As if its holder had been silent for a lease: the next call takes the key over. */
async function endLease(redis: Redis, dedup: Dedup, key: string): Promise<void> {
  const { redisKey } = (await dedup.inspect(key)) as RecordInfo;
  const bytes = Buffer.alloc(6);
  bytes.writeUIntBE(Date.now() - 1_000, 0, 6);
  await redis.setrange(redisKey, LEASE_OFFSET, bytes);
}

async function outbox(redis: Redis): Promise<Mail[]> {
  return (await redis.xrange('outbox', '-', '+')).map(([, [, id, , to, , text]]) => ({ id, to, text }) as Mail);
}

test('taken over between the charge and the rest: charged once, and the late attempt is refused by its fence', async () => {
  const { redis, frozen, taker, payments, orders } = stage();
  // It has charged, and then stands still without knowing it: its signal does not abort.
  const charging = slow((request: Parameters<Payments['charge']>[0]) => payments.charge(request));
  const first = placeOrder(frozen, { payments: { charge: charging.call }, orders }, ORDER);
  first.catch(() => {});
  await charging.done.opened;
  await endLease(redis, frozen.scope('orders'), ORDER.id);
  expect(await placeOrder(taker, { payments, orders }, ORDER)).toEqual({ chargeId: 'charge-1' });
  const saved = orders.rows.get(ORDER.id);

  charging.answer.open();
  await expect(first).rejects.toThrow('A later attempt has saved this order');
  expect([payments.calls, payments.charges.size]).toEqual([2, 1]);
  expect(orders.refused).toHaveLength(1);
  expect(orders.refused[0]).toBeLessThan(saved?.fence as number);
  expect(orders.rows.get(ORDER.id)).toEqual(saved);
  expect(await outbox(redis)).toHaveLength(1);
});

test('taken over between the save and the commit: all is done again, once for each who can tell, and one mail is to be sent', async () => {
  const { redis, frozen, taker, payments, orders } = stage();
  const saving = slow((...args: Parameters<Orders['save']>) => orders.save(...args));
  const first = placeOrder(frozen, { payments, orders: { save: saving.call } }, ORDER);
  first.catch(() => {});
  await saving.done.opened;
  await endLease(redis, frozen.scope('orders'), ORDER.id);
  expect(await placeOrder(taker, { payments, orders }, ORDER)).toEqual({ chargeId: 'charge-1' });
  saving.answer.open();
  await expectCode(first, 'LEASE_LOST');
  expect([payments.calls, payments.charges.size, orders.rows.get(ORDER.id)?.saves]).toEqual([2, 1, 2]);
  // What the first had on tx was dropped with its commit.
  expect(await outbox(redis)).toEqual([{ id: expect.any(String), to: ORDER.address, text: 'Charged: charge-1' }]);
});

test('after the retention the order is placed again, and only those who still know the key or the fence are spared', async () => {
  const { redis, taker, payments, orders } = stage();
  await placeOrder(taker, { payments, orders }, ORDER);
  await taker.scope('orders').forget(ORDER.id);
  await placeOrder(taker, { payments, orders }, ORDER);
  // The key is made of the record's name, and stays. The fence is higher than that of the forgotten record, whose time it is above.
  expect([payments.calls, payments.charges.size, orders.rows.get(ORDER.id)?.saves]).toEqual([2, 1, 2]);
  const [one, two] = await outbox(redis);
  expect(two).toEqual(one);
  // The outbox has two entries of one id: one mail.
  const mailer = new FakeMailer();
  for (const mail of await outbox(redis)) expect(await sendMail(taker, mailer, mail, { resend: true })).toBe('sent');
  expect(mailer.sent).toHaveLength(1);
});

test.each([
  [true, 'sent once more', 2],
  [false, 'not sent, and not called sent, until somebody says so', 1],
] as const)('a mail whose sender died after sending: with resend %s it is %s', async (resend, _, mails) => {
  const { redis, frozen, taker } = stage();
  const mailer = new FakeMailer();
  const mail = { id: 'm1', to: ORDER.address, text: 'Charged' };
  const sending = slow((one: Mail) => mailer.send(one));
  const first = sendMail(frozen, { send: sending.call }, mail, { resend });
  first.catch(() => {});
  await sending.done.opened;
  await endLease(redis, frozen.scope('mails'), mail.id);
  const again = sendMail(taker, mailer, mail, { resend });
  if (resend) expect(await again).toBe('sent');
  else await expect(again).rejects.toThrow(MailUnsure);
  sending.answer.open();
  await expectCode(first, 'LEASE_LOST');
  expect(mailer.sent).toHaveLength(mails);
  expect(await sendMail(taker, mailer, mail, { resend: true })).toBe('sent');
  // A copy of the entry is no mail.
  expect(await sendMail(taker, mailer, mail, { resend: true })).toBe('sent');
  expect(mailer.sent).toHaveLength(2);
});
