/** Servers that evict, by each policy that there is: refused, or accepted where that is asked for; and what then happens. */
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Dedup } from '../../src/index.js';
import { connect, expectCode, freshNamespace, heldHandler, makeDedup, ownServer, until } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { type RedisServer, startRedis } from '../support/redis/index.js';

const CALLS = Number(process.env.TEST_EVICTION_CALLS ?? 400);
const VOLATILE = ['volatile-lru', 'volatile-lfu', 'volatile-random', 'volatile-ttl'];
const EVICTING = [...VOLATILE, 'allkeys-lru', 'allkeys-lfu', 'allkeys-random'];
const ROOM_BYTES = 1024 * 1024;

async function set(redis: Redis, policy: string, maxmemory: string): Promise<void> {
  await redis.config('SET', 'maxmemory', maxmemory);
  await redis.config('SET', 'maxmemory-policy', policy);
}

describe('a server whose policy is', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());

  test.each(EVICTING)('%s is refused with a maxmemory, and accepted without or by allowEviction', async (policy) => {
    const admin = connect({}, server.url);
    const dedup = makeDedup({}, connect({}, server.url));
    const accepting = makeDedup({ allowEviction: true }, connect({}, server.url));
    const told: (string | null)[] = [];
    dedup.on('unsafeServer', ({ policy }) => told.push(policy));
    await set(admin, policy, '1gb');
    const refusals = [
      dedup.once('k', () => expect.fail('the handler must not run')),
      dedup.apply('a', (tx) => void tx.set('data', 1)),
      dedup.seen('set').add('id'),
    ];
    for (const call of refusals) {
      const { message } = await expectCode(call, 'UNSAFE_SERVER');
      for (const word of [policy, 'noeviction', 'allowEviction']) expect(message).toContain(word);
    }
    expect(await admin.dbsize()).toBe(0);
    expect(new Set(told)).toEqual(new Set([policy]));
    expect(await accepting.once('k', () => 'value')).toBe('value');
    await accepting.forget('k');
    await set(admin, policy, '0');
    expect(await dedup.once('k', () => 'value')).toBe('value');
    await dedup.forget('k');
    expect((await dedup.check()).checks.find(({ name }) => name === 'eviction')?.level).toBe('warning');
  });

  test('noeviction is accepted, with a maxmemory and without', async () => {
    for (const maxmemory of ['1gb', '0']) {
      await set(connect({}, server.url), 'noeviction', maxmemory);
      expect(await makeDedup({}, connect({}, server.url)).once('k', () => 'value')).toBe('value');
    }
  });
});

/** A server at its limit, by that policy, and what makes it evict. */
async function evictingServer(policy: string) {
  const { url } = await ownServer('--maxmemory-policy', policy);
  const admin = connect({}, url);
  const used = Number(/^used_memory:(\d+)/m.exec(await admin.info('memory'))?.[1]);
  await admin.config('SET', 'maxmemory', String(used + ROOM_BYTES));
  const filling = connect({}, url);
  let written = 0;
  return {
    ...{ url, admin },
    /** Writes what lives longer than any record, until the condition holds: so the server evicts all the while. */
    async fillUntil(condition: () => unknown): Promise<void> {
      const value = 'x'.repeat(4_096);
      while (!(await condition())) {
        const writes = Array.from({ length: 16 }, () => filling.set(`filling-${written++}`, value, 'PX', 10 ** 10));
        await Promise.all(writes);
      }
    },
    evicted: async () => Number(/^evicted_keys:(\d+)/m.exec(await admin.info('stats'))?.[1]),
  };
}

test.each(EVICTING)(
  'an attempt whose record is evicted (%s) commits nothing and is told so; the next is attempt 1, with a higher fence',
  async (policy) => {
    const { url, admin, fillUntil } = await evictingServer(policy);
    const namespace = freshNamespace();
    const dedup = makeDedup({ namespace, allowEviction: true }, connect({}, url));
    const data = `${namespace}-data`;
    const { handler, started, release } = heldHandler('first');
    let fence = 0;
    const held = dedup.once('k', (context) => {
      fence = context.fence;
      context.tx.rpush(data, 'first');
      return handler();
    });
    held.catch(() => {});
    await started;
    // EXISTS is no use of the key, as a look at the record would be: it makes it neither younger nor more frequent.
    await fillUntil(async () => (await admin.exists(`${namespace}:k`)) === 0);
    // No more: what is missing from now on was not evicted.
    await admin.config('SET', 'maxmemory', '0');
    release();
    const { message } = await expectCode(held, 'LEASE_LOST');
    expect(message).toMatch(/The record is gone: nothing of this attempt was applied/);
    expect(await admin.exists(data)).toBe(0);
    const next = await dedup.run('k', (context) => {
      context.tx.rpush(data, 'second');
      return context.fence;
    });
    expect(next).toMatchObject({ status: 'executed', attempt: 1 });
    expect(next.value).toBeGreaterThan(fence);
    expect(await admin.lrange(data, 0, -1)).toEqual(['second']);
  },
);

