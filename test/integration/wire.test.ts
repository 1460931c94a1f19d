/** What calls cost on the wire: commands, writes to the socket, and round trips. */
import { once } from 'node:events';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { ApplyEntry, Effects } from '../../src/index.js';
import { connect, freshNamespace, makeDedup } from '../support/index.js';
import { type RedisServer, startRedis } from '../support/redis/index.js';
import { Wire } from '../support/wire.js';

/** Of this file alone: its scripts are cached when the tests say so. */
let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

async function counted() {
  const wire = await Wire.before(server.url);
  onTestFinished(() => wire.stop());
  const redis = connect({}, wire.url);
  const namespace = freshNamespace();
  const dedup = makeDedup({ namespace }, redis);
  return { wire, redis, dedup, data: `${namespace}-data` };
}

const HUNDRED = Array.from({ length: 100 }, (_, index) => `k${index}`);
const entriesOf = (data: string, round: string): ApplyEntry[] =>
  HUNDRED.map((key) => ({ key: `${round}-${key}`, write: (tx) => tx.incr(data).rpush(`${data}-list`, key) }));

test('one `apply` is one EVALSHA and one round trip, and so is its replay', async () => {
  const { wire, dedup, data } = await counted();
  await dedup.apply('warm', (tx) => tx.incr(data));
  for (const status of ['executed', 'replayed']) {
    wire.reset();
    expect(await dedup.apply('k', (tx) => tx.incr(data).hset(`${data}-hash`, 'f', 1))).toMatchObject({ status });
    expect([wire.commands, wire.turns, wire.writes]).toEqual([['evalsha'], 1, 1]);
  }
});

test('one `once` with writes is two EVALSHA and two round trips', async () => {
  const { wire, dedup, data } = await counted();
  await dedup.once('warm', ({ tx }) => void tx.incr(data));
  wire.reset();
  await dedup.once('k', ({ tx }) => void tx.incr(data).rpush(`${data}-list`, 'k'));
  expect([wire.commands, wire.turns, wire.writes]).toEqual([['evalsha', 'evalsha'], 2, 2]);
});

test('100 `applyMany` entries cost two writes with a cached script, and at most 4 on a connection that is new', async () => {
  const { wire, redis, dedup, data } = await counted();
  await connect({}, server.url).script('FLUSH');
  // Counted by itself: what ioredis says to make a connection ready is not of the library's doing.
  await once(redis, 'ready');
  console.log(`ioredis to be ready: ${wire.commands.join(' ')}, ${wire.writes} writes`);
  for (const [round, status, most] of [
    ['new', 'executed', 4],
    ['new', 'replayed', 2],
    ['cached', 'executed', 2],
  ] as const) {
    wire.reset();
    const outcomes = await dedup.applyMany(entriesOf(data, round));
    console.log(`${round}, ${status}: ${wire.commands.join(' ')}, ${wire.writes} writes, ${wire.turns} turns`);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(HUNDRED.map(() => status));
    expect(wire.writes).toBeLessThanOrEqual(most);
    expect(wire.turns).toBeLessThanOrEqual(most);
  }
  expect(await redis.get(data)).toBe('200');
  expect(await redis.lrange(`${data}-list`, 0, -1)).toEqual([...HUNDRED, ...HUNDRED]);
});

test('100 `onceMany` items cost two writes to claim and two to commit; replays two in all', async () => {
  const { wire, redis, dedup, data } = await counted();
  await dedup.once('warm', ({ tx }) => void tx.incr(`${data}-warm`));
  const spec = {
    key: (key: string) => key,
    handler: (key: string, { tx }: { tx: Effects }) => void tx.rpush(data, key),
  };
  for (const [status, writes] of [
    ['executed', 4],
    ['replayed', 2],
  ] as const) {
    wire.reset();
    const outcomes = await dedup.onceMany(HUNDRED, spec);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(HUNDRED.map(() => status));
    console.log(`${status}: ${wire.commands.join(' ')}, ${wire.writes} writes, ${wire.turns} turns`);
    expect(wire.writes).toBeLessThanOrEqual(writes);
    expect(wire.turns).toBeLessThanOrEqual(writes);
  }
  expect(await redis.lrange(data, 0, -1)).toEqual(HUNDRED);
});
