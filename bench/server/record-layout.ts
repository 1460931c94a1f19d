/**
 * What a record costs as a packed string, as a hash, and what the least would be: SET NX to claim, SET XX to complete,
 * GET for a duplicate. bench/README.md tells the method, docs/adr/0001 what was made of it.
 */
import Table from 'cli-table3';
import { Redis } from 'ioredis';
import { newToken } from '../../src/token.js';
import { startRedis } from '../../test/support/redis/index.js';
import { median, type Spread, spread, told } from '../measure/statistics.js';
import { claimArgs, commitArgs, expectAll, hashLayout, type Layout, load, packed, run, story } from './layouts.js';
import { circumstances, microsPerKey, writeResults } from './server-time.js';

const ROUNDS = 40;
const LISTS = [1, 64];
/** Whole lists of each length. */
const KEYS = 64 * 32;
const MEMORY_SAMPLES = 100;

/** 22 bytes, and a longer one: Redis keeps a hash in compact form up to values of 64 bytes. */
const RESULT = '{"charged":1999,"n":1}';
const LONG_RESULT = 'x'.repeat(200);

type Step = 'claim' | 'commit' | 'duplicate';
type Sample = Record<Step, number> & { bytes: number };
interface Contestant {
  readonly name: string;
  readonly list: number;
  round(keys: readonly string[]): Promise<Sample>;
  /** Leaves one completed record. */
  complete(key: string, result: string): Promise<void>;
}

interface Row {
  readonly name: string;
  readonly list: number;
  readonly micros: Record<Step, Spread>;
  readonly bytes: number;
  readonly bytesOfLongResult: number;
}

const server = await startRedis();
const redis = new Redis(server.url);
try {
  const hash = hashLayout();
  for (const layout of [packed, hash]) await load(redis, layout);
  await compareStories(packed, hash);
  const contestants = LISTS.flatMap((list) => [packed, hash].map((layout) => scripts(layout, list)));
  contestants.push(plainCommands());

  const samples = new Map(contestants.map((contestant) => [contestant, [] as Sample[]]));
  // The first round warms up and is not counted.
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (let turn = 0; turn < contestants.length; turn += 1) {
      // Another one begins each round, so that none is always the first after a pause.
      const contestant = contestants[(round + turn) % contestants.length] as Contestant;
      await redis.flushall('SYNC');
      const sample = await contestant.round(Array.from({ length: KEYS }, (_, i) => keyOf(i)));
      if (round > 0) samples.get(contestant)?.push(sample);
    }
  }
  await report(contestants, samples, await emptyScriptMicros());
} finally {
  redis.disconnect();
  await server.stop();
}

/** 19 bytes. */
function keyOf(index: number): string {
  return `once:order-${String(index).padStart(8, '0')}`;
}

function scripts(layout: Layout, list: number): Contestant {
  return {
    name: layout.name,
    list,
    async round(keys) {
      const lists: { key: string; token: string }[][] = [];
      for (let at = 0; at < keys.length; at += list)
        lists.push(keys.slice(at, at + list).map((key) => ({ key, token: newToken() })));
      const owned: Buffer[][][] = [];
      const claim = await microsPerKey(redis, 'evalsha', keys.length, lists, async (entries, index) => {
        const calls = entries.map(({ key, token }) => ({ key, args: claimArgs(token) }));
        owned[index] = expectAll('owned', await run<'claim'>(redis, layout.claim, calls));
      });
      const commit = await microsPerKey(redis, 'evalsha', keys.length, lists, async (entries, index) => {
        const calls = entries.map(({ key, token }, at) => {
          const [, , fence, born] = (owned[index] as Buffer[][])[at] as [Buffer, Buffer, Buffer, Buffer];
          return { key, args: commitArgs(token, fence, born, RESULT) };
        });
        expectAll('done', await run<'commit'>(redis, layout.commit, calls));
      });
      const duplicate = await microsPerKey(redis, 'evalsha', keys.length, lists, async (entries) => {
        const calls = entries.map(({ key }) => ({ key, args: claimArgs(newToken()) }));
        expectAll('completed', await run<'claim'>(redis, layout.claim, calls));
      });
      return { claim, commit, duplicate, bytes: await bytesPerRecord(keys) };
    },
    async complete(key, result) {
      const token = newToken();
      const claimed = await run<'claim'>(redis, layout.claim, [{ key, args: claimArgs(token) }]);
      const [, , fence, born] = claimed[0] as [Buffer, Buffer, Buffer, Buffer];
      const args = commitArgs(token, fence, born, result);
      expectAll('done', await run<'commit'>(redis, layout.commit, [{ key, args }]));
    },
  };
}

