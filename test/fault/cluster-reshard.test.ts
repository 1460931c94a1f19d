/**
 * Load on a Cluster whose slots are moved to and fro meanwhile, some of them staying half moved: each id's writes are made
 * once, all of them with their record, and what callers were told is true.
 */
import calculateSlot from 'cluster-key-slot';
import { expect, onTestFinished, test } from 'vitest';
import { Consumers, deliveriesOf, expectWhole, type Message } from '../support/consumers.js';
import { freshNamespace } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { startCluster } from '../support/redis/cluster.js';
import { SlotMove } from '../support/redis/reshard.js';

const MESSAGES = Number(process.env.TEST_CLUSTER_MESSAGES ?? 400);
const MOVES = Number(process.env.TEST_CLUSTER_MOVES ?? 16);
/** Far more than it takes: only a call that never settles comes to it. */
const LONGEST_MS = 60_000 + MESSAGES * 100;
const SLOTS = 8;
const MOST_OPEN = 3;

test(
  'slots that are moved to and fro under load: every sum, list and stream is exact, and what was told is true',
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const below = (bound: number) => Math.floor(random() * bound);
    const cluster = await startCluster({ replicas: 1 });
    onTestFinished(() => cluster.stop());
    const namespace = freshNamespace();
    const tags = Array.from({ length: SLOTS }, (_, index) => `${namespace}-${index}`);
    const messages = Array.from({ length: MESSAGES }, (_, index): Message => {
      const way = random() < 0.5 ? 'once' : 'apply';
      return { id: `m${index}`, amount: 1 + below(1_000), slot: tags[below(SLOTS)] as string, way };
    });
    const deliveries = deliveriesOf(messages, random);
    const consumers = new Consumers(deliveries, random, { nodes: cluster.nodes, namespace });

    const open: SlotMove[] = [];
    let [moved, halfMoved] = [0, 0];
    const close = async () => {
      await open.splice(below(open.length), 1)[0]?.finish();
    };
    for (let move = 1; move <= MOVES && !consumers.isDone; move += 1) {
      // Calls settle whether or not they are done: of those in a slot that stays open many are not.
      await consumers.settledBy(1 + below(deliveries.length / MOVES));
      const slot = calculateSlot(`{${tags[below(SLOTS)]}}`);
      if (!open.some((other) => other.slot === slot)) {
        const owner = await cluster.ownerOf(slot);
        const others = (await cluster.primaries()).filter((server) => server !== owner);
        const next = await SlotMove.begin(cluster, slot, others[below(others.length)]);
        open.push(next);
        moved += 1;
        if (random() < 0.2) consumers.killOne();
        await consumers.settledBy(1 + below(10));
        // Some of its keys go now, and the rest when its turn comes.
        await next.moveKeys(below(20));
        if (random() < 0.6) halfMoved += 1;
        else await open.splice(open.indexOf(next), 1)[0]?.finish();
      }
      if (open.length >= MOST_OPEN) await close();
    }
    while (open.length > 0) await close();
    await consumers.acknowledgedBy(Number.POSITIVE_INFINITY);

    const refused = await refusalsOf(cluster.servers.map(({ admin }) => admin));
    const slowest = Math.max(...consumers.told.map(({ ms }) => ms));
    console.log(
      `seed ${seed}: ${deliveries.length} deliveries of ${MESSAGES} ids, ${consumers.told.length} calls settled, the slowest in ` +
        `${Math.round(slowest)} ms, ${JSON.stringify(Object.fromEntries(consumers.codes))}; ${moved} slots moved, ` +
        `${halfMoved} of them half for a while; ${consumers.killed} workers killed; the servers answered ${JSON.stringify(refused)}`,
    );
    const by = new Map<string, number>();
    for (const tag of tags) {
      const inSlot = messages.filter(({ slot }) => slot === tag);
      const { admin } = await cluster.ownerOf(calculateSlot(`{${tag}}`));
      for (const [id, receipt] of await expectWhole(admin, namespace, inSlot, `seed ${seed}`)) by.set(id, receipt);
    }
    expect(by.size, `seed ${seed}`).toBe(MESSAGES);
    expect(moved).toBeGreaterThan(MOVES / 4);
    const allowed = ['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS'];
    expect(
      [...consumers.codes.keys()].filter((code) => !allowed.includes(code)),
      `seed ${seed}`,
    ).toEqual([]);
    // Whose writes are there was told that they are, or that it is not known; or it was killed.
    const surely = consumers.told.filter(({ code }) => code !== undefined && code !== 'OUTCOME_UNKNOWN');
    const lies = surely.filter(({ receipt, message }) => by.get(message.id) === receipt);
    expect(lies, `seed ${seed}`).toEqual([]);
    // And all who were told a result were told the same one.
    const results = new Map<string, Set<string>>();
    for (const { message, result } of consumers.told) {
      if (result !== undefined) results.set(message.id, (results.get(message.id) ?? new Set()).add(result));
    }
    expect(
      [...results].filter(([, told]) => told.size > 1),
      `seed ${seed}`,
    ).toEqual([]);
  },
  LONGEST_MS,
);

/** What all servers together have refused, by code. */
async function refusalsOf(
  admins: readonly { info(section: string): Promise<string> }[],
): Promise<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const admin of admins) {
    for (const [, code, count] of (await admin.info('errorstats')).matchAll(/errorstat_(\w+):count=(\d+)/g)) {
      sums[code as string] = (sums[code as string] ?? 0) + Number(count);
    }
  }
  return sums;
}
