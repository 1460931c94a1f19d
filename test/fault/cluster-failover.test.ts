/**
 * Load on a Cluster whose primaries are killed, and their replicas promoted: record and writes are never apart. What was
 * acknowledged with `durability` stays; of the rest some may be lost, and then whole.
 */
import calculateSlot from 'cluster-key-slot';
import { expect, onTestFinished, test } from 'vitest';
import { Consumers, deliveriesOf, expectWhole, type Message } from '../support/consumers.js';
import { freshNamespace } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { startCluster } from '../support/redis/cluster.js';

const MESSAGES = Number(process.env.TEST_CLUSTER_MESSAGES ?? 400);
const KILLS = Number(process.env.TEST_CLUSTER_KILLS ?? 2);
/** Far more than it takes: only a call that never settles comes to it. */
const LONGEST_MS = 60_000 + MESSAGES * 100 + KILLS * 10_000;
const SLOTS = 6;

test(
  'primaries killed under load: what is there is whole, and no result that a replica had confirmed is lost',
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const below = (bound: number) => Math.floor(random() * bound);
    const cluster = await startCluster({
      replicas: 1,
      nodeTimeoutMs: 1_000,
      args: ['--enable-debug-command', 'yes'],
    });
    onTestFinished(() => cluster.stop());
    const namespace = freshNamespace();
    const tags = Array.from({ length: SLOTS }, (_, index) => `${namespace}-${index}`);
    const messages = Array.from({ length: MESSAGES }, (_, index): Message => {
      const way = random() < 0.5 ? 'once' : 'apply';
      const slot = tags[below(SLOTS)] as string;
      return { id: `m${index}`, amount: 1 + below(1_000), slot, way, isDurable: random() < 0.5 };
    });
    const deliveries = deliveriesOf(messages, random);
    const consumers = new Consumers(deliveries, random, { nodes: cluster.nodes, namespace });
    const look = async (context: string) => {
      const there = new Map<string, number>();
      for (const tag of tags) {
        const inSlot = messages.filter(({ slot }) => slot === tag);
        const { admin } = await cluster.ownerOf(calculateSlot(`{${tag}}`));
        for (const [id, by] of await expectWhole(admin, namespace, inSlot, context)) there.set(id, by);
      }
      return there;
    };
    const durable = new Set(messages.filter(({ isDurable }) => isDurable).map(({ id }) => id));

    let lost = 0;
    for (let kill = 1; kill <= KILLS; kill += 1) {
      await consumers.acknowledgedBy((kill - random()) * (deliveries.length / (KILLS + 1)));
      const victim = await cluster.ownerOf(calculateSlot(`{${tags[below(SLOTS)]}}`));
      if (kill % 2 === 1) {
        // Its replica hears nothing for a while: what is acknowledged now is lost, where it is killed before the replica is back.
        const woken = (await cluster.replicaOf(victim)).admin.call('DEBUG', 'SLEEP', '2');
        await victim.admin.call('CLIENT', 'KILL', 'TYPE', 'replica');
        await consumers.settledBy(60);
        await victim.kill();
        await woken;
      } else await victim.kill();
      const acknowledged = [...consumers.acknowledged];
      await cluster.settled();
      const context = `seed ${seed}, kill ${kill}`;
      const there = await look(context);
      const gone = acknowledged.filter((id) => !there.has(id));
      expect(
        gone.filter((id) => durable.has(id)),
        context,
      ).toEqual([]);
      lost += gone.length;
      await victim.restart();
      await cluster.settled();
    }
    await consumers.acknowledgedBy(Number.POSITIVE_INFINITY);

    const slowest = Math.max(...consumers.told.map(({ ms }) => ms));
    console.log(
      `seed ${seed}: ${deliveries.length} deliveries of ${MESSAGES} ids, ${consumers.told.length} calls settled, the slowest in ` +
        `${Math.round(slowest)} ms, ${JSON.stringify(Object.fromEntries(consumers.codes))}; ${KILLS} primaries killed, ` +
        `${lost} acknowledged results without durability lost with them`,
    );
    const there = await look(`seed ${seed}`);
    expect(
      messages.filter(({ id }) => !there.has(id)).filter(({ id }) => durable.has(id)),
      `seed ${seed}`,
    ).toEqual([]);
    expect(there.size, `seed ${seed}`).toBeGreaterThanOrEqual(MESSAGES - lost);
    const allowed = ['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS', 'NOT_DURABLE'];
    expect(
      [...consumers.codes.keys()].filter((code) => !allowed.includes(code)),
      `seed ${seed}`,
    ).toEqual([]);
    // All who were given a durable result were given the same one.
    const results = new Map<string, Set<string>>();
    for (const { message, result } of consumers.told) {
      if (message.isDurable && result !== undefined) {
        results.set(message.id, (results.get(message.id) ?? new Set()).add(result));
      }
    }
    expect(
      [...results].filter(([, told]) => told.size > 1),
      `seed ${seed}`,
    ).toEqual([]);
  },
  LONGEST_MS,
);
