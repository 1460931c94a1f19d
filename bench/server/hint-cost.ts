/**
 * What a hint adds to a commit: none where nobody waits, and with a mark on the record for 0, 1 and 10 processes that
 * listen. docs/adr/0004 tells what was made of it.
 */
import Table from 'cli-table3';
import { Redis } from 'ioredis';
import { newToken } from '../../src/token.js';
import { startRedis } from '../../test/support/redis/index.js';
import { type Spread, spread, told } from '../measure/statistics.js';
import { CHANNEL, claimArgs, commitArgs, expectAll, load, packed, run } from './layouts.js';
import { circumstances, microsPerKey, writeResults } from './server-time.js';

const ROUNDS = 40;
const KEYS = 2_048;
const CASES = [
  { name: 'nobody waits', marked: false, listeners: 10 },
  { name: 'somebody waits, nobody listens', marked: true, listeners: 0 },
  { name: 'somebody waits, 1 process listens', marked: true, listeners: 1 },
  { name: 'somebody waits, 10 processes listen', marked: true, listeners: 10 },
];

const server = await startRedis();
const redis = new Redis(server.url);
try {
  await load(redis, packed);
  const samples = CASES.map(() => [] as number[]);
  // The first round warms up and is not counted.
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (let turn = 0; turn < CASES.length; turn += 1) {
      const index = (round + turn) % CASES.length;
      const micros = await commits(CASES[index] as (typeof CASES)[number]);
      if (round > 0) samples[index]?.push(micros);
    }
  }
  await report(samples.map(spread));
} finally {
  redis.disconnect();
  await server.stop();
}

async function commits({ marked, listeners }: (typeof CASES)[number]): Promise<number> {
  await redis.flushall('SYNC');
  const keys = Array.from({ length: KEYS }, (_, i) => ({ key: `once:order-${i}`, token: newToken() }));
  const owned = await Promise.all(
    keys.map(async ({ key, token }) => {
      const answers = await run<'claim'>(redis, packed.claim, [{ key, args: claimArgs(token) }]);
      if (marked) expectAll('busy', await run<'claim'>(redis, packed.claim, [{ key, args: claimArgs(newToken()) }]));
      return expectAll('owned', answers)[0] as [Buffer, Buffer, Buffer, Buffer];
    }),
  );
  const subscribers = Array.from({ length: listeners }, () => redis.duplicate());
  await Promise.all(subscribers.map((subscriber) => subscriber.subscribe(CHANNEL)));
  try {
    return await microsPerKey(redis, 'evalsha', KEYS, keys, async ({ key, token }, index) => {
      const [, , fence, born] = owned[index] as [Buffer, Buffer, Buffer, Buffer];
      const args = commitArgs(token, fence, born, 'result');
      expectAll('done', await run<'commit'>(redis, packed.commit, [{ key, args }]));
    });
  } finally {
    for (const subscriber of subscribers) subscriber.disconnect();
  }
}

async function report(spreads: readonly Spread[]): Promise<void> {
  const where = await circumstances(redis);
  const rows = CASES.map((one, index) => ({ ...one, micros: spreads[index] as Spread }));
  writeResults('hint-cost', {
    command: 'npx tsx bench/server/hint-cost.ts',
    ...where,
    rounds: ROUNDS,
    keysPerRound: KEYS,
    unit: 'server microseconds per commit: median of the rounds, first and third quartile',
    rows,
  });
  const table = new Table({ head: ['commit where', 'µs on the server'], style: { head: [], border: [] } });
  for (const { name, micros } of rows) table.push([name, told(micros)]);
  console.log(`${where.server}, ${where.machine.cores} cores of ${where.machine.cpu}. Median of ${ROUNDS} rounds`);
  console.log('(first to third quartile):');
  console.log(table.toString());
}
