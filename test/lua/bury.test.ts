/** What the script that makes dead letters does to a stream, its group and the stream of dead letters. */
import { expect, test } from 'vitest';
import { Connection } from '../../src/redis/connection.js';
import { Scripts } from '../../src/redis/scripts.js';
import { connect, freshNamespace, ownRedis } from '../support/index.js';

async function stage(redis = connect()) {
  const stream = freshNamespace();
  const scripts = new Scripts(Connection.of(redis), 5_000);
  await redis.xgroup('CREATE', stream, 'group', '0', 'MKSTREAM');
  const id = (await redis.xadd(stream, '*', 'a', '1', 'a', '2')) as string;
  await redis.xreadgroup('GROUP', 'group', 'me', 'COUNT', 10, 'STREAMS', stream, '>');
  const bury = (consumer = 'me', entry = id, deliveries = 1) => {
    const effects = { keys: [`${stream}-dead`], plan: '1', words: ['why', 'poison'], alone: false };
    return scripts.call('bury', stream, { group: 'group', consumer, id: entry, deliveries }, { effects });
  };
  const look = async () => ({
    pending: ((await redis.xpending(stream, 'group', '-', '+', 10)) as unknown[][]).map(([pending]) => pending),
    dead: (await redis.xrange(`${stream}-dead`, '-', '+')).map(([, fields]) => fields),
  });
  return { redis, stream, id, bury, look };
}

const LETTER = ['a', '1', 'a', '2', 'why', 'poison'];

test('an entry that is pending is moved with its fields and acknowledged; a copy of the call finds it gone', async () => {
  const { bury, look, redis, stream } = await stage();
  const { status, fields } = await bury();
  expect(status).toBe('buried');
  expect((await redis.xrange(`${stream}-dead`, '-', '+'))[0]?.[0]).toBe(String(fields[0]));
  expect(await look()).toEqual({ pending: [], dead: [LETTER] });
  expect((await bury()).status).toBe('gone');
  expect(await look()).toEqual({ pending: [], dead: [LETTER] });
});

test("what another consumer has, and what was acknowledged, is not this one's to bury", async () => {
  const { bury, look, redis, stream, id } = await stage();
  expect((await bury('other')).status).toBe('gone');
  await redis.xclaim(stream, 'group', 'other', 0, id);
  expect((await bury()).status).toBe('gone');
  expect(await look()).toEqual({ pending: [id], dead: [] });
  // Nor what it was handed again: the one before may have been frozen since.
  expect((await bury('other')).status).toBe('gone');
  await redis.xack(stream, 'group', id);
  expect((await bury('other', id, 2)).status).toBe('gone');
  expect(await look()).toEqual({ pending: [], dead: [] });
});

test('only the entry that is named is moved', async () => {
  const { bury, look, redis, stream, id } = await stage();
  const other = (await redis.xadd(stream, '*', 'b', '1')) as string;
  await redis.xreadgroup('GROUP', 'group', 'me', 'COUNT', 10, 'STREAMS', stream, '>');
  await bury();
  expect(await look()).toEqual({ pending: [other], dead: [LETTER] });
  expect((await redis.xrange(stream, '-', '+')).map(([entry]) => entry)).toEqual([id, other]);
});

test('an entry that was removed from the stream is acknowledged, and there is no letter of it', async () => {
  const { bury, look, redis, stream, id } = await stage();
  await redis.xdel(stream, id);
  expect((await bury()).status).toBe('trimmed');
  expect(await look()).toEqual({ pending: [], dead: [] });
});

test('nothing is acknowledged where the letter cannot be written', async () => {
  const { bury, look, redis, stream, id } = await stage();
  await redis.set(`${stream}-dead`, 'no stream');
  await expect(bury()).rejects.toMatchObject({ failure: 'refused', code: 'WRONGTYPE' });
  await redis.unlink(`${stream}-dead`);
  expect(await look()).toEqual({ pending: [id], dead: [] });
});

test('nothing is written for a user who may not acknowledge', async () => {
  const url = await ownRedis();
  await connect({}, url).call('ACL', 'SETUSER', 'limited', 'on', '>pw', '~*', '&*', '+@all', '-xack');
  const { bury, look } = await stage(connect({ username: 'limited', password: 'pw' }, url));
  await expect(bury()).rejects.toMatchObject({ failure: 'refused', code: 'NOPERM' });
  expect((await look()).dead).toEqual([]);
});
