/**
 * Answers are lost at random exchanges, under every option of ioredis that decides what it does then. What each caller
 * is told must be true, and every promise must settle by its deadline.
 */
import { Redis as Redis6 } from 'ioredis';
import { Redis as Redis5 } from 'ioredis5';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Dedup, type DedupError, isDedupError, type Outcome } from '../../src/index.js';
import { freshNamespace } from '../support/index.js';
import { type Fate, FaultProxy } from '../support/proxy.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import { type RedisServer, startRedis } from '../support/redis/index.js';

const CALLS = Number(process.env.TEST_STORM_CALLS ?? 1_000);
const AT_ONCE = 40;
const REDIS_TIMEOUT_MS = 400;
/** A claim, and a commit phase of three timeouts; the rest is for a machine that is slow. */
const DEADLINE_MS = 4 * REDIS_TIMEOUT_MS + 10_000;

const OPTIONS: Record<string, object> = {
  'its defaults': {},
  'no resending': { autoResendUnfulfilledCommands: false },
  'maxRetriesPerRequest null': { maxRetriesPerRequest: null },
  'maxRetriesPerRequest 0': { maxRetriesPerRequest: 0 },
  'maxRetriesPerRequest 20': { maxRetriesPerRequest: 20 },
  'no offline queue': { enableOfflineQueue: false },
  'a commandTimeout': { commandTimeout: 100 },
  'auto-pipelining': { enableAutoPipelining: true },
};

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
  readonly outcome?: Outcome<{ nonce: number }>;
  readonly error?: DedupError;
  readonly tookMs: number;
}

describe.each([
  ['ioredis 5', Redis5 as unknown as typeof Redis6],
  ['ioredis 6', Redis6],
] as const)('%s with', (_version, Redis) => {
  test.each(Object.entries(OPTIONS))(
    '%s: what is told is true',
    async (_name, options) => {
      const seed = chooseSeed();
      const random = seededRandom(seed);
      const fates: Fate[] = ['cut after', 'cut after', 'cut before', 'tear', { delayMs: 5 }];
      proxy.fate = () => (random() < 0.02 ? (fates[Math.floor(random() * fates.length)] as Fate) : 'pass');
      const make = (url: string) => {
        const redis = new Redis(url, { retryStrategy: () => 5, ...options });
        redis.on('error', () => {});
        const dedup = new Dedup(redis, {
          namespace,
          redisTimeout: REDIS_TIMEOUT_MS,
          lease: '2s',
          hints: 'poll',
          allowEviction: true,
        });
        onTestFinished(async () => {
          await dedup.close({ drain: 0 });
          redis.disconnect();
        });
        return dedup;
      };
      const namespace = freshNamespace();
      const dedups = [make(proxy.url), make(proxy.url)];

      const runs = new Map<number, string>();
      let nonces = 0;
      const call = async (key: string, dedup: Dedup): Promise<Told> => {
        const started = performance.now();
        const told = await dedup
          .run(key, () => {
            nonces += 1;
            runs.set(nonces, key);
            return { nonce: nonces };
          })
          .then(
            (outcome) => ({ outcome }),
            (error: unknown) => ({ error: error as DedupError }),
          );
        return { key, ...told, tookMs: performance.now() - started };
      };
      const told: Told[] = [];
      let next = 0;
      const line = async () => {
        for (let index = next++; index < CALLS; index = next++) {
          // Two callers a key, at once.
          const key = `k${index >> 1}`;
          told.push(await call(key, dedups[index % 2] as Dedup));
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, line));
      proxy.fate = () => 'pass';

      const clean = make(server.url);
      for (const { key, outcome, error, tookMs } of told) {
        const context = `seed ${seed}, ${key}`;
        expect(tookMs, context).toBeLessThan(DEADLINE_MS);
        const record = await clean.inspect(key);
        if (outcome) {
          // Done is done: completed, and the value is the one that is stored.
          expect(record?.state, context).toBe('completed');
          expect(await clean.once(key, () => ({ nonce: -1 })), context).toEqual(outcome.value);
          expect(runs.get(outcome.value.nonce), context).toBe(key);
        } else {
          if (!isDedupError(error)) throw error;
          expect(['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS'], context).toContain(error.code);
        }
      }
      // Surely not done: where nobody was told of a result or of doubt, none is stored.
      const keys = new Set(told.map(({ key }) => key));
      for (const key of keys) {
        const ofKey = told.filter((one) => one.key === key);
        const inDoubt = ofKey.some(({ outcome, error }) => outcome || isDedupError(error, 'OUTCOME_UNKNOWN'));
        if (!inDoubt) expect((await clean.inspect(key))?.state, `seed ${seed}, ${key}`).not.toBe('completed');
      }
      const codes = told.map(({ outcome, error }) => outcome?.status ?? error?.code ?? '');
      const counts = Object.fromEntries(
        [...new Set(codes)].map((code) => [code, codes.filter((one) => one === code).length]),
      );
      console.log(`seed ${seed}: ${JSON.stringify(counts)}; fates ${JSON.stringify(Object.fromEntries(proxy.counts))}`);
      proxy.counts.clear();
    },
    120_000,
  );
});
