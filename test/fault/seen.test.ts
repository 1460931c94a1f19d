/** Answers of a set that get lost: an id is told as new to one caller at most, and never as known where that is not known. */
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Dedup, type SeenSet } from '../../src/index.js';
import { expectCode, freshNamespace, until } from '../support/index.js';
import { type Fate, type FaultProxy, startProxied } from '../support/proxy.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import type { RedisServer } from '../support/redis/index.js';

let server: RedisServer;
let proxy: FaultProxy;
beforeAll(async () => {
  ({ server, proxy } = await startProxied());
});
afterEach(() => proxy.reset());
afterAll(async () => {
  await proxy.stop();
  await server.stop();
});

/** What comes must come in time on a slow machine as well; what never comes is waited for no longer than this. */
const [PATIENT_MS, HASTY_MS] = [20_000, 300];

async function open(
  url: string,
  namespace: string,
  redisOptions: object = {},
  redisTimeout = PATIENT_MS,
): Promise<SeenSet> {
  const redis = new Redis(url, { retryStrategy: () => 5, ...redisOptions });
  redis.on('error', () => {});
  const dedup = new Dedup(redis, { namespace, redisTimeout, allowEviction: true });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  });
  await until(() => redis.status === 'ready');
  const set = dedup.seen('events', { capacity: 1_000 });
  const compareOptions = () => set.has('any id');
  await until(() =>
    compareOptions().then(
      () => true,
      () => false,
    ),
  );
  return set;
}

async function pair(redisOptions: object = {}, timeoutMs = PATIENT_MS): Promise<[behind: SeenSet, beside: SeenSet]> {
  const namespace = freshNamespace();
  return [await open(proxy.url, namespace, redisOptions, timeoutMs), await open(server.url, namespace)];
}

function befallFirst(script: 'seen' | 'agree', fate: Fate): void {
  let index = 0;
  proxy.fate = (command) => (command.script === script && index++ === 0 ? fate : 'pass');
}

const WAYS: [string, (set: SeenSet) => Promise<boolean>][] = [
  ['add', (set) => set.add('a')],
  ['addMany', async (set) => (await set.addMany(['a', 'b', 'c', 'd'])).every(Boolean)],
];

describe.each(WAYS)('%s', (_name, add) => {
  test.each<Fate>(['cut before', 'tear'])('whose request was lost (%s) is sent again, and new', async (fate) => {
    const [behind, beside] = await pair();
    befallFirst('seen', fate);
    expect(await add(behind)).toBe(true);
    expect(await beside.add('a')).toBe(false);
  });

  test.each([
    ['by ioredis', {}],
    ['by the library', { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 }],
  ])(
    'whose answer was lost and that is sent again %s finds its own mark: the outcome is unknown',
    async (_by, options) => {
      const [behind, beside] = await pair(options);
      befallFirst('seen', 'cut after');
      await expectCode(add(behind), 'OUTCOME_UNKNOWN');
      expect(await beside.has('a')).toBe(true);
      expect(await behind.add('a')).toBe(false);
    },
  );

  test.each<Fate>(['lose reply', 'lose request'])('that is never answered (%s) is unknown', async (fate) => {
    const [behind] = await pair({}, HASTY_MS);
    proxy.fate = ({ script }) => (script === 'seen' ? fate : 'pass');
    await expectCode(add(behind), 'OUTCOME_UNKNOWN');
  });

  test('whose first copy comes late is new, and the late copy changes nothing', async () => {
    const [behind, beside] = await pair();
    befallFirst('seen', 'hold');
    expect(await add(behind)).toBe(true);
    const redis = new Redis(server.url);
    onTestFinished(() => redis.disconnect());
    const marks = async () => {
      const keys = await redis.keys('{*seen:events*');
      return Promise.all(
        keys.sort().map(async (key) => [key, await redis.smembers(key), await redis.pexpiretime(key)]),
      );
    };
    const before = await marks();
    await proxy.deliverHeld();
    expect(await marks()).toEqual(before);
    expect(await beside.add('a')).toBe(false);
  });

  test('of an id that others have marked, cut off in the middle, is never told as new', async () => {
    const [behind, beside] = await pair();
    await beside.add('a');
    befallFirst('seen', 'cut before');
    await expectCode(add(behind), 'OUTCOME_UNKNOWN');
  });
});

