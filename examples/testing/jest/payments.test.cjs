/** A handler under Jest: paid once, whatever happens to its message. Run it with `npx jest`. */
const { crashAfterCommit, crashBeforeCommit, createTestDedup, deliverTwice, loseReply } = require('redis-once/testing');

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
  expect(value).toEqual({ paid: 1999 });
  expect(await on.redis.hget(PAYMENT.account, 'cents')).toBe('3001');
}

describe('a payment', () => {
  test.each(Object.entries(SCENARIOS))('is made once: %s', (_, scenario) => paysOnce(scenario, pay));
});

describe('a payment that is written beside `tx`', () => {
  test.failing('is made twice where the process dies before the commit', () =>
    paysOnce(crashBeforeCommit, payUnsafely));
});
