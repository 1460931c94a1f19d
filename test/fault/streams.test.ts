/** Entries of a stream whose consumers are killed and frozen, and whose Redis is restarted: each id's effects happen once. */
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { expectWhole, type Message } from '../support/consumers.js';
import { freshNamespace, until } from '../support/index.js';
import { Worker } from '../support/processes.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { startRedis } from '../support/redis/index.js';
import type { StreamArgs } from '../support/workers/stream.js';

const ENTRIES = Number(process.env.TEST_STREAM_ENTRIES ?? 2_000);
const BLOWS = Number(process.env.TEST_STREAM_BLOWS ?? 12);
const CONSUMERS = 3;
const [GROUP, LEASE_MS, MAX_DELIVERIES] = ['group', 400, 6];
/** Beyond the lease and the time after which an entry is taken over. */
const FROZEN_MS = [500, 1_500] as const;
const TIME_LIMIT_MS = 60_000 + ENTRIES * 60;

test(
  'consumers killed, frozen and stopped at random, Redis restarted: sums exact, nothing pending, only poison in the dead letters',
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const namespace = freshNamespace();
    const server = await startRedis(['--appendonly', 'yes', '--appendfsync', 'always']);
    const redis = new Redis(server.url, { retryStrategy: () => 10, maxRetriesPerRequest: null });
    redis.on('error', () => {});
    onTestFinished(async () => {
      redis.disconnect();
      await server.stop();
    });
    const [stream, deadLetter] = [`${namespace}-entries`, `${namespace}-dead`];

    const messages: Message[] = Array.from({ length: Math.round(ENTRIES * 0.35) }, (_, index) => ({
      id: `m${index}`,
      amount: 1 + Math.floor(random() * 1_000),
    }));
    // Each id once at least, copies close behind or far; and poison of both kinds among them.
    const copies = Array.from(
      { length: ENTRIES - messages.length },
      () => messages[Math.floor(random() * messages.length)],
    );
    const poison = ['throws', 'throws', 'kills'].map((kind, index) => ({ id: `poison${index}`, amount: 1, kind }));
    const entries = [...messages, ...copies, ...poison]
      .map((entry) => ({ entry: entry as Message & { kind?: string }, at: random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ entry: { id, amount, kind = '' } }) => ['id', id, 'amount', String(amount), 'kind', kind]);
    const add = (from: number, to: number) =>
      Promise.all(entries.slice(from, to).map((fields) => redis.xadd(stream, '*', ...fields)));
    const half = Math.floor(entries.length / 2);
    await add(0, half);

    const consumers = new Map<string, Worker>();
    const unexpected: unknown[] = [];
    const stopped: Worker['exited'][] = [];
    let [killed, frozen, ended] = [0, 0, 0];
    let over = false;
    const start = async (name: string): Promise<void> => {
      const args: StreamArgs = {
        ...{ url: server.url, namespace, stream, group: GROUP, consumer: name, deadLetter },
        ...{ maxDeliveries: MAX_DELIVERIES, leaseMs: LEASE_MS },
      };
      const worker = new Worker('stream', args);
      consumers.set(name, worker);
      void worker.exited.then(() => {
        ended += 1;
        // One that poison killed, or a blow, comes back under its name.
        if (consumers.get(name) === worker && !over) void start(name);
      });
      const listen = async () => {
        for (;;) {
          const message = await worker.next();
          if (message !== 'ready') unexpected.push(message);
        }
      };
      // It ends with its worker.
      await listen().catch(() => {});
    };
    for (let index = 0; index < CONSUMERS; index += 1) void start(`consumer-${index}`);

    /** Entries that were handed out and acknowledged. */
    const done = async () => {
      const [words] = (await redis.xinfo('GROUPS', stream)) as unknown[][];
      const numberOf = (name: string) => Number(words?.[words.indexOf(name) + 1]);
      return numberOf('entries-read') - numberOf('pending');
    };
    const blow = async (number: number) => {
      if (number === Math.ceil(BLOWS / 2)) {
        await server.kill();
        await server.restart();
        return;
      }
      const names = [...consumers.keys()];
      const name = names[Math.floor(random() * names.length)] as string;
      const victim = consumers.get(name) as Worker;
      const what = random();
      if (what < 0.4) {
        victim.kill('SIGKILL');
        killed += 1;
      } else if (what < 0.8) {
        victim.kill('SIGSTOP');
        frozen += 1;
        const ms = FROZEN_MS[0] + random() * (FROZEN_MS[1] - FROZEN_MS[0]);
        setTimeout(() => victim.kill('SIGCONT'), ms);
      } else {
        // It ends by itself, or by a poison that it had in hand.
        consumers.delete(name);
        victim.tell({ stop: true });
        stopped.push(victim.exited);
        void start(`${name}-`);
      }
    };
    for (let number = 1; number <= BLOWS; number += 1) {
      const due = ((number - random()) * half) / (BLOWS + 1);
      await until(async () => (await done()) >= due);
      await blow(number);
      await expectWhole(redis, namespace, messages, `seed ${seed}, blow ${number}`);
    }
    await add(half, entries.length);
    await until(async () => (await done()) === entries.length);
    const ends = await Promise.all(stopped);
    over = true;

    const context = `seed ${seed}`;
    expect((await expectWhole(redis, namespace, messages, context)).size, context).toBe(messages.length);
    expect(await redis.xpending(stream, GROUP), context).toEqual([0, null, null, null]);
    const letters = await redis.xrange(deadLetter, '-', '+');
    const idsOf = letters.map(([, fields]) => fields[1] as string).sort();
    expect(idsOf, context).toEqual(poison.map(({ id }) => id));
    expect(unexpected, context).toEqual([]);
    expect(
      ends.filter(({ code, signal }) => code !== 0 && signal !== 'SIGKILL'),
      context,
    ).toEqual([]);
    console.log(
      `seed ${seed}: ${entries.length} entries of ${messages.length} ids, ${killed} consumers killed, ${frozen} frozen, ` +
        `${stopped.length} stopped, Redis restarted once, ${ended} processes ended, ${letters.length} dead letters`,
    );
  },
  TIME_LIMIT_MS,
);
