/**
 * What a set of seen ids costs in memory at its capacity, and whether it ever takes a fresh id for one that was seen:
 * docs/seen-set.md tells what was found. Ends with an error where a set takes more than 12 bytes an id, or is wrong once.
 */
import Table from 'cli-table3';
import { Redis } from 'ioredis';
import { Dedup, type SeenSet } from '../../src/index.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { SeenLayout } from '../../src/seen/layout.js';
import { startRedis } from '../../test/support/redis/index.js';
import { circumstances, writeResults } from './server-time.js';

const IDS = 1_000_000;
const MOST_BYTES = 12;
const AT_ONCE = 50_000;
const TERMS = { windowMs: 24 * 3_600_000, capacity: IDS, buckets: 2 };
/** The server's own clock removes nothing that stands there. */
const FAR_FUTURE_MS = Math.ceil(4_102_444_800_000 / TERMS.windowMs) * TERMS.windowMs;

interface Row {
  readonly name: string;
  readonly keys: number;
  /** Of the whole server, by `used_memory`: keys, expiries and their tables included. */
  readonly bytesPerId: number;
  /** The sum of `MEMORY USAGE` of all keys. */
  readonly bytesOfKeysPerId: number;
  readonly notPacked: number;
}

/** UUIDs by counting: 36 characters, no two alike. */
const idsFrom = (first: number, count: number) =>
  Array.from({ length: count }, (_, at) => `00000000-0000-4000-8000-${String(first + at).padStart(12, '0')}`);

async function addAll(set: SeenSet, from: number): Promise<number> {
  let seen = 0;
  for (let first = 0; first < IDS; first += AT_ONCE) {
    const news = await set.addMany(idsFrom(from + first, AT_ONCE));
    seen += news.filter((isNew) => !isNew).length;
  }
  return seen;
}

/** The same ids at even intervals over one window, of which the middle of a bucket is the end. */
async function addOverTime(redis: Redis, prefix: string): Promise<void> {
  const layout = new SeenLayout(prefix, 'events', undefined, TERMS);
  const shares = [0.25, 0.5, 0.25];
  let first = 0;
  for (const [span, share] of shares.entries()) {
    const nowMs = FAR_FUTURE_MS + span * layout.bucketMs;
    const source = SCRIPTS.seen.source.replace('redis.call("TIME")', `{ ${nowMs / 1_000}, 0 }`);
    const shards = new Map<string, { keys: readonly string[]; digests: string[] }>();
    for (const id of idsFrom(first, IDS * share)) {
      const { keys, digest } = layout.markOf(id);
      const shard = shards.get(keys[0] as string) ?? { keys, digests: [] };
      shard.digests.push(digest);
      shards.set(keys[0] as string, shard);
    }
    for (const { keys, digests } of shards.values()) {
      const plan = '1'.repeat(keys.length - 1);
      await redis.eval(source, keys.length, ...keys, 'add', layout.bucketMs, digests.length, plan, ...digests);
    }
    await redis.script('FLUSH');
    first += IDS * share;
  }
}

async function usedMemory(redis: Redis): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
}

async function measure(redis: Redis, name: string, add: () => Promise<unknown>): Promise<Row> {
  await redis.flushall('SYNC');
  const before = await usedMemory(redis);
  await add();
  const used = (await usedMemory(redis)) - before;
  let [keys, bytes, notPacked] = [0, 0, 0];
  for await (const page of redis.scanStream({ count: 1_000 })) {
    const names = page as string[];
    keys += names.length;
    const usages = await Promise.all(names.map((key) => redis.memory('USAGE', key)));
    bytes += usages.reduce<number>((sum, usage) => sum + Number(usage), 0);
    const marks = names.filter((key) => key.startsWith('{'));
    const encodings = await Promise.all(marks.map((key) => redis.object('ENCODING', key)));
    notPacked += encodings.filter((encoding) => encoding !== 'intset').length;
  }
  const perId = (total: number) => Math.round((100 * total) / IDS) / 100;
  return { name, keys, bytesPerId: perId(used), bytesOfKeysPerId: perId(bytes), notPacked };
}

const server = await startRedis();
const redis = new Redis(server.url);
try {
  const dedup = new Dedup(redis, { redisTimeout: '60s' });
  const set = dedup.seen('events');
  let wrong = 0;
  const rows = [
    await measure(redis, 'a key an id (SET NX EX)', async () => {
      for (let first = 0; first < IDS; first += AT_ONCE) {
        const pipeline = redis.pipeline();
        for (const id of idsFrom(first, AT_ONCE)) pipeline.set(`once:events:${id}`, '1', 'EX', 86_400, 'NX');
        await pipeline.exec();
      }
    }),
    await measure(redis, 'a set, evenly over its window', () => addOverTime(redis, 'once')),
    await measure(redis, 'a set, all at once', async () => {
      wrong += await addAll(set, 0);
    }),
  ];
  wrong += await addAll(set, IDS);
  const narrow = dedup.seen('narrow', { capacity: IDS / 2 });
  const beyond = await measure(redis, 'a set, twice its capacity at once', async () => {
    wrong += await addAll(narrow, 0);
  });
  await dedup.close();

  const table = new Table({
    head: ['1,000,000 ids of 36 bytes', 'keys', 'bytes an id', 'by MEMORY USAGE', 'not packed'],
  });
  for (const { name, keys, bytesPerId, bytesOfKeysPerId, notPacked } of [...rows, beyond]) {
    table.push([name, keys, bytesPerId.toFixed(2), bytesOfKeysPerId.toFixed(2), notPacked]);
  }
  console.log(table.toString());
  console.log(`Of ${3 * IDS} fresh ids, ${wrong} were taken for seen.`);
  writeResults('seen-memory', {
    command: 'npm run bench:seen',
    ...(await circumstances(redis)),
    ids: IDS,
    freshIds: 3 * IDS,
    takenForSeen: wrong,
    rows: [...rows, beyond],
  });
  const sets = rows.slice(1);
  if (wrong > 0 || sets.some(({ bytesPerId }) => bytesPerId > MOST_BYTES)) process.exitCode = 1;
} finally {
  redis.disconnect();
  await server.stop();
}