test('has is answered rightly through every drop', async () => {
  const [behind, beside] = await pair();
  await beside.add('a');
  for (const fate of ['cut before', 'cut after', 'tear'] as const) {
    befallFirst('seen', fate);
    expect(await behind.has('a')).toBe(true);
    befallFirst('seen', fate);
    expect(await behind.has('b')).toBe(false);
  }
  const [hasty] = await pair({}, HASTY_MS);
  proxy.fate = ({ script }) => (script === 'seen' ? 'lose reply' : 'pass');
  await expectCode(hasty.has('a'), 'STORE_UNAVAILABLE');
});

test('where the options could not be compared surely nothing was marked', async () => {
  const [behind, beside] = await pair({}, HASTY_MS);
  const asked: (string | undefined)[] = [];
  proxy.cutAll();
  proxy.fate = ({ script }) => {
    asked.push(script);
    return script === 'agree' ? 'lose reply' : 'pass';
  };
  // The connection is known to have dropped when the first of these has come through.
  await until(() =>
    behind.has('x').then(
      () => false,
      () => true,
    ),
  );
  asked.length = 0;
  await expectCode(behind.add('a'), 'STORE_UNAVAILABLE');
  await expectCode(behind.addMany(['a', 'b']), 'STORE_UNAVAILABLE');
  expect(asked).not.toContain('seen');
  expect(await beside.has('a')).toBe(false);
});

test('records that are marks: whatever is lost, doubled or late, and long after the records are gone, each key is written once', async () => {
  const seed = chooseSeed();
  console.log(`seed ${seed}`);
  const random = seededRandom(seed);
  const namespace = freshNamespace();
  const redis = new Redis(server.url);
  const make = (url: string) => {
    const connection = new Redis(url, { retryStrategy: () => 5 });
    connection.on('error', () => {});
    const dedup = new Dedup(connection, { namespace, redisTimeout: 2_000, allowEviction: true });
    onTestFinished(async () => {
      await dedup.close({ drain: 0 });
      connection.disconnect();
    });
    return { dedup, record: dedup.seen('done', { capacity: 1_000 }) };
  };
  onTestFinished(() => redis.disconnect());
  const callers = [make(proxy.url), make(proxy.url)];
  const keys = Array.from({ length: 60 }, (_, at) => `k${at}`);
  const callAll = () =>
    Promise.allSettled(
      callers.flatMap(({ dedup, record }) =>
        keys.map((key, at) =>
          at % 2 === 0
            ? dedup.run(key, ({ tx }) => void tx.incr(`${namespace}-${key}`), { record, lease: 200 })
            : dedup.apply(key, (tx) => void tx.incr(`${namespace}-${key}`), { record }),
        ),
      ),
    );
  const fates: Fate[] = ['cut before', 'cut after', 'tear', 'hold', 'double'];
  for (let round = 0; round < 6; round += 1) {
    proxy.fate = ({ script }) =>
      script && random() < 0.25 ? (fates[Math.floor(random() * fates.length)] as Fate) : 'pass';
    await callAll();
  }
  proxy.fate = () => 'pass';
  const settled = await callAll();
  expect(settled.filter(({ status }) => status === 'rejected')).toEqual([]);
  // As when the time for resends has passed. What was held back comes only now.
  await redis.unlink(...keys.map((key) => `${namespace}:${key}`));
  await proxy.deliverHeld((held) => held.sort(() => random() - 0.5));
  for (const outcome of await callAll())
    expect(outcome).toMatchObject({ status: 'fulfilled', value: { status: 'replayed', attempt: 0 } });
  expect(await redis.mget(keys.map((key) => `${namespace}-${key}`))).toEqual(keys.map(() => '1'));
  expect(await redis.exists(...keys.map((key) => `${namespace}:${key}`))).toBe(0);
});