test.each(VOLATILE)(
  'records that are evicted under load (%s): work is done again, and what was told is what was made',
  async (policy) => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const { url, admin, fillUntil, evicted } = await evictingServer(policy);
    const namespace = freshNamespace();
    const dedups = [1, 2].map(() => makeDedup({ namespace, allowEviction: true }, connect({}, url))) as [Dedup, Dedup];
    // Without an expiry, so that it stays: the records alone are evicted.
    const data = `${namespace}-data`;
    const keys = Array.from({ length: 40 }, (_, at) => `k${at}`);
    const told: Record<string, number> = {};
    const executed: string[] = [];
    const replayed: string[] = [];
    let runs = 0;
    const call = async (number: number) => {
      // Some are called once, and see their own record go.
      const isAlone = number % 20 === 0;
      const key = isAlone ? `alone${number}` : (keys[Math.floor(random() * keys.length)] as string);
      const dedup = dedups[number % 2] as Dedup;
      const run = `${key} ${runs++}`;
      try {
        const outcome = await (number % 4 < 2
          ? dedup.run(key, async ({ tx }) => {
              tx.rpush(data, run).hincrby(`${data}-hash`, key, 1);
              if (isAlone) await until(async () => (await admin.exists(`${namespace}:${key}`)) === 0);
              return run;
            })
          : dedup.apply(`${key}-applied`, (tx) => void tx.rpush(data, run).hincrby(`${data}-hash`, key, 1)));
        told[outcome.status] = (told[outcome.status] ?? 0) + 1;
        if (outcome.status === 'executed') executed.push(run);
        else if ('value' in outcome) replayed.push(outcome.value);
      } catch (error) {
        const { code } = error as { code: string };
        told[code] = (told[code] ?? 0) + 1;
      }
    };
    let next = 0;
    let isOver = false;
    const line = async () => {
      for (let number = next++; number < CALLS; number = next++) await call(number);
    };
    await fillUntil(async () => (await evicted()) > 0);
    const load = Promise.all(Array.from({ length: 12 }, line)).finally(() => {
      isOver = true;
    });
    await fillUntil(() => isOver);
    await load;
    console.log(`seed ${seed}, ${policy}: ${await evicted()} keys evicted, told ${JSON.stringify(told)}`);
    const context = `seed ${seed}`;
    // Of every run either all writes were made, once, and its caller was told, or none.
    expect((await admin.lrange(data, 0, -1)).toSorted(), context).toEqual(executed.toSorted());
    const counts = await admin.hgetall(`${data}-hash`);
    for (const key of keys) {
      const own = executed.filter((run) => run.startsWith(`${key} `)).length;
      expect(Number(counts[key] ?? 0), `${context}, ${key}`).toBe(own);
    }
    for (const run of replayed) expect(executed, context).toContain(run);
    // The server takes what is new by evicting what is old, and a record that is gone is no doubt.
    expect(Object.keys(told).sort(), context).toEqual(['LEASE_LOST', 'executed', 'replayed']);
    expect(executed.length, context).toBeGreaterThan(2 * keys.length);
  },
  60_000 + CALLS * 60,
);

test('a policy that is set while there is work is noticed at the next connection; what runs is committed, what is evicted before is told so', async () => {
  const { url, admin, fillUntil } = await evictingServer('noeviction');
  const redis = connect({ retryStrategy: () => 1 }, url);
  const dedup = makeDedup({}, redis);
  const [kept, gone] = [heldHandler('kept'), heldHandler('gone')];
  const running = dedup.run('kept', kept.handler);
  const evicted = dedup.run('gone', gone.handler);
  evicted.catch(() => {});
  await Promise.all([kept.started, gone.started]);
  await admin.config('SET', 'maxmemory-policy', 'allkeys-random');
  // Not noticed yet: nobody asks.
  expect(await dedup.once('before', () => 'value')).toBe('value');
  await fillUntil(async () => (await dedup.inspect('gone')) === null || (await dedup.inspect('kept')) === null);
  await admin.config('SET', 'maxmemory', '1gb');
  const told: (string | null)[] = [];
  dedup.on('unsafeServer', ({ policy }) => told.push(policy));
  const closed = new Promise((resolve) => redis.once('close', resolve));
  await admin.client('KILL', 'ID', await redis.client('ID'));
  await closed;
  await expectCode(
    dedup.once('after', () => expect.fail('the handler must not run')),
    'UNSAFE_SERVER',
  );
  expect(told).toEqual(['allkeys-random']);
  const stood = { kept: await dedup.inspect('kept'), gone: await dedup.inspect('gone') };
  for (const { release } of [kept, gone]) release();
  // What was begun ends as its record stands, whatever the policy.
  for (const [name, call] of [
    ['kept', running],
    ['gone', evicted],
  ] as const) {
    if (stood[name]) expect(await call).toMatchObject({ status: 'executed', value: name, attempt: 1 });
    else await expectCode(call, 'LEASE_LOST');
  }
  await admin.config('SET', 'maxmemory-policy', 'noeviction');
  expect(await dedup.once('after', () => 'value')).toBe('value');
});