function plainCommands(): Contestant {
  return {
    name: 'SET NX, SET XX, GET',
    list: 1,
    async round(keys) {
      const claim = await microsPerKey(redis, 'set', keys.length, keys, (key) =>
        redis.set(key, newToken(), 'PX', 86_400_000, 'NX'),
      );
      const commit = await microsPerKey(redis, 'set', keys.length, keys, (key) =>
        redis.set(key, RESULT, 'PX', 86_400_000, 'XX'),
      );
      const duplicate = await microsPerKey(redis, 'get', keys.length, keys, (key) => redis.get(key));
      return { claim, commit, duplicate, bytes: await bytesPerRecord(keys) };
    },
    async complete(key, result) {
      await redis.set(key, result, 'PX', 86_400_000);
    },
  };
}

async function bytesPerRecord(keys: readonly string[]): Promise<number> {
  const sampled = keys
    .slice(0, MEMORY_SAMPLES)
    .map(async (key) => Number(await redis.memory('USAGE', key, 'SAMPLES', 0)));
  return median(await Promise.all(sampled));
}

async function emptyScriptMicros(): Promise<Spread> {
  const sha1 = String(await redis.call('SCRIPT', ['LOAD', 'return {}']));
  const calls = Array.from({ length: KEYS });
  const micros: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1)
    micros.push(await microsPerKey(redis, 'evalsha', KEYS, calls, () => redis.call('evalsha', [sha1, '0'])));
  return spread(micros);
}

async function compareStories(one: Layout, other: Layout): Promise<void> {
  const stories = [await story(redis, one, keyOf(1)), await story(redis, other, keyOf(2))].map((told) =>
    told.join('\n'),
  );
  if (stories[0] !== stories[1]) throw new Error(`The layouts decide differently:\n${stories.join('\n\n')}`);
}

async function report(
  contestants: readonly Contestant[],
  samples: ReadonlyMap<Contestant, readonly Sample[]>,
  emptyScript: Spread,
): Promise<void> {
  const rows: Row[] = [];
  for (const contestant of contestants) {
    const of = samples.get(contestant) ?? [];
    const stepOf = (step: keyof Sample) => spread(of.map((sample) => sample[step]));
    const { name, list } = contestant;
    const micros = { claim: stepOf('claim'), commit: stepOf('commit'), duplicate: stepOf('duplicate') };
    await redis.flushall('SYNC');
    await contestant.complete(keyOf(0), LONG_RESULT);
    const bytesOfLongResult = await bytesPerRecord([keyOf(0)]);
    rows.push({ name, list, micros, bytes: median(of.map(({ bytes }) => bytes)), bytesOfLongResult });
  }
  const where = await circumstances(redis);
  writeResults('record-layout', {
    command: 'npm run bench:layout',
    ...where,
    rounds: ROUNDS,
    keysPerRound: KEYS,
    keyBytes: keyOf(0).length,
    resultBytes: RESULT.length,
    longResultBytes: LONG_RESULT.length,
    unit: 'server microseconds per key: median of the rounds, first and third quartile',
    emptyScript,
    rows,
  });
  const head = ['record', 'list', 'claim', 'commit', 'duplicate', 'bytes', 'long result'];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const { name, list, micros, bytes, bytesOfLongResult } of rows)
    table.push([name, list, told(micros.claim), told(micros.commit), told(micros.duplicate), bytes, bytesOfLongResult]);
  console.log(`${where.server}, ${where.machine.cores} cores of ${where.machine.cpu}. Server µs per key, median of`);
  console.log(`${ROUNDS} rounds (first to third quartile); an empty script takes ${told(emptyScript)}.`);
  console.log(table.toString());
}
