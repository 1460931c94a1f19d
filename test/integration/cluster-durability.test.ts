/** `durability` in a Cluster: each result is confirmed by the replica of the primary that has it, wherever its slot goes. */
import calculateSlot from 'cluster-key-slot';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { DedupOptions } from '../../src/index.js';
import { connectCluster, expectCode, freshNamespace, makeDedup, until } from '../support/index.js';
import { type ClusterNode, type RedisCluster, startCluster } from '../support/redis/cluster.js';
import { startRedis } from '../support/redis/index.js';
import { SlotMove } from '../support/redis/reshard.js';

const SLOTS = ['a', 'b', 'c', 'd', 'e', 'f'];

/** The replica of the primary that has the slot, to be read. */
async function replicaOf(servers: RedisCluster, slot: string): Promise<ClusterNode> {
  const replica = await servers.replicaOf(await servers.ownerOf(calculateSlot(slot)));
  await replica.admin.readonly();
  return replica;
}

describe('with a replica for each primary', () => {
  let servers: RedisCluster;
  beforeAll(async () => {
    servers = await startCluster({ replicas: 1, nodeTimeoutMs: 60_000 });
  });
  afterAll(() => servers.stop());

  const durable = (namespace: string, timeout: number, slotsRefreshInterval = 5_000) => {
    const durability: DedupOptions['durability'] = { replicas: 1, timeout };
    return makeDedup({ namespace, durability }, connectCluster(servers.nodes, { slotsRefreshInterval }));
  };

  test('record and effects are on that replica when a call returns, the first on its connection too', async () => {
    const namespace = freshNamespace();
    const dedup = durable(namespace, 20_000);
    for (const slot of SLOTS) {
      const replica = await replicaOf(servers, slot);
      const total = `{${slot}}${namespace}-total`;
      await dedup.once('k', ({ tx }) => void tx.incr(total), { slot });
      expect(await replica.admin.get(total)).toBe('1');
      await dedup.apply('a', (tx) => tx.incr(total), { slot });
      expect(await replica.admin.get(total)).toBe('2');
      expect(await replica.admin.exists(`{${slot}}:${namespace}:k`, `{${slot}}:${namespace}:a`)).toBe(2);
      expect(await dedup.run('k', () => 'never', { slot })).toMatchObject({ status: 'replayed' });
    }
  });

  test('many at once are confirmed by their own primaries', async () => {
    const namespace = freshNamespace();
    const dedup = durable(namespace, 20_000);
    const items = Array.from({ length: 120 }, (_, index) => ({
      key: `k${index}`,
      slot: SLOTS[index % SLOTS.length] as string,
    }));
    const outcomes = await dedup.onceMany(items, {
      key: ({ key }) => key,
      slot: ({ slot }) => slot,
      handler: ({ key, slot }, { tx }) => void tx.sadd(`{${slot}}${namespace}-set`, key),
    });
    expect(new Set(outcomes.map(({ status }) => status))).toEqual(new Set(['executed']));
    for (const slot of SLOTS) {
      const replica = await replicaOf(servers, slot);
      expect(await replica.admin.scard(`{${slot}}${namespace}-set`)).toBe(items.length / SLOTS.length);
    }
  });

  test('where a primary has lost its replica its results are not confirmed, those of the others are, and copies when it is back', async () => {
    const namespace = freshNamespace();
    const [patient, hasty] = [durable(namespace, 20_000), durable(namespace, 100)];
    const primary = await servers.ownerOf(calculateSlot('a'));
    const replica = await servers.replicaOf(primary);
    await replica.kill();
    await until(async () => (await primary.admin.info('replication')).includes('connected_slaves:0'));
    const error = await expectCode(
      hasty.once('k', () => 1, { slot: 'a' }),
      'NOT_DURABLE',
    );
    expect(error.message).toContain('0 of 1 replicas');
    for (const slot of ['b', 'c']) expect(await patient.once('k', () => 1, { slot })).toBe(1);
    await replica.restart();
    await servers.settled();
    expect(await patient.run('k', () => 2, { slot: 'a' })).toMatchObject({ status: 'replayed', value: 1 });
  });

  test.each([
    ['that is half moved', false],
    ['that has moved since the client looked', true],
  ])('a result in a slot %s is confirmed by who has it, and by nobody else', async (_what, isWhole) => {
    const namespace = freshNamespace();
    const [patient, hasty] = [durable(namespace, 20_000, 0), durable(namespace, 100, 0)];
    const slot = namespace;
    for (const dedup of [patient, hasty]) expect(await dedup.once('warm', () => 1, { slot })).toBe(1);
    const move = await SlotMove.begin(servers, calculateSlot(`{${slot}}`));
    onTestFinished(() => move.finish());
    if (isWhole) await move.finish();
    const replica = await servers.replicaOf(move.target);
    await replica.kill();
    await until(async () => (await move.target.admin.info('replication')).includes('connected_slaves:0'));
    // Fresh connections as well: their nodes are not open yet when they ask first.
    const fresh = durable(namespace, 100, 0);
    for (const [index, dedup] of [hasty, fresh].entries()) {
      await expectCode(
        dedup.once(`k${index}`, () => 1, { slot }),
        'NOT_DURABLE',
      );
      await expectCode(
        dedup.once(`k${index}`, () => 2, { slot }),
        'NOT_DURABLE',
      );
    }
    await replica.restart();
    await servers.settled();
    await move.finish();
    for (const dedup of [patient, hasty, fresh]) {
      // A client that was led elsewhere may have to look at the slots again first.
      await until(async () => (await dedup.run('k0', () => 3, { slot }).catch(() => undefined))?.value === 1);
    }
  });
});

describe('on Redis 8.0', () => {
  // A machine's first start of a version fetches it, which may take longer than a test has.
  beforeAll(async () => (await startRedis([], 'redis-8.0')).stop(), 300_000);

  test('the append-only files of primary and replica confirm', async () => {
    const files = ['--appendonly', 'yes', '--appendfsync', 'always'];
    const servers = await startCluster({ replicas: 1, version: 'redis-8.0', args: files });
    onTestFinished(() => servers.stop());
    const namespace = freshNamespace();
    const durability: DedupOptions['durability'] = { aof: true, replicas: 1, timeout: '20s' };
    const dedup = makeDedup({ namespace, durability }, connectCluster(servers.nodes));
    await Promise.all(
      SLOTS.map(async (slot) => {
        const total = `{${slot}}${namespace}-total`;
        const replica = await replicaOf(servers, slot);
        await dedup.once('k', ({ tx }) => void tx.incr(total), { slot });
        expect(await replica.admin.get(total)).toBe('1');
        expect(await dedup.apply('a', (tx) => tx.incr(total), { slot })).toMatchObject({ replies: [2] });
        expect(await replica.admin.get(total)).toBe('2');
      }),
    );
  });
});
