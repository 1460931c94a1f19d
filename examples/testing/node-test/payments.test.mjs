/** A handler under node:test: paid once, whatever happens to its message. Run it with `node --test`. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { crashAfterCommit, crashBeforeCommit, createTestDedup, deliverTwice, loseReply } from 'redis-once/testing';

const PAYMENT = { id: 'p1', account: 'account:42', cents: 1999 };
const SCENARIOS = { deliverTwice, crashBeforeCommit, crashAfterCommit, loseReply };

let on;
beforeEach(async () => {
  on = await createTestDedup();
  await on.redis.hset(PAYMENT.account, 'cents', 5000);
});
afterEach(() => on.close());

/** The handler under test: what it writes commits with its record. */
function pay(dedup, { id, account, cents }) {
  return dedup.once(id, ({ tx }) => {
    tx.hincrby(account, 'cents', -cents);
    return { paid: cents };
  });
}

/** The same, beside `tx`: done again by every attempt. */
function payUnsafely(dedup, { id, account, cents }) {
  return dedup.once(id, async () => {
    await on.redis.hincrby(account, 'cents', -cents);
    return { paid: cents };
  });
}

async function paysOnce(scenario, pay) {
  const { value } = await scenario(on.dedup, (dedup) => pay(dedup, PAYMENT));
  assert.deepEqual(value, { paid: 1999 });
  assert.equal(await on.redis.hget(PAYMENT.account, 'cents'), '3001');
}

describe('a payment', () => {
  for (const [name, scenario] of Object.entries(SCENARIOS))
    test(`is made once: ${name}`, () => paysOnce(scenario, pay));
});

describe('a payment that is written beside `tx`', () => {
  test('is made twice where the process dies before the commit', () =>
    assert.rejects(paysOnce(crashBeforeCommit, payUnsafely), { actual: '1002', expected: '3001' }));
});
