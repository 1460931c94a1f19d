/** Codecs as calls have them: what lies in Redis, what callers get, and what becomes of records of others. */
import { randomBytes } from 'node:crypto';
import { Packr } from 'msgpackr';
import superjson from 'superjson';
import { describe, expect, test } from 'vitest';
import { compressed, encrypted, messagePack, rich } from '../../../src/codecs/index.js';
import { idempotent } from '../../../src/http/fetch.js';
import { type Codec, json, type RecordInfo } from '../../../src/index.js';
import { connect, expectCode, makeDedup } from '../../support/index.js';

const KEYS = { current: 'k1', keys: { k1: randomBytes(32) } };
const SECRET = 'a card number, say';

async function redisKeyOf(dedup: ReturnType<typeof makeDedup>, key: string): Promise<string> {
  return ((await dedup.inspect(key)) as RecordInfo).redisKey;
}

test('a result comes back with its types, to the first caller and to every other', async () => {
  const dedup = makeDedup().with({ codec: encrypted(compressed(rich(superjson)), KEYS) });
  const result = { at: new Date(5), total: 12n, tags: new Set(['a']), note: undefined };
  const first = await dedup.run('k', () => result);
  const second = await dedup.run('k', () => expect.fail('the handler must not run'));
  expect([first.status, second.status]).toEqual(['executed', 'replayed']);
  for (const { value } of [first, second]) expect(value).toStrictEqual(result);
});

test.each<[string, Codec]>([
  ['rich', rich(superjson)],
  ['messagePack', messagePack(new Packr({ moreTypes: true }))],
  ['encrypted(compressed(json))', encrypted(compressed(json, { above: 0 }), KEYS)],
])('undefined, null, false, 0 and the empty string replay as themselves by %s', async (_, codec) => {
  const dedup = makeDedup().with({ codec });
  for (const [index, value] of [undefined, null, false, 0, ''].entries()) {
    expect(await dedup.once(`k${index}`, () => value)).toBe(value);
    expect(await dedup.once(`k${index}`, () => 'other')).toBe(value);
  }
});

describe('an encrypted result', () => {
  test('is not to be seen in Redis', async () => {
    const redis = connect();
    const dedup = makeDedup({}, redis);
    await dedup.once('plain', () => SECRET);
    await dedup.once('encrypted', () => SECRET, { codec: encrypted(json, KEYS) });
    expect((await redis.getBuffer(await redisKeyOf(dedup, 'plain')))?.includes(SECRET)).toBe(true);
    expect((await redis.getBuffer(await redisKeyOf(dedup, 'encrypted')))?.includes(SECRET)).toBe(false);
  });

  test('that is moved to another key is a CodecError there: no handler runs, and the record stays', async () => {
    const redis = connect();
    const codec = encrypted(json, KEYS);
    const dedup = makeDedup({}, redis);
    await dedup.once('rich account', () => SECRET, { codec });
    await dedup.once('poor account', () => 'nothing', { codec });
    const [from, to] = [await redisKeyOf(dedup, 'rich account'), await redisKeyOf(dedup, 'poor account')];
    const bytes = (await redis.getBuffer(from)) as Buffer;
    await redis.set(to, bytes);
    const call = dedup.once('poor account', () => expect.fail('the handler must not run'), { codec });
    const error = await expectCode(call, 'CODEC');
    expect(error.message).toMatch(/encrypted for this very record/);
    expect(error.key).toBe('poor account');
    expect(await redis.getBuffer(to)).toEqual(bytes);
    expect(await dedup.once('rich account', () => 'other', { codec })).toBe(SECRET);
  });
});

