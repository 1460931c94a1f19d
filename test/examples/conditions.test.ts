/** The examples of conditions, against the real Redis. */
import { expect, test } from 'vitest';
import { transfer } from '../../examples/conditional-write.js';
import { put } from '../../examples/etag.js';
import { connect, expectCode, freshNamespace, makeDedup } from '../support/index.js';

/** The examples name their data plainly: a keyPrefix keeps each test's apart. */
function stage() {
  const redis = connect({ keyPrefix: `${freshNamespace()}-` });
  return { redis, dedup: makeDedup({ namespace: 'example' }, redis) };
}

test('transfers made at once from one account, each sent twice, move what there is and no more', async () => {
  const { redis, dedup } = stage();
  await redis.set('balance-a', 100);
  const transfers = Array.from({ length: 12 }, (_, index) => ({ id: `t${index}`, from: 'a', to: 'b', cents: 10 }));
  const receipts = await Promise.all([...transfers, ...transfers].map((one) => transfer(redis, dedup, one)));
  expect(receipts.slice(12)).toEqual(receipts.slice(0, 12));
  const moved = receipts.slice(0, 12).filter((receipt) => 'moved' in receipt);
  expect(moved).toHaveLength(10);
  expect(moved.map(({ left }) => left).sort((a, b) => a - b)).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  expect(await redis.mget('balance-a', 'balance-b')).toEqual(['0', '100']);
  // The receipt of a refusal stays as well, whatever came since.
  await redis.set('balance-a', 100);
  const refused = transfers.find((_, index) => 'refused' in (receipts[index] ?? {}));
  expect(await transfer(redis, dedup, refused ?? expect.fail())).toEqual({ refused: 'too little' });
  const poor = { id: 'poor', from: 'nobody', to: 'a', cents: 1 };
  expect(await transfer(redis, dedup, poor)).toEqual({ refused: 'too little' });
  for (const cents of [0, -1, 0.5, Number.NaN]) {
    await expect(transfer(redis, dedup, { ...poor, id: `c${cents}`, cents })).rejects.toThrow(RangeError);
  }
  await expectCode(transfer(redis, dedup, { ...(refused ?? expect.fail()), cents: 1 }), 'FINGERPRINT_MISMATCH');
});

test('an ETag: an edit of an old version is refused, one that is sent again gets its first answer', async () => {
  const { redis, dedup } = stage();
  const edit = (idempotencyKey: string, ifMatch: string, body: string) =>
    put(redis, dedup, { idempotencyKey, document: 'd', ifMatch, body });
  expect(await edit('r1', '"0"', 'one')).toEqual({ status: 200, etag: '"1"' });
  expect(await edit('r2', '"1"', 'two')).toEqual({ status: 200, etag: '"2"' });
  expect(await edit('r3', '"1"', 'lost')).toEqual({ status: 412, etag: '"2"' });
  // Sent again: its version is past, and its answer is the same.
  expect(await edit('r1', '"0"', 'one')).toEqual({ status: 200, etag: '"1"' });
  expect(await redis.hgetall('document-d')).toEqual({ version: '2', body: 'two' });
  for (const ifMatch of ['2', '*', '"x"', ''])
    expect(await edit('r4', ifMatch, 'x')).toEqual({ status: 400, etag: null });
});

test('of editors of one version at once, one wins and the others are told', async () => {
  const { redis, dedup } = stage();
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      put(redis, dedup, { idempotencyKey: `r${index}`, document: 'd', ifMatch: '"0"', body: `by ${index}` }),
    ),
  );
  const winner = answers.findIndex(({ status }) => status === 200);
  expect(answers.map(({ status }) => status)).toEqual(answers.map((_, index) => (index === winner ? 200 : 412)));
  expect(await redis.hgetall('document-d')).toEqual({ version: '1', body: `by ${winner}` });
});
