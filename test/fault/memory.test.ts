/** A server whose memory runs full and empties again, all the while that there is work: `noeviction`, just above what is used. */
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import type { Dedup } from '../../src/index.js';
import { expectWhole } from '../support/consumers.js';
import { connect, freshNamespace, gate, heldHandler, makeDedup, ownServer, until } from '../support/index.js';
import { Load, messagesOf } from '../support/load.js';
import { chooseSeed, seededRandom } from '../support/random.js';

const MESSAGES = Number(process.env.TEST_MEMORY_MESSAGES ?? 600);
const SWINGS = Number(process.env.TEST_MEMORY_SWINGS ?? 20);
/** What the limit leaves: room for all that is written, and for what fills it up. */
const ROOM_BYTES = 2 * 1024 * 1024 + MESSAGES * 2_000;
/** Each until the server refuses it: the last ones leave no room for a record. */
const FILLING_BYTES = [256 * 1024, 16 * 1024, 1_024, 64];

/** Memory that can be filled to its limit, and freed. */
async function limitedMemory(redis: Redis) {
  const used = Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
  await redis.config('SET', 'maxmemory', String(used + ROOM_BYTES));
  const keys: string[] = [];
  let filled = gate();
  let isFull = false;
  /** Handlers that wait for it to be full. */
  let awaited = 0;
  const isRefused = (key: string, bytes: number) =>
    redis.set(key, 'x'.repeat(bytes)).then(
      () => false,
      ({ message }: Error) => message.startsWith('OOM'),
    );
  return {
    get isAwaited() {
      return awaited > 0;
    },
    async fill() {
      for (const bytes of FILLING_BYTES) {
        for (let refused = false; !refused; ) {
          const key = `filling-${keys.length}`;
          refused = await isRefused(key, bytes);
          if (!refused) keys.push(key);
        }
      }
      isFull = true;
      filled.open();
    },
    async free() {
      isFull = false;
      filled = gate();
      await redis.unlink(...keys.splice(0));
    },
    /** When it is full. */
    async whenFull() {
      if (isFull) return;
      awaited += 1;
      await filled.opened;
      awaited -= 1;
    },
  };
}

test(
  'under load: what is refused was not applied and succeeds later, what was begun is renewed and lands, and all is exact',
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const { url } = await ownServer('--maxmemory-policy', 'noeviction');
    const [redis, namespace] = [connect({}, url), freshNamespace()];
    const dedups = [1, 2].map(() => makeDedup({ namespace, lease: '4s' }, connect({}, url))) as [Dedup, Dedup];
    const refused: Record<string, number> = {};
    const lost: string[] = [];
    for (const dedup of dedups) {
      dedup.on('storeError', ({ operation, code }) => {
        refused[`${operation} ${code}`] = (refused[`${operation} ${code}`] ?? 0) + 1;
      });
      dedup.on('leaseLost', ({ reason }) => lost.push(reason));
    }
    const long = heldHandler('value');
    const running = dedups[0].run('long', long.handler);
    running.catch(() => {});
    await long.started;
    const memory = await limitedMemory(connect({}, url));
    const halves = dedups.map((_, half) => messagesOf(MESSAGES / 2, random, `m${half}-`));
    let landed = 0;
    const loads = dedups.map(
      (dedup, half) =>
        new Load({
          ...{ dedups: [dedup], namespace, messages: halves[half] ?? [], lines: 6 },
          work: async () => {
            if (random() < 0.3) return new Promise((resolve) => setTimeout(resolve, random() * 3));
            // Its commit comes when the server takes nothing new.
            await memory.whenFull();
            landed += 1;
          },
          codes: ['STORE_UNAVAILABLE'],
        }),
    );
    const messages = halves.flat();
    const isOver = () => loads.every((load) => load.isOver);
    const sum = (of: (load: Load) => number) => loads.reduce((total, load) => total + of(load), 0);
    const refusals = () => sum((load) => load.count('STORE_UNAVAILABLE'));
    /** Results and failures without writes: they end when it is full, one after another. */
    let plain = 0;
    const others = async () => {
      for (; !isOver(); plain += 1) {
        const call = dedups[0].once(`plain-${plain}`, async () => {
          await memory.whenFull();
          if (plain % 2 === 0) throw new Error('its own');
        });
        const error = await call.catch((reason: Error) => reason);
        if (error && !/^its own$|: the handler did not run$/.test(error.message)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    };
    const plainCalls = others();
    plainCalls.catch(() => {});
    const renewedAt = async () => (await dedups[1].inspect('long'))?.leaseRemainingMs as number;
    let [swings, renewals] = [0, 0];
    for (; !isOver(); swings += 1) {
      const before = { refusals: refusals(), done: sum(({ done }) => done) };
      await memory.fill();
      await until(() => refusals() > before.refusals || isOver());
      if (swings % 8 === 0) {
        // A renewal comes through while nothing new does.
        let left = await renewedAt();
        await until(async () => {
          const earlier = left;
          // What clients give up meanwhile is taken again.
          await memory.fill();
          left = await renewedAt();
          return left > earlier;
        });
        renewals += 1;
      }
      await memory.free();
      await until(() => memory.isAwaited || sum(({ done }) => done) >= before.done + MESSAGES / SWINGS || isOver());
      await expectWhole(redis, namespace, messages, `seed ${seed}, swing ${swings}`);
    }
    await Promise.all(loads.map(({ over }) => over));
    long.release();
    expect(await running).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
    const told = JSON.stringify(loads.map((load) => load.told));
    console.log(
      `seed ${seed}: full ${swings} times, ${landed} handlers of ${messages.length} and ${plain} others ended and ${renewals} renewals seen while it was, ` +
        `refused ${JSON.stringify(refused)}, told ${told}`,
    );
    const context = `seed ${seed}`;
    expect((await expectWhole(redis, namespace, messages, context)).size, context).toBe(messages.length);
    for (const load of loads) load.expectTruth(context);
    // Nobody is in doubt, and of what was begun nothing was refused.
    for (const load of loads) expect(load.count('replayed'), context).toBe(0);
    expect(Object.keys(refused).sort(), context).toEqual(['apply OOM', 'claim OOM']);
    expect(lost, context).toEqual([]);
    expect(landed, context).toBeGreaterThan(MESSAGES / 20);
  },
  60_000 + MESSAGES * 60,
);