describe('a record of another codec', () => {
  test.each<[string, Codec, string, Codec]>([
    ['json', json, 'encrypted', encrypted(json, KEYS)],
    ['encrypted', encrypted(json, KEYS), 'json', json],
    ['rich', rich(superjson), 'json', json],
    ['json', json, 'messagePack', messagePack(new Packr())],
  ])('by %s, read by another, is told: no handler runs, and the record stays', async (_, one, name, other) => {
    const redis = connect();
    const dedup = makeDedup({}, redis);
    await dedup.once('k', () => ({ a: 1 }), { codec: one });
    const bytes = await redis.getBuffer(await redisKeyOf(dedup, 'k'));
    const call = dedup.once('k', () => expect.fail('the handler must not run'), { codec: other });
    const error = await expectCode(call, 'CODEC');
    expect(error.message).toContain(`Expected the bytes of \`${name}\``);
    expect(await redis.getBuffer(await redisKeyOf(dedup, 'k'))).toEqual(bytes);
    expect(await dedup.once('k', () => 'other', { codec: one })).toEqual({ a: 1 });
  });

  test('that a codec of before wrote is read as ever: the bytes of `json` are JSON and nothing else', async () => {
    const redis = connect();
    const dedup = makeDedup({}, redis);
    await dedup.once('k', () => ({ a: 1 }));
    const bytes = (await redis.getBuffer(await redisKeyOf(dedup, 'k'))) as Buffer;
    expect(bytes.subarray(-7).toString()).toBe('{"a":1}');
    expect((await dedup.inspect('k'))?.resultBytes).toBe(7);
  });
});

test('a result that its codec can write and not read back is a CodecError: released, nothing stored', async () => {
  const dedup = makeDedup();
  // A Buffer is one for superjson, unless it is told how to keep it.
  const call = dedup.once('k', () => Buffer.from(SECRET), { codec: rich(superjson) });
  const error = await expectCode(call, 'CODEC');
  expect(error.key).toBe('k');
  expect(await dedup.inspect('k')).toMatchObject({ state: 'released', resultBytes: null });
  expect(await dedup.once('k', () => 'good', { codec: rich(superjson) })).toBe('good');
});

test('compressed results are counted by `maxResultBytes` as they are stored', async () => {
  const dedup = makeDedup({ maxResultBytes: 200 }).with({ codec: compressed(json) });
  expect(await dedup.once('k', () => 'x'.repeat(5_000))).toHaveLength(5_000);
  await expectCode(
    dedup.once('random', () => randomBytes(2_000).toString('base64')),
    'RESULT_TOO_LARGE',
  );
});

describe('a response of redis-once/fetch', () => {
  const ask = () =>
    new Request('http://localhost/orders', { method: 'POST', body: '{}', headers: { 'Idempotency-Key': '"key"' } });

  async function storedBy(codec: Codec) {
    const redis = connect();
    const dedup = makeDedup({}, redis).with({ codec });
    let runs = 0;
    const handler = idempotent(dedup, { scope: 'global' }, () => {
      runs += 1;
      return Response.json({ secret: SECRET });
    });
    const bodies = [await (await handler(ask())).json(), await (await handler(ask())).json()];
    expect([runs, bodies]).toEqual([1, [{ secret: SECRET }, { secret: SECRET }]]);
    const { namespace } = { namespace: (await redisKeyOf(await probed(dedup), 'probe')).split(':')[0] };
    const keys = (await redis.keys(`${namespace}:*`)).filter((key) => !key.endsWith('probe'));
    expect(keys).toHaveLength(1);
    return (await redis.getBuffer(keys[0] as string)) as Buffer;
  }

  async function probed<D extends { once(key: string, handler: () => unknown): Promise<unknown> }>(dedup: D) {
    await dedup.once('probe', () => 1);
    return dedup as unknown as ReturnType<typeof makeDedup>;
  }

  test('is encrypted and compressed as the results of its Dedup are', async () => {
    expect((await storedBy(rich(superjson))).includes(SECRET)).toBe(true);
    expect((await storedBy(encrypted(compressed(rich(superjson)), KEYS))).includes(SECRET)).toBe(false);
  });
});
