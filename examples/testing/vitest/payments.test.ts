/** A handler under Vitest: paid once, whatever happens to its message. Run it with `npx vitest run`. */
import type { Dedup } from 'redis-once';
import {
  crashAfterCommit,
  crashBeforeCommit,
  createTestDedup,
  deliverTwice,
  loseReply,
  type Scenario,
  type TestDedup,
} from 'redis-once/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

interface Payment {
  readonly id: string;
  readonly account: string;
  readonly cents: number;
}
type Pay = (dedup: Dedup, payment: Payment) => Promise<{ paid: number }>;

const PAYMENT: Payment = { id: 'p1', account: 'account:42', cents: 1999 };
const SCENARIOS = { deliverTwice, crashBeforeCommit, crashAfterCommit, loseReply };

let on: TestDedup;
beforeEach(async () => {
  on = await createTestDedup();
  await on.redis.hset(PAYMENT.account, 'cents', 5000);
});
afterEach(() => on.close());

/** The handler under test: what it writes commits with its record. */
const pay: Pay = (dedup, { id, account, cents }) =>
  dedup.once(id, ({ tx }) => {
    tx.hincrby(account, 'cents', -cents);
    return { paid: cents };
  });

/** The same, beside `tx`: done again by every attempt. */
const payUnsafely: Pay = (dedup, { id, account, cents }) =>
  dedup.once(id, async () => {
    await on.redis.hincrby(account, 'cents', -cents);
    return { paid: cents };
  });

async function paysOnce(scenario: Scenario, pay: Pay): Promise<void> {
  const { value } = await scenario(on.dedup, (dedup) => pay(dedup, PAYMENT));
  expect(value).toEqual({ paid: 1999 });
  expect(await on.redis.hget(PAYMENT.account, 'cents')).toBe('3001');
}

describe('a payment', () => {
  test.each(Object.entries(SCENARIOS))('is made once: %s', (_, scenario) => paysOnce(scenario, pay));
});

describe('a payment that is written beside `tx`', () => {
  test.fails('is made twice where the process dies before the commit', () => paysOnce(crashBeforeCommit, payUnsafely));
});
