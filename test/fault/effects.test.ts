/** Effects while consumers or Redis itself are killed: each id's writes are made once, all of them with their record. */
import { existsSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, inject, onTestFinished, test } from 'vitest';
import { Dedup } from '../../src/index.js';
import { Consumers, deliveriesOf, expectWhole, type Message } from '../support/consumers.js';
import { connect, freshNamespace, ownServer } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';

const MESSAGES = Number(process.env.TEST_EFFECTS_MESSAGES ?? 500);
const KILLS = Number(process.env.TEST_EFFECTS_KILLS ?? 8);

function messagesOf(count: number, random: () => number): Message[] {
  return Array.from({ length: count }, (_, index) => ({ id: `m${index}`, amount: 1 + Math.floor(random() * 1_000) }));
}

function tally({ handedOut, killed, codes, acknowledgements }: Consumers, seed: number): void {
  const told = JSON.stringify(Object.fromEntries(codes));
  console.log(`seed ${seed}: ${acknowledgements} deliveries, handed out ${handedOut} times, ${killed} killed, ${told}`);
}

test('consumers killed at random moments: every sum, list and stream is exact', async () => {
  const seed = chooseSeed();
  const random = seededRandom(seed);
  const args = { url: inject('redisUrl'), namespace: freshNamespace() };
  const messages = messagesOf(MESSAGES, random);
  const deliveries = deliveriesOf(messages, random);
  const redis = connect();
  const consumers = new Consumers(deliveries, random, args);
  for (let kill = 1; kill <= KILLS; kill += 1) {
    await consumers.acknowledgedBy((kill - random()) * (deliveries.length / (KILLS + 1)));
    consumers.killOne();
    await expectWhole(redis, args.namespace, messages, `seed ${seed}, kill ${kill}`);
  }
  await consumers.acknowledgedBy(Number.POSITIVE_INFINITY);
  tally(consumers, seed);
  const completed = await expectWhole(redis, args.namespace, messages, `seed ${seed}`);
  expect(completed.size).toBe(MESSAGES);
  expect(consumers.killed).toBeGreaterThan(KILLS / 2);
  expect([...consumers.codes.keys()], `seed ${seed}`).toEqual([]);
}, 60_000);

test('Redis killed and started again under load: record and writes are never apart, and all is exact in the end', async () => {
  const seed = chooseSeed();
  const random = seededRandom(seed);
  const server = await ownServer('--appendonly', 'yes', '--appendfsync', 'always');
  const args = { url: server.url, namespace: freshNamespace() };
  const messages = messagesOf(MESSAGES, random);
  const deliveries = deliveriesOf(messages, random);
  const consumers = new Consumers(deliveries, random, args);
  for (let kill = 1; kill <= KILLS; kill += 1) {
    await consumers.acknowledgedBy((kill - random()) * (deliveries.length / (KILLS + 1)));
    if (kill % 2 === 0) consumers.killOne();
    await server.kill();
    const acknowledged = [...consumers.acknowledged];
    await server.restart();
    const context = `seed ${seed}, kill ${kill}`;
    const redis = connect({}, server.url);
    const completed = await expectWhole(redis, args.namespace, messages, context);
    redis.disconnect();
    expect(
      acknowledged.filter((id) => !completed.has(id)),
      context,
    ).toEqual([]);
  }
  await consumers.acknowledgedBy(Number.POSITIVE_INFINITY);
  tally(consumers, seed);
  const completed = await expectWhole(connect({}, server.url), args.namespace, messages, `seed ${seed}`);
  expect(completed.size).toBe(MESSAGES);
  const allowed = ['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS'];
  expect(
    [...consumers.codes.keys()].filter((code) => !allowed.includes(code)),
    `seed ${seed}`,
  ).toEqual([]);
}, 60_000);

const CUTS = Number(process.env.TEST_EFFECTS_CUTS ?? 25);

test('an append-only file that breaks off anywhere keeps of each commit everything or nothing', async ({ skip }) => {
  const seed = chooseSeed();
  const random = seededRandom(seed);
  const server = await ownServer('--appendonly', 'yes', '--appendfsync', 'always');
  const namespace = freshNamespace();
  const redis = new Redis(server.url, { retryStrategy: () => 10 });
  redis.on('error', () => {});
  onTestFinished(() => redis.disconnect());
  // Short: a claim whose commit was cut off stands until its lease ends.
  const dedup = new Dedup(redis, { namespace, lease: '500ms' });
  onTestFinished(() => dedup.close({ drain: 0 }));
  const [, folder] = (await redis.config('GET', 'dir')) as [string, string];
  // Of Redis 7 and later; earlier ones, and containers, keep it elsewhere.
  const file = join(folder, 'appendonlydir', 'appendonly.aof.1.incr.aof');
  if (!existsSync(file)) skip('the file of this server is out of reach');
  const messages = messagesOf(200, random);
  const data = `${namespace}-data`;
  for (const { id, amount } of messages) {
    await dedup.once(id, ({ tx }) => {
      tx.hincrby(`${data}-hash`, id, amount).rpush(`${data}-list`, id);
      tx.xadd(`${data}-stream`, '*', 'id', id).incrby(`${data}-total`, amount);
    });
  }
  let left = (await expectWhole(redis, namespace, messages, `seed ${seed}`)).size;
  expect(left).toBe(200);
  const lost: number[] = [];
  for (let cut = 1; cut <= CUTS; cut += 1) {
    await server.kill();
    // A claim and its commit are some 1,300 bytes: cuts fall between commands and into them.
    const { size } = statSync(file);
    truncateSync(file, Math.max(0, size - 1 - Math.floor(random() * 4_000)));
    await server.restart();
    const looking = connect({}, server.url);
    const now = (await expectWhole(looking, namespace, messages, `seed ${seed}, cut ${cut}`)).size;
    looking.disconnect();
    lost.push(left - now);
    left = now;
  }
  console.log(`seed ${seed}: commits lost at each cut: ${lost.join(' ')}`);
  expect(lost.every((count) => count >= 0)).toBe(true);
  expect(lost.some((count) => count > 0)).toBe(true);
  // What was lost runs again, what was kept does not.
  const outcomes = await dedup.onceMany(messages, {
    key: ({ id }) => id,
    handler: ({ id, amount }, { tx }) => {
      tx.hincrby(`${data}-hash`, id, amount).rpush(`${data}-list`, id);
      tx.xadd(`${data}-stream`, '*', 'id', id).incrby(`${data}-total`, amount);
    },
  });
  expect(outcomes.filter(({ status }) => status === 'replayed')).toHaveLength(left);
  expect((await expectWhole(redis, namespace, messages, `seed ${seed}`)).size).toBe(200);
}, 60_000);
