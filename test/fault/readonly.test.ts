/**
 * A server that refuses for a while in the course of a failover: made a replica under its clients and a primary again, it
 * refuses what writes (READONLY), or everything (MASTERDOWN); a primary that has lost its replicas refuses what writes
 * (NOREPLICAS). What is refused was surely not done, and is asked again until the deadline.
 */
import { Redis as Redis6, type RedisOptions } from 'ioredis';
import { Redis as Redis5 } from 'ioredis5';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Dedup, type DedupError, type DedupOptions } from '../../src/index.js';
import {
  connect,
  expectCode,
  freshNamespace,
  heldHandler,
  keysOf,
  makeDedup,
  ownServer,
  until,
} from '../support/index.js';
import { Ledger } from '../support/ledger.js';
import { chooseSeed, seededRandom } from '../support/random.js';

const neverRuns = () => expect.fail('the handler must not run');
const itemsOf = (name: string) => Array.from({ length: 20 }, (_, index) => `${name}${index}`);

// A replica of nobody: its data stay as they are.
const demote = (admin: Redis6) => admin.replicaof('127.0.0.1', 1);
const promote = (admin: Redis6) => admin.replicaof('NO', 'ONE');

describe.each([
  { what: 'is made a replica', code: 'READONLY', why: /read-only replica/, args: [], refuse: demote, relent: promote },
  {
    what: 'is made a replica, and answers nothing',
    code: 'MASTERDOWN',
    why: /lost its primary/,
    args: ['--replica-serve-stale-data', 'no'],
    refuse: demote,
    relent: promote,
  },
  {
    what: 'has lost its replicas',
    code: 'NOREPLICAS',
    why: /want of replicas/,
    args: [],
    refuse: (admin: Redis6) => admin.config('SET', 'min-replicas-to-write', '1'),
    relent: (admin: Redis6) => admin.config('SET', 'min-replicas-to-write', '0'),
  },
])('a server that $what ($code)', ({ code, why, args, refuse, relent }) => {
  async function stage(options: DedupOptions) {
    const { url } = await ownServer(...args);
    const admin = connect({}, url);
    const namespace = freshNamespace();
    const [dedup, other] = [1, 2].map(() => makeDedup({ namespace, ...options }, connect({}, url))) as [Dedup, Dedup];
    const told: string[] = [];
    dedup.on('storeError', ({ operation, code }) => told.push(`${operation} ${code}`));
    return {
      url,
      admin,
      namespace,
      dedup,
      other,
      told,
      refuse: () => refuse(admin),
      relent: () => relent(admin),
      /** When the server has been asked so many more scripts. */
      asked: async (count: number) => {
        const enough = (await scriptsAsked(admin)) + count;
        await until(async () => (await scriptsAsked(admin)) >= enough);
      },
    };
  }
  const perItem = { key: (item: string) => item, handler: (item: string) => item };
  const writeTo = (name: string) =>
    itemsOf(name).map((key) => ({ key, write: (tx: { incr(key: string): unknown }) => void tx.incr('applied') }));

  test('and soon takes writes again keeps nothing out: no call of any kind notices', async () => {
    const { admin, dedup, other, told, refuse, relent, asked } = await stage({ redisTimeout: '20s' });
    const seen = dedup.seen('ids');
    await seen.add('before');
    const { handler, started, release } = heldHandler('value');
    const held = dedup.run('held', async ({ tx }) => {
      tx.incr('held');
      return handler();
    });
    await started;
    // Of another process: it polls while the holder runs.
    const waiting = other.run('held', neverRuns);
    await asked(2);
    await refuse();
    release();
    const [one, applied, many, manyApplied, added, addedMany] = [
      dedup.run('one', ({ tx }) => void tx.incr('one')),
      dedup.apply('applied', (tx) => tx.incr('applied')),
      dedup.onceMany(itemsOf('many'), { ...perItem, concurrency: 20 }),
      dedup.applyMany(writeTo('manyApplied')),
      seen.add('new'),
      seen.addMany(['before', 'newer']),
    ] as const;
    await asked(20);
    await relent();
    expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
    expect(await waiting).toMatchObject({ status: 'replayed', value: 'value' });
    expect(await one).toMatchObject({ status: 'executed', attempt: 1 });
    expect(await applied).toMatchObject({ status: 'executed' });
    expect(new Set((await many).map(({ status }) => status))).toEqual(new Set(['executed']));
    expect(new Set((await manyApplied).map(({ status }) => status))).toEqual(new Set(['executed']));
    expect([await added, await addedMany]).toEqual([true, [false, true]]);
    expect(await admin.mget('held', 'one', 'applied')).toEqual(['1', '1', '21']);
    expect(told).toEqual([]);
  });

  test('beyond the deadline has surely done nothing: told by name, and every key is usable afterwards', async () => {
    const { admin, namespace, dedup, told, refuse, relent } = await stage({ redisTimeout: 200, lease: '1s' });
    const seen = dedup.seen('ids');
    await seen.add('before');
    await dedup.once('completed', () => 'value');
    const { handler, started, release } = heldHandler('first');
    const held = dedup.once('held', async ({ tx }) => {
      tx.incr('held');
      return handler();
    });
    held.catch(() => {});
    await started;
    const before = await keysOf(admin, namespace);
    await refuse();
    release();
    const refused = await Promise.all(
      [
        dedup.once('one', neverRuns),
        dedup.apply('applied', (tx) => tx.incr('applied')),
        seen.add('new'),
        dedup.forget('completed'),
        held,
      ].map((call) => call.then(neverRuns, (error: unknown) => error as DedupError)),
    );
    const outcomes = [
      ...(await dedup.onceMany(itemsOf('many'), { ...perItem, handler: neverRuns, concurrency: 20 })),
      ...(await dedup.applyMany(writeTo('manyApplied'))),
    ];
    const errors = [...refused, ...outcomes.map((outcome) => outcome.status === 'failed' && outcome.error)];
    // A machine that stood still may have got no answer to a last copy: then what became of it is not known.
    if (told.some((line) => line.endsWith(' null'))) {
      const codes = expect.stringMatching(/^(STORE_UNAVAILABLE|OUTCOME_UNKNOWN)$/);
      expect(errors).toEqual(errors.map(() => expect.objectContaining({ code: codes })));
    } else {
      const named = { code: 'STORE_UNAVAILABLE', message: expect.stringMatching(why) };
      expect(errors).toEqual(errors.map(() => expect.objectContaining(named)));
      expect(new Set(told.map((line) => line.split(' ')[1]))).toEqual(new Set([code]));
      expect(refused.map(({ message }) => message.split(': ')[1])).toEqual([
        'the handler did not run',
        'nothing was applied',
        'nothing was marked',
        'the record is untouched',
        'the handler ran, its result was not stored',
      ]);
    }
    // What writes nothing is answered, where the server answers at all.
    const replay = dedup.run('completed', neverRuns);
    if (code !== 'MASTERDOWN') expect(await replay).toMatchObject({ status: 'replayed', value: 'value' });
    else await expectCode(replay, 'STORE_UNAVAILABLE');

    await relent();
    expect(await keysOf(admin, namespace)).toEqual(before);
    expect(await admin.exists('held', 'applied')).toBe(0);
    expect(await dedup.run('one', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 1 });
    expect(await dedup.apply('applied', (tx) => tx.incr('applied'))).toMatchObject({ replies: [1] });
    expect(await seen.add('new')).toBe(true);
    expect(await dedup.forget('completed')).toBe(true);
    // Its claim stood until the lease ended.
    expect(await dedup.run('held', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  });

  test('makes no renewal: the handler is told when its lease is lost, and commits all the same if nobody came', async () => {
    const { dedup, told, refuse, relent } = await stage({ redisTimeout: '20s', lease: '300ms' });
    const lost: string[] = [];
    dedup.on('leaseLost', ({ reason }) => lost.push(reason));
    const { handler, started, release } = heldHandler('value');
    let aborted = false;
    const held = dedup.run('held', ({ signal }) => {
      signal.addEventListener('abort', () => {
        aborted = true;
      });
      return handler();
    });
    await started;
    await refuse();
    await until(() => aborted);
    expect(lost).toEqual(['no_heartbeat']);
    expect(told).toContain(`renew ${code}`);
    await relent();
    // A lease that was lost for want of an answer is renewed, once there is one.
    await until(async () => ((await dedup.inspect('held'))?.leaseRemainingMs ?? 0) > 0);
    release();
    expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
  });

  test('is left once by a client of ioredis that is told to, as after an error that ioredis sees itself', async () => {
    const { url, refuse, relent } = await stage({});
    const redis = connect(
      { reconnectOnError: ({ message }) => message.startsWith(code), retryStrategy: () => 10 },
      url,
    );
    const dedup = makeDedup({ redisTimeout: '20s' }, redis);
    await dedup.once('warm', () => 1);
    let closed = 0;
    redis.on('close', () => {
      closed += 1;
    });
    await refuse();
    const calls = itemsOf('many').map((key) => dedup.run(key, () => key));
    await until(() => closed > 1);
    await relent();
    for (const call of calls) expect(await call).toMatchObject({ status: 'executed', attempt: 1 });
  });

  test('keeps no Dedup from closing, and the key is released when it takes writes again', async () => {
    const { dedup, other, refuse, relent } = await stage({ redisTimeout: 200 });
    const { handler, started } = heldHandler('value');
    const held = dedup.once('held', handler);
    held.catch(() => {});
    await started;
    await refuse();
    await dedup.close({ drain: 0 });
    await expectCode(held, 'CLOSED');
    await relent();
    await until(async () => (await other.inspect('held'))?.state === 'released');
    expect(await other.run('held', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  });
});

const TOGGLES = Number(process.env.TEST_READONLY_TOGGLES ?? 12);
const TIMEOUT_MS = 200;

test(
  'made a replica and a primary again under load, time and again, a server loses nothing and all are told the truth',
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const { url } = await ownServer();
    const admin = connect({}, url);
    const namespace = freshNamespace();
    const ledger = new Ledger(namespace, random);
    // All of it is one history: who gets a result of a key gets the same.
    ledger.calm = 0;
    const moving: Omit<RedisOptions, 'replyMapping'> = {
      reconnectOnError: ({ message }) => message.startsWith('READONLY'),
    };
    for (const [name, Redis] of [
      ['5', Redis5 as unknown as typeof Redis6],
      ['6', Redis6],
    ] as const) {
      for (const options of [{}, moving]) {
        const redis = new Redis(url, { retryStrategy: () => 10, ...options });
        redis.on('error', () => {});
        const dedup = new Dedup(redis, { namespace, redisTimeout: TIMEOUT_MS, lease: '500ms', waitTimeout: '2s' });
        onTestFinished(async () => {
          await dedup.close({ drain: 0 });
          redis.disconnect();
        });
        for (let line = 0; line < 4; line += 1) ledger.addCaller(`ioredis ${name}`, dedup);
      }
    }
    const given = () => ledger.told.filter(({ value }) => value !== undefined).length;
    const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    for (let toggle = 0; toggle < TOGGLES; toggle += 1) {
      const enough = given() + 20 + Math.floor(random() * 50);
      await Promise.race([until(() => given() >= enough), ledger.failure]);
      await admin.config('SET', 'replica-serve-stale-data', random() < 0.5 ? 'yes' : 'no');
      await demote(admin);
      // Some outlast the deadline of an exchange, most do not.
      await pause(random() * 1.5 * TIMEOUT_MS);
      await promote(admin);
    }
    await ledger.end();
    const allowed = ['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS'];
    expect(
      ledger.told.filter(({ error }) => error && !allowed.includes(error.code)),
      `seed ${seed}`,
    ).toEqual([]);
    const lost = await ledger.judge(admin, new Set([0]), `seed ${seed}`);
    expect(lost, `seed ${seed}`).toEqual([]);
    const codes = new Map<string, number>();
    for (const { error } of ledger.told) {
      const code = error?.code ?? 'a result';
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    console.log(`seed ${seed}: ${JSON.stringify(Object.fromEntries(codes))}`);
  },
  60_000 + TOGGLES * 3_000,
);

/** How many scripts the server was asked to run. */
async function scriptsAsked(redis: Redis6): Promise<number> {
  const info = await redis.info('commandstats');
  const counts = [...info.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+),.*rejected_calls=(\d+)/g)];
  return counts.reduce((sum, [, calls, rejected]) => sum + Number(calls) + Number(rejected), 0);
}
