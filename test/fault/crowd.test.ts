/**
 * Ten thousand callers of one key, in several processes, whose holder is killed: what they cost the server while they wait, that
 * one of them takes over, and that each gets the same bytes.
 */
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import type { DedupOptions } from '../../src/index.js';
import { connect, endLeaseIn, freshNamespace, makeDedup, ownServer, until } from '../support/index.js';
import { Worker } from '../support/processes.js';
import type { CrowdArgs, CrowdMessage } from '../support/workers/crowd.js';

const CALLERS = Number(process.env.TEST_CROWD_CALLERS ?? 10_000);
const PROCESSES = Number(process.env.TEST_CROWD_PROCESSES ?? 4);
/** Of each process. */
const DEDUPS = Number(process.env.TEST_CROWD_DEDUPS ?? 5);
/** Of the lease's 30 s most are taken off on the server, once its holder is dead: a machine that is slow loses none before. */
const LEASE_MS = 30_000;
const LEFT_MS = 300;
/** No caller gives up, on another or on Redis, before a slow machine is done. */
const WAIT_MS = 600_000;

/**
 * What one Dedup asks while it waits for a key, however many callers it has there: src/wait.ts. At first, beside the call itself:
 * once when the subscription stands, then after 20 ms at most, 40, 80, … and half of it at least; from then on at least half
 * the longest pause apart.
 */
const CLAIMS = {
  pubsub: { atFirst: 9, perSecond: 2 },
  poll: { atFirst: 6, perSecond: 8 },
} as const;

/** Each claim reads its record once, whatever list it comes in; so does each renewal of the holder's. */
async function claimsOf(redis: Redis): Promise<number> {
  return Number(/cmdstat_get:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
}

type Heard<K extends CrowdMessage['is']> = Extract<CrowdMessage, { is: K }>;

/** The processes of a crowd, and what each has said. */
class Crowd {
  readonly workers = new Map<Worker, CrowdMessage[]>();

  constructor(args: CrowdArgs) {
    for (let count = 0; count < PROCESSES; count += 1) {
      const worker = new Worker('crowd', args);
      const heard: CrowdMessage[] = [];
      this.workers.set(worker, heard);
      const listen = async () => {
        for (;;) heard.push(await worker.next<CrowdMessage>());
      };
      // It ends with its worker.
      void listen().catch(() => {});
    }
  }

  heard<K extends CrowdMessage['is']>(kind: K): { worker: Worker; message: Heard<K> }[] {
    return [...this.workers].flatMap(([worker, messages]) =>
      messages.flatMap((message) => (message.is === kind ? [{ worker, message: message as Heard<K> }] : [])),
    );
  }

  async allSaid(kind: CrowdMessage['is']): Promise<void> {
    await until(() => new Set(this.heard(kind).map(({ worker }) => worker)).size === this.workers.size);
  }

  tell(message: object): void {
    for (const worker of this.workers.keys()) worker.tell(message);
  }

  async kill(worker: Worker): Promise<void> {
    worker.kill('SIGKILL');
    await worker.exited;
    this.workers.delete(worker);
  }
}

test.each([
  ['pubsub', 'is killed'],
  ['poll', 'is killed, and then the one that took over'],
] as const)(
  'callers that wait by %s, of a holder that %s: bounded commands, one takeover each time, the same bytes for all',
  async (hints, what) => {
    const { url } = await ownServer();
    const [redis, namespace] = [connect({}, url), freshNamespace()];
    const options: DedupOptions = { lease: LEASE_MS, waitTimeout: WAIT_MS, redisTimeout: WAIT_MS, hints };
    const holder = new Worker('holder', { url, namespace, options });
    await holder.next();
    const crowd = new Crowd({
      ...{ url, namespace, dedups: DEDUPS, callers: CALLERS / PROCESSES },
      options: options as CrowdArgs['options'],
    });
    await crowd.allSaid('ready');
    crowd.tell({ call: true });
    await crowd.allSaid('called');

    // Until there were as many as a Dedup asks in its first seconds: too many come too soon.
    const waiting = PROCESSES * DEDUPS;
    const { atFirst, perSecond } = CLAIMS[hints];
    const from = performance.now();
    const before = await claimsOf(redis);
    await until(async () => (await claimsOf(redis)) - before >= waiting * (atFirst + 2));
    const claims = (await claimsOf(redis)) - before;
    const seconds = (performance.now() - from) / 1_000;
    // The holder's renewals are among them.
    const renewals = 1 + (seconds * 3_000) / LEASE_MS;
    expect(claims).toBeLessThanOrEqual(waiting * (atFirst + perSecond * seconds) + renewals);

    /** The lease of the dead ends, and one takes over. */
    const takenOver = async () => {
      await endLeaseIn(redis, `${namespace}:k`, LEFT_MS);
      const endedAt = performance.now() + LEFT_MS;
      await until(() => crowd.heard('running').length === 1);
      return performance.now() - endedAt;
    };
    holder.kill('SIGKILL');
    await holder.exited;
    const tookOverMs = [await takenOver()];
    if (what !== 'is killed') {
      const [taker] = crowd.heard('running');
      if (!taker) return expect.fail('nobody has taken over');
      expect(taker.message.attempt).toBe(2);
      await crowd.kill(taker.worker);
      tookOverMs.push(await takenOver());
    }
    const releasedAt = performance.now();
    crowd.tell({ goOn: true });
    await crowd.allSaid('settled');
    const settledMs = performance.now() - releasedAt;

    const attempt = 1 + tookOverMs.length;
    expect(crowd.heard('running').map(({ message }) => message.attempt)).toEqual([attempt]);
    const settled = crowd.heard('settled').map(({ message }) => message);
    const told: Record<string, number> = {};
    for (const [word, count] of settled.flatMap((one) => Object.entries(one.told)))
      told[word] = (told[word] ?? 0) + count;
    const callers = (CALLERS / PROCESSES) * crowd.workers.size;
    expect(told).toEqual({ executed: 1, replayed: callers - 1 });
    expect(new Set(settled.flatMap(({ digests }) => digests)).size).toBe(1);
    const record = await makeDedup({ namespace }, redis).inspect('k');
    expect(record).toMatchObject({ state: 'completed', attempt });
    crowd.tell({ end: true });
    const heap = Math.max(...crowd.heard('called').map(({ message }) => message.heapBytes)) / (CALLERS / PROCESSES);
    console.log(
      `${CALLERS} callers in ${PROCESSES} processes of ${DEDUPS} Dedups, by ${hints}: ${claims} claims in ${seconds.toFixed(1)} s, ` +
        `${(claims / seconds / PROCESSES).toFixed(1)} a second and process; took over ${tookOverMs.map(Math.round).join(' and ')} ms ` +
        `after the lease; all settled ${Math.round(settledMs)} ms after the handler; ${Math.round(heap)} bytes of heap a caller`,
    );
  },
  120_000 + CALLERS * 20,
);
