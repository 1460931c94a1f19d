/** A Cluster of which one primary is dead, or serves a slot no more: its slots wait and then fail truly, all others go on. */
import calculateSlot from 'cluster-key-slot';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Dedup, Effects } from '../../src/index.js';
import { type ClusterOptions, connectCluster, expectCode, freshNamespace, makeDedup, until } from '../support/index.js';
import { type ClusterNode, type RedisCluster, startCluster } from '../support/redis/cluster.js';

let servers: RedisCluster;
beforeAll(async () => {
  servers = await startCluster({ args: ['--cluster-require-full-coverage', 'no'] });
});
afterAll(() => servers.stop());

/** A hash tag of each primary's. */
async function tagsByOwner(namespace: string): Promise<Map<ClusterNode, string>> {
  const tags = new Map<ClusterNode, string>();
  for (let number = 0; tags.size < 3; number += 1) {
    const tag = `${namespace}-${number}`;
    tags.set(await servers.ownerOf(calculateSlot(`{${tag}}`)), tag);
  }
  return tags;
}

const CLIENTS: [string, ClusterOptions][] = [
  ['as it comes', {}],
  ['that gives up sooner', { retryDelayOnClusterDown: 5, retryDelayOnFailover: 5, maxRedirections: 3 }],
];

describe.each(CLIENTS)('a slot that its primary does not serve, with a client %s,', (_which, client) => {
  const stage = async () => {
    const namespace = freshNamespace();
    const cluster = connectCluster(servers.nodes, client);
    const slot = calculateSlot(`{${namespace}}`);
    const { admin } = await servers.ownerOf(slot);
    const dedup = (redisTimeout: number) => makeDedup({ namespace, redisTimeout }, cluster).with({ slot: namespace });
    await dedup(20_000).once('warm', () => 1);
    await admin.cluster('DELSLOTS', slot);
    await admin.config('RESETSTAT');
    return { cluster, admin, dedup, data: `{${namespace}}data`, serve: () => admin.cluster('ADDSLOTS', slot) };
  };

  test('is waited for, and what was asked is done once', async () => {
    const { cluster, admin, dedup, data, serve } = await stage();
    const write = (tx: Effects) => void tx.incr(data);
    const patient = dedup(20_000);
    const calls = [patient.run('k', ({ tx }) => write(tx)), ...['a', 'b'].map((key) => patient.apply(key, write))];
    const refused = async () => Number(/CLUSTERDOWN:count=(\d+)/.exec(await admin.info('errorstats'))?.[1] ?? 0);
    await until(async () => (await refused()) > 20);
    await serve();
    for (const outcome of await Promise.all(calls)) expect(outcome).toMatchObject({ status: 'executed', attempt: 1 });
    expect(await cluster.get(data)).toBe('3');
  });

  test('is given up at the deadline, and surely nothing was done', async () => {
    const { cluster, dedup, data, serve } = await stage();
    const [impatient, patient] = [dedup(1_000), dedup(20_000)];
    const write = (tx: Effects) => void tx.incr(data);
    await Promise.all([
      expectCode(
        impatient.once('k', ({ tx }) => write(tx)),
        'STORE_UNAVAILABLE',
      ),
      expectCode(impatient.apply('a', write), 'STORE_UNAVAILABLE'),
    ]);
    await serve();
    expect(await cluster.get(data)).toBeNull();
    expect(await patient.run('k', ({ tx }) => write(tx))).toMatchObject({ status: 'executed' });
    expect(await patient.apply('a', write)).toMatchObject({ status: 'executed', attempt: 1 });
    expect(await cluster.get(data)).toBe('2');
  });
});

test('while a primary is dead, calls in slots of the others go on, on new connections too; its own fail by their deadline, and run when it is back', async () => {
  const namespace = freshNamespace();
  const on = (redisTimeout: number, client: ClusterOptions): Dedup =>
    makeDedup({ namespace, redisTimeout }, connectCluster(servers.nodes, client));
  const patient = CLIENTS.map(([, client]) => on(20_000, client));
  const impatient = CLIENTS.map(([, client]) => on(1_000, client));
  const tags = await tagsByOwner(namespace);
  const call = (dedup: Dedup, key: string, slot: string) =>
    dedup.run(key, ({ tx }) => void tx.incr(`{${slot}}${namespace}-data`), { slot });
  for (const slot of tags.values()) for (const dedup of patient) await call(dedup, 'warm', slot);
  const [[dead, lost], ...others] = [...tags] as [[ClusterNode, string], ...[ClusterNode, string][]];
  await dead.kill();
  for (const [index, dedup] of [...patient, on(20_000, {})].entries()) {
    for (const [, slot] of others) {
      expect(await call(dedup, `while-${index}`, slot)).toMatchObject({ status: 'executed', attempt: 1 });
      expect(await call(dedup, `while-${index}`, slot)).toMatchObject({ status: 'replayed' });
    }
  }
  const failed = impatient.map((dedup, index) => expectCode(call(dedup, `k${index}`, lost), 'STORE_UNAVAILABLE'));
  await Promise.all(failed);
  const waiting = patient.map((dedup, index) => call(dedup, `waits-${index}`, lost));
  // Without a file it has forgotten all: what is asked of it is a first call.
  await dead.restart();
  await servers.settled();
  for (const outcome of await Promise.all(waiting)) expect(outcome).toMatchObject({ status: 'executed', attempt: 1 });
  for (const [index, dedup] of patient.entries()) {
    expect(await call(dedup, `k${index}`, lost)).toMatchObject({ status: 'executed', attempt: 1 });
  }
});
