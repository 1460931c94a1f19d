/**
 * What a record costs as a packed string, as a hash, and what the least would be: SET NX to claim, SET XX to complete,
 * GET for a duplicate. bench/README.md tells the method, docs/adr/0001 what was made of it.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { Redis } from 'ioredis';
import { newToken } from '../src/token.js';
import { startRedis } from '../test/support/redis/index.js';
import { claimArgs, commitArgs, hashLayout, type Layout, load, packed, RESULT, run, story } from './layouts.js';
import { median, type Spread, spread } from './statistics.js';

const ROUNDS = 60;
const LISTS = [1, 64];
/** Whole lists of each length. */
const KEYS = 64 * 32;
/** Calls under way at once: enough to keep the server busy, and few enough to keep no list of replies waiting. */
const AT_ONCE = 32;
const MEMORY_SAMPLES = 100;

type Step = 'claim' | 'commit' | 'duplicate';
type Sample = Record<Step, number> & { bytes: number };
interface Contestant {
  readonly name: string;
  readonly list: number;
  round(keys: readonly string[]): Promise<Sample>;
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
      const lists: { key: string; token: Buffer }[][] = [];
      for (let at = 0; at < keys.length; at += list)
        lists.push(keys.slice(at, at + list).map((key) => ({ key, token: newToken() })));
      const owned: Buffer[][][] = [];
      const claim = await microsPerKey('evalsha', keys.length, lists, async (entries, index) => {
        const calls = entries.map(({ key, token }) => ({ key, args: claimArgs(token) }));
        owned[index] = expectAll('owned', await run<'claim'>(redis, layout.claim, calls));
      });
      const commit = await microsPerKey('evalsha', keys.length, lists, async (entries, index) => {
        const calls = entries.map(({ key, token }, at) => {
          const [, , fence, born] = (owned[index] as Buffer[][])[at] as [Buffer, Buffer, Buffer, Buffer];
          return { key, args: commitArgs(token, fence, born) };
        });
        expectAll('done', await run<'commit'>(redis, layout.commit, calls));
      });
      const duplicate = await microsPerKey('evalsha', keys.length, lists, async (entries) => {
        const calls = entries.map(({ key }) => ({ key, args: claimArgs(newToken()) }));
        expectAll('completed', await run<'claim'>(redis, layout.claim, calls));
      });
      return { claim, commit, duplicate, bytes: await bytesPerRecord(keys) };
    },
  };
}

function plainCommands(): Contestant {
  return {
    name: 'SET NX, SET XX, GET',
    list: 1,
    async round(keys) {
      const claim = await microsPerKey('set', keys.length, keys, (key) =>
        redis.set(key, newToken(), 'PX', 86_400_000, 'NX'),
      );
      const commit = await microsPerKey('set', keys.length, keys, (key) =>
        redis.set(key, RESULT, 'PX', 86_400_000, 'XX'),
      );
      const duplicate = await microsPerKey('get', keys.length, keys, (key) => redis.get(key));
      return { claim, commit, duplicate, bytes: await bytesPerRecord(keys) };
    },
  };
}

/** Server time per key, in µs, as INFO commandstats has it of a command. */
async function microsPerKey<T>(
  command: string,
  keys: number,
  calls: readonly T[],
  send: (call: T, index: number) => Promise<unknown>,
): Promise<number> {
  await redis.config('RESETSTAT');
  let next = 0;
  const sender = async () => {
    for (let index = next++; index < calls.length; index = next++) await send(calls[index] as T, index);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, sender));
  const stats = new RegExp(`cmdstat_${command}:calls=(\\d+),usec=(\\d+)`).exec(await redis.info('commandstats'));
  if (Number(stats?.[1]) !== calls.length)
    throw new Error(`Expected ${calls.length} calls of ${command}: ${stats?.[0]}`);
  return Number(stats?.[2]) / keys;
}

async function bytesPerRecord(keys: readonly string[]): Promise<number> {
  const sampled = keys.slice(0, MEMORY_SAMPLES).map(async (key) => Number(await redis.memory('USAGE', key)));
  return median(await Promise.all(sampled));
}

async function emptyScriptMicros(): Promise<Spread> {
  const sha1 = String(await redis.call('SCRIPT', ['LOAD', 'return {}']));
  const calls = Array.from({ length: KEYS });
  const micros: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1)
    micros.push(await microsPerKey('evalsha', KEYS, calls, () => redis.call('evalsha', [sha1, '0'])));
  return spread(micros);
}

function expectAll(word: string, answers: Buffer[][]): Buffer[][] {
  const other = answers.find(([status]) => String(status) !== word);
  if (other) throw new Error(`Expected every answer to be ${word}, got ${other[0]}`);
  return answers;
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
  const rows = contestants.map((contestant) => {
    const of = samples.get(contestant) ?? [];
    const stepOf = (step: keyof Sample) => spread(of.map((sample) => sample[step]));
    const { name, list } = contestant;
    const micros = { claim: stepOf('claim'), commit: stepOf('commit'), duplicate: stepOf('duplicate') };
    return { name, list, micros, bytes: median(of.map(({ bytes }) => bytes)) };
  });
  const version = /redis_version:(\S+)/.exec(await redis.info('server'))?.[1];
  const valkey = /valkey_version:(\S+)/.exec(await redis.info('server'))?.[1];
  const results = {
    command: 'npm run bench:layout',
    measuredOn: new Date().toISOString().slice(0, 10),
    machine: { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version },
    server: valkey ? `Valkey ${valkey}` : `Redis ${version}`,
    rounds: ROUNDS,
    keysPerRound: KEYS,
    keyBytes: keyOf(0).length,
    resultBytes: RESULT.length,
    unit: 'server microseconds per key: median of the rounds, first and third quartile',
    emptyScript,
    rows,
  };
  const table = new Table({ head: ['record', 'list', 'claim', 'commit', 'duplicate', 'bytes'], style: { head: [] } });
  const cell = ({ median, q1, q3 }: Spread) => `${median.toFixed(2)} (${q1.toFixed(2)} to ${q3.toFixed(2)})`;
  for (const { name, list, micros, bytes } of rows)
    table.push([name, list, cell(micros.claim), cell(micros.commit), cell(micros.duplicate), bytes]);
  console.log(`${results.server}, ${results.machine.cores} cores of ${results.machine.cpu}. µs per key on the server:`);
  console.log('median of the rounds (first to third quartile); an empty script takes', cell(emptyScript));
  console.log(table.toString());
  const folder = fileURLToPath(new URL('./results/', import.meta.url));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}record-layout.json`, `${JSON.stringify(results, null, 2)}\n`);
}
