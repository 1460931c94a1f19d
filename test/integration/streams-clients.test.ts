/** Consumers of streams on every kind of connection: ioredis 5 and 6, key prefixes, RESP 3, limited users, Cluster. */
import { readFile } from 'node:fs/promises';
import { Cluster, Redis } from 'ioredis';
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis5';
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest';
import type { OnceContext } from '../../src/index.js';
import { Connection } from '../../src/redis/connection.js';
import type { RedisConnection } from '../../src/redis/ioredis.js';
import { ownConnection } from '../../src/redis/own-connection.js';
import { produceOnce, type StreamMessage } from '../../src/streams/index.js';
import { connect, freshNamespace, gate, makeDedup, ownRedis, until } from '../support/index.js';
import { type RedisCluster, startCluster } from '../support/redis/cluster.js';
import { makeConsumer } from '../support/streams.js';

type Any = Redis | Cluster;

const docs = (page: string) => readFile(new URL(`../../docs/${page}.md`, import.meta.url), 'utf8');

/**
 * Makes the group, reads, takes over from a dead consumer, fails, buries, and leaves nothing pending.
 *
 * @param admin without a prefix: sees the keys as Redis has them
 */
async function expectConsumes(redis: Any, stream: string, admin: Any): Promise<void> {
  const dead = `${stream}-dead`;
  const at = (name: string) => `${redis.options.keyPrefix ?? ''}${name}`;
  const dedup = makeDedup({ lease: 1_000 }, redis);
  const handler = ({ id, fields }: StreamMessage, { tx }: OnceContext) => {
    tx.hincrby(`${stream}-data`, id, 1);
    if (fields.name === 'poison') throw new Error('poison');
  };
  const options = { maxDeliveries: 2, deadLetter: dead };
  const first = makeConsumer({ stream }, handler, options, dedup);
  await first.consumer.start();
  await first.consumer.stop();
  const { consumer, told, processed } = makeConsumer({ stream }, handler, options, dedup);
  const { id } = await produceOnce(dedup, 'a', { stream, fields: { name: 'good' } });
  await admin.xreadgroup('GROUP', 'group', 'died', 'COUNT', 1, 'STREAMS', at(stream), '>');
  await produceOnce(dedup, 'b', { stream, fields: { name: 'poison' } });
  await consumer.start();
  await processed(1);
  await until(() => told.deadLettered.length === 1);
  await consumer.stop();
  expect(told.error).toEqual([]);
  expect(told.processed).toMatchObject([{ id, deliveries: 2 }]);
  expect(await admin.hgetall(at(`${stream}-data`))).toEqual({ [id]: '1' });
  expect(await admin.xlen(at(dead))).toBe(1);
  expect(((await admin.xpending(at(stream), 'group')) as unknown[])[0]).toBe(0);
}

function ended<R extends { disconnect(): void; on(event: 'error', listener: () => void): unknown }>(redis: R): R {
  redis.on('error', () => {});
  onTestFinished(() => redis.disconnect());
  return redis;
}

