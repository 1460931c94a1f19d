/** Answers are lost after the server has run the command: writes on `tx` and by `apply` still count once, and what is told is true. */
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { Dedup, type DedupError, type DedupErrorCode, type Effects, isDedupError } from '../../src/index.js';
import { connect, freshNamespace } from '../support/index.js';
import { type Fate, FaultProxy } from '../support/proxy.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { type RedisServer, startRedis } from '../support/redis/index.js';

const CALLS = Number(process.env.TEST_STORM_CALLS ?? 600);
const AT_ONCE = 40;
const REDIS_TIMEOUT_MS = 400;
/** A claim, and a commit phase of three timeouts; the rest is for a machine that is slow. */
const DEADLINE_MS = 4 * REDIS_TIMEOUT_MS + 10_000;
const TRUE_CODES: DedupErrorCode[] = ['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS'];

let server: RedisServer;
let proxy: FaultProxy;
beforeAll(async () => {
  server = await startRedis();
  proxy = await FaultProxy.start(server.port);
});
afterAll(async () => {
  await proxy.stop();
  await server.stop();
});

interface Told {
  readonly key: string;
  readonly status?: string;
  readonly error?: unknown;
  readonly tookMs: number;
  /** The marks that this call's own writes would leave. */
  readonly marks: readonly string[];
}

test.each([
  ["ioredis' defaults", {}],
  ['no resending', { autoResendUnfulfilledCommands: false }],
])(
  'with %s, `once` with `tx` and `apply` write once, and what is told is true',
  async (_name, options) => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const namespace = freshNamespace();
    const make = (url: string) => {
      const redis = new Redis(url, { retryStrategy: () => 5, ...options });
      redis.on('error', () => {});
      const dedup = new Dedup(redis, { namespace, redisTimeout: REDIS_TIMEOUT_MS, lease: '2s', hints: 'poll' });
      onTestFinished(async () => {
        await dedup.close({ drain: 0 });
        redis.disconnect();
      });
      return dedup;
    };
    const dedups = [make(proxy.url), make(proxy.url)] as const;
    const fates: Fate[] = ['cut after', 'cut after', 'cut after', 'cut before', 'tear'];
    // Calls of a tick share a command, so that there are few of them: every fifth meets its fate.
    proxy.fate = () => (random() < 0.2 ? (fates[Math.floor(random() * fates.length)] as Fate) : 'pass');

    let marked = 0;
    const call = async (key: string, dedup: Dedup): Promise<Told> => {
      const marks: string[] = [];
      const write = (tx: Effects) => {
        marked += 1;
        marks.push(String(marked));
        tx.rpush(`${namespace}-of-${key}`, marked).incrby(`${namespace}-total`, 1).hincrby(`${namespace}-by`, key, 1);
      };
      const started = performance.now();
      const made = key.startsWith('apply') ? dedup.apply(key, write) : dedup.run(key, ({ tx }) => write(tx));
      const told = await made.then(
        ({ status }) => ({ status }),
        (error: unknown) => ({ error }),
      );
      return { key, ...told, tookMs: performance.now() - started, marks };
    };
    const told: Told[] = [];
    let next = 0;
    const line = async () => {
      for (let index = next++; index < CALLS; index = next++) {
        // Two callers a key, at once; every other key is one of `apply`.
        const pair = index >> 1;
        told.push(await call(`${pair % 2 === 0 ? 'once' : 'apply'}-${pair}`, dedups[index % 2] as Dedup));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, line));
    proxy.fate = () => 'pass';

    const clean = make(server.url);
    const redis = connect({}, server.url);
    const marksOf = (key: string) => redis.lrange(`${namespace}-of-${key}`, 0, -1);
    for (const { key, status, error, tookMs, marks } of told) {
      const context = `seed ${seed}, ${key}`;
      expect(tookMs, context).toBeLessThan(DEADLINE_MS);
      const there = await marksOf(key);
      expect(there.length, context).toBeLessThanOrEqual(1);
      expect((await clean.inspect(key))?.state === 'completed', context).toBe(there.length === 1);
      const own = marks.some((mark) => there.includes(mark));
      if (status === 'executed') expect(own, context).toBe(true);
      else if (status === 'replayed') expect([own, there.length], context).toEqual([false, 1]);
      else {
        if (!isDedupError(error)) throw error;
        expect(TRUE_CODES, context).toContain(error.code);
        // Whoever was told that nothing was applied left nothing.
        if (error.code !== 'OUTCOME_UNKNOWN') expect(own, context).toBe(false);
      }
    }

    // A later call settles what is in doubt, and what was not done: then each key has been written for once.
    const unsettled = [...new Set(told.filter(({ status }) => status === undefined).map(({ key }) => key))];
    await Promise.all(
      unsettled.map(async (key) => {
        const before = await marksOf(key);
        const { status } = await call(key, clean);
        expect(status, `seed ${seed}, ${key}`).toBe(before.length === 1 ? 'replayed' : 'executed');
      }),
    );
    const keys = [...new Set(told.map(({ key }) => key))];
    expect(await redis.get(`${namespace}-total`), `seed ${seed}`).toBe(String(keys.length));
    expect(await redis.hgetall(`${namespace}-by`), `seed ${seed}`).toEqual(
      Object.fromEntries(keys.map((key) => [key, '1'])),
    );

    const counts = new Map<string, number>();
    for (const { key, status, error } of told) {
      const word = `${key.split('-')[0]} ${status ?? (error as DedupError).code}`;
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    const fatesMet = JSON.stringify(Object.fromEntries(proxy.counts));
    console.log(`seed ${seed}: ${JSON.stringify(Object.fromEntries(counts))}; fates ${fatesMet}`);
    proxy.counts.clear();
  },
  120_000,
);