describe('a consumer on a connection', () => {
  test.each([
    ['with keyPrefix `app:`', { keyPrefix: 'app:' }],
    ['with keyPrefix `{app}:`', { keyPrefix: '{app}:' }],
    ['in database 3', { db: 3 }],
    ['opened late', { lazyConnect: true }],
    ['without an offline queue', { enableOfflineQueue: false }],
    ['with auto-pipelining', { enableAutoPipelining: true }],
  ] as [string, { keyPrefix?: string; db?: number }][])('%s, of ioredis 6 and 5', async (_, options) => {
    const url = inject('redisUrl');
    const { db = 0 } = options;
    for (const redis of [ended(new Redis(url, options)), ended(new Redis5(url, options))]) {
      await expectConsumes(redis as Redis, freshNamespace(), ended(new Redis(url, { db })));
    }
  });

  test('of RESP 3 replies', async () => {
    const redis = ended(new Redis(inject('redisUrl'), { protocol: 3, replyMapping: 'resp3' } as never));
    await expectConsumes(redis, freshNamespace(), connect());
  });

  test('whose user has the rules of docs/streams.md', async () => {
    const url = await ownRedis();
    const admin = connect({}, url);
    const rules = (await docs('streams')).match(/ACL SETUSER ledger .*/)?.[0] as string;
    await admin.call('ACL', rules.replace('>PASSWORD', 'nopass').split(' ').slice(1));
    const dedup = makeDedup({ namespace: 'ledger', lease: '1s' }, connect({ username: 'ledger', password: 'x' }, url));
    const [begun, stream] = [gate(), 'payments'];
    const handler = async ({ fields }: StreamMessage, { tx, signal }: OnceContext) => {
      tx.hincrby('balances', 'a', 1).incr('payments-done');
      if (fields.name === 'poison') throw new Error('poison');
      if (fields.name !== 'slow') return;
      begun.open();
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    const options = { maxDeliveries: 4, deadLetter: 'payments-dead' };
    const { consumer, told, processed } = makeConsumer({ stream }, handler, options, dedup);
    await consumer.start();
    for (const name of ['good', 'poison', 'slow']) await admin.xadd(stream, '*', 'name', name);
    await processed(1);
    await begun.opened;
    // Handed out so often it is run alone, beside others that are given back.
    await until(() => told.deadLettered.length === 1);
    await consumer.stop({ drain: 0 });
    expect(told.postponed).toMatchObject([{ error: { code: 'CLOSED' } }]);
    expect(told.error).toEqual([]);
    expect(await admin.hgetall('balances')).toEqual({ a: '1' });
    expect(await admin.call('ACL', 'LOG')).toEqual([]);
  });

  test.each([
    ['an entry', { stream: 'payments', fields: { n: 1 } }, /`(\+xadd [^`]+)`/],
    ['an element', { list: 'payments', values: ['x'] }, /for a list `(\+rpush [^`]+)`/],
  ] as const)('adds %s by `produceOnce`, of a user with the rules of docs/streams.md', async (_, target, where) => {
    const url = await ownRedis();
    const admin = connect({}, url);
    const own = (where.exec((await docs('streams')).split('`produceOnce` needs')[1] as string) as RegExpExecArray)[1];
    const rules = (await docs('operations')).match(/ACL SETUSER once-app .*/)?.[0] as string;
    const words = `${rules.replace('>PASSWORD', 'nopass')} ${own} ~payments`.split(' ').slice(1);
    await admin.call('ACL', words);
    const dedup = makeDedup({ namespace: 'orders' }, connect({ username: 'once-app', password: 'x' }, url));
    for (const status of ['executed', 'replayed']) {
      expect(await produceOnce(dedup, 'k', target as never)).toMatchObject({ status });
      expect(await admin.call('ACL', 'LOG')).toEqual([]);
    }
  });
});

describe('a consumer in a Cluster', () => {
  let servers: RedisCluster;
  beforeAll(async () => {
    servers = await startCluster();
    for (const { host, port } of servers.nodes) {
      const admin = new Redis(port, host);
      await admin.call('ACL', 'SETUSER', 'app', 'on', '>pw', '~*', '&*', '+@all');
      await admin.call('ACL', 'SETUSER', 'default', 'off');
      admin.disconnect();
    }
  });
  afterAll(() => servers.stop());

  const user = { redisOptions: { username: 'app', password: 'pw' } };

  test.each([
    ['{tag}-', '', 'ioredis 6'],
    ['{tag}-', '', 'ioredis 5'],
    ['{tag}-', 'app:', 'ioredis 6'],
    ['', '{app}:', 'ioredis 5'],
    ['{}{odd}-', '{app}:', 'ioredis 6'],
    ['{tag}{}-', '', 'ioredis 6'],
  ])('of stream `%s…`, with keyPrefix `%s` and a password, on %s', async (start, keyPrefix, version) => {
    const Client = (version === 'ioredis 5' ? Cluster5 : Cluster) as typeof Cluster;
    const redis = ended(new Client(servers.nodes, { ...user, keyPrefix }));
    await expectConsumes(redis, `${start}${freshNamespace()}`, ended(new Cluster(servers.nodes, user)));
  });

  test('refuses a stream whose braces name no hash tag, and dead letters of another slot', () => {
    const dedup = makeDedup({}, ended(new Cluster(servers.nodes, user)));
    const make =
      (stream: string, options = {}) =>
      () =>
        makeConsumer({ stream }, () => 1, options, dedup);
    // Redis looks at the first braces alone, and hashes the whole name where they hold nothing.
    for (const stream of ['a{}b{c}', 'a{}', '{{a}', 'a{b']) expect(make(stream), stream).toThrow('hash tag');
    expect(make('{a}s', { deadLetter: '{b}dead' })).toThrow('`deadLetter`');
    expect(make('s', { deadLetter: 's-dead' })).toThrow('`deadLetter`');
  });

  test('asks no replica', () => {
    for (const Client of [Cluster, Cluster5] as (typeof Cluster)[]) {
      const redis = ended(new Client(servers.nodes, { ...user, scaleReads: 'slave', lazyConnect: true }));
      const own = ownConnection<Cluster>(Connection.of(redis as unknown as RedisConnection));
      expect(own.options).toMatchObject({ scaleReads: 'master', redisOptions: { password: 'pw' } });
    }
  });
});
