/**
 * Failover by Sentinel under load: the primary killed, switched over, demoted by hand, and frozen until another has its
 * place. Record and effects stay together, nothing that was confirmed is lost, and what is lost is lost whole.
 */
import { Redis as Redis6, type RedisOptions } from 'ioredis';
import { Redis as Redis5 } from 'ioredis5';
import { expect, onTestFinished, test } from 'vitest';
import { Dedup, type DedupOptions } from '../../src/index.js';
import { freshNamespace, until } from '../support/index.js';
import { Ledger, type Told } from '../support/ledger.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import type { RedisServer } from '../support/redis/index.js';
import { SentinelGroup } from '../support/redis/sentinel.js';

const KINDS = ['killed', 'switched over', 'demoted by hand', 'frozen'] as const;
const FAILOVERS = Number(process.env.TEST_SENTINEL_FAILOVERS ?? KINDS.length);
/** Acknowledgements between two failovers, at least. */
const CALM_CALLS = Number(process.env.TEST_SENTINEL_CALLS ?? 150);
const LINES = 3;

const REDIS_TIMEOUT_MS = 1_000;
const WAIT_MS = 2_000;
const CONFIRM_MS = 300;
/** A wait and a claim with its look at the server, a commit phase of three timeouts, a confirmation of two rounds; the rest is for a machine that is slow. */
const DEADLINE_MS =
  WAIT_MS + 2 * REDIS_TIMEOUT_MS + 3 * REDIS_TIMEOUT_MS + 5 * REDIS_TIMEOUT_MS + 2 * CONFIRM_MS + 10_000;

type Options = Omit<RedisOptions, 'replyMapping'>;

/** As docs/failover.md says, and as ioredis is by itself. */
const WATCHFUL: Options = {
  reconnectOnError: ({ message }) => /^(READONLY|NOREPLICAS)/.test(message),
  socketTimeout: 500,
};
const OPTIONS: Record<string, Options> = { watchful: WATCHFUL, unaware: {} };

interface Client {
  readonly name: string;
  readonly isWatchful: boolean;
  readonly redis: Redis6;
  readonly callers: readonly Caller[];
}

interface Caller {
  readonly name: string;
  readonly isDurable: boolean;
  /** What `historyLost` has told. */
  readonly losses: string[];
}

test(
  `${FAILOVERS} failovers under load: record and effects are never apart, and nothing confirmed is lost`,
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    console.log(`seed ${seed}`);
    const group = await SentinelGroup.start();
    onTestFinished(() => group.stop());
    const namespace = freshNamespace();
    const ledger = new Ledger(namespace, random);
    let refused = 0;

    const makeCaller = (name: string, redis: Redis6, durability: DedupOptions['durability']): Caller => {
      const dedup = new Dedup(redis, {
        namespace,
        durability,
        redisTimeout: REDIS_TIMEOUT_MS,
        lease: '2s',
        waitTimeout: WAIT_MS,
      });
      onTestFinished(() => dedup.close({ drain: 0 }));
      const losses: string[] = [];
      dedup.on('historyLost', ({ loss }) => losses.push(loss));
      dedup.on('storeError', ({ code }) => {
        if (code === 'READONLY' || code === 'NOREPLICAS') refused += 1;
      });
      for (let line = 0; line < LINES; line += 1) ledger.addCaller(name, dedup);
      return { name, isDurable: durability !== undefined, losses };
    };
    const makeClient = (version: string, Redis: typeof Redis6, way: string): Client => {
      const name = `${version} ${way}`;
      const redis = new Redis({ ...group.options, retryStrategy: () => 50, ...OPTIONS[way] });
      redis.on('error', () => {});
      onTestFinished(() => redis.disconnect());
      const callers = [
        makeCaller(name, redis, undefined),
        makeCaller(`${name}, durable`, redis, { replicas: 2, timeout: CONFIRM_MS }),
      ];
      return { name, isWatchful: way === 'watchful', redis, callers };
    };
    const clients = Object.keys(OPTIONS).flatMap((way) => [
      makeClient('ioredis 5', Redis5 as unknown as typeof Redis6, way),
      makeClient('ioredis 6', Redis6, way),
    ]);
    const callers = clients.flatMap((client) => client.callers);
    const durable = new Set(callers.filter(({ isDurable }) => isDurable).map(({ name }) => name));
    const watchful = clients.filter(({ isWatchful }) => isWatchful);

    // What fails in a caller ends the wait for what it would have done.
    const happens = (condition: () => unknown) => Promise.race([until(condition), ledger.failure]);
    const isOn = (server: RedisServer) => (client: Client) =>
      client.redis.status === 'ready' && client.redis.stream.remotePort === server.port;
    const given = (of: (told: Told) => boolean = () => true) =>
      ledger.told.filter((told) => told.value !== undefined && of(told)).length;
    /** When callers have been given so many more results. */
    const more = async (count: number, of?: (told: Told) => boolean) => {
      const enough = given(of) + count;
      await happens(() => given(of) >= enough);
    };
    const byPlain = ({ caller }: Told) => !durable.has(caller);
    const everyPlain = (count: number) =>
      Promise.all(
        callers.filter(({ isDurable }) => !isDurable).map(({ name }) => more(count, ({ caller }) => caller === name)),
      );
    const dropClientsOf = (server: RedisServer) => group.commands(server).call('CLIENT', ['KILL', 'TYPE', 'normal']);

    const fail: Record<(typeof KINDS)[number], (primary: RedisServer) => Promise<void>> = {
      killed: async (primary) => {
        const replicas = group.servers.filter((server) => server !== primary);
        const lockOut = (password: string) =>
          Promise.all(replicas.map((replica) => group.commands(replica).config('SET', 'masterauth', password)));
        // From now on nothing reaches the replicas: what is given out is lost with the primary, but what was confirmed.
        await lockOut('none-such');
        await group.commands(primary).call('CLIENT', ['KILL', 'TYPE', 'replica']);
        await more(20, byPlain);
        const told = callers.flatMap(({ losses }) => losses).length;
        await dropClientsOf(primary);
        await everyPlain(3);
        // A connection that drops has lost nothing.
        expect(callers.flatMap(({ losses }) => losses)).toHaveLength(told);
        await more(20, byPlain);
        await primary.kill();
        await lockOut('');
        const heir = await group.promoted(primary);
        await primary.restart();
        await group.follow(primary, heir);
      },
      'switched over': async (primary) => {
        await group.switchOver();
        await group.promoted(primary);
      },
      'demoted by hand': async (primary) => {
        await group.switchOver();
        const heir = await group.promoted(primary);
        const before = refused;
        // The sentinels would drop its clients as well.
        await group.follow(primary, heir);
        await happens(() => watchful.every(isOn(heir)));
        await happens(() => refused > before || clients.every(isOn(heir)));
        await dropClientsOf(primary);
      },
      frozen: async (primary) => {
        await primary.freeze();
        const heir = await group.promoted(primary);
        await happens(() => watchful.every(isOn(heir)));
        await more(20, byPlain);
        await primary.wake();
      },
    };

    const calms = new Set<number>();
    const counts = new Map<string, number>();
    const kinds = failoversOf(random);
    for (let round = 0; ; round += 1) {
      const primary = await group.settled();
      await happens(() => clients.every(isOn(primary)));
      const history = await group.historyOf(primary);
      ledger.calm = round;
      await Promise.all([
        more(CALM_CALLS + Math.floor(random() * CALM_CALLS)),
        ...callers.map(({ name }) => more(5, ({ caller }) => caller === name)),
      ]);
      ledger.calm = undefined;
      // A machine that stands still for a second may have the sentinels act by themselves.
      if ((await group.historyOf(primary)) === history) calms.add(round);
      const kind = kinds[round];
      if (!kind) break;
      for (const { losses } of callers) losses.length = 0;
      await fail[kind](primary);
      await group.settled();
      for (const { losses, isDurable } of callers) {
        await happens(() => losses.length > 0);
        if (kind === 'killed' && !isDurable) expect(losses).toContain('behind');
      }
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    await ledger.end();

    const primary = await group.settled();
    const context = `seed ${seed}`;
    const lost = await ledger.judge(group.commands(primary), calms, context);
    tally(ledger.told, lost, durable, counts, refused);
    expect(Math.max(...ledger.told.map(({ tookMs }) => tookMs)), context).toBeLessThan(DEADLINE_MS);
    const allowed = ['STORE_UNAVAILABLE', 'OUTCOME_UNKNOWN', 'LEASE_LOST', 'IN_PROGRESS', 'NOT_DURABLE'];
    expect(
      ledger.told.filter(({ error }) => error && !allowed.includes(error.code)),
      context,
    ).toEqual([]);
    expect(
      lost.filter(({ caller }) => durable.has(caller)),
      context,
    ).toEqual([]);
    expect(lost.length, context).toBeGreaterThan(0);
  },
  60_000 + FAILOVERS * 30_000,
);

/** Each kind as often as the others, in any order. */
function failoversOf(random: () => number): (typeof KINDS)[number][] {
  return Array.from({ length: FAILOVERS }, (_, index) => ({ kind: KINDS[index % KINDS.length] as never, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ kind }) => kind);
}

function tally(
  told: readonly Told[],
  lost: readonly Told[],
  durable: ReadonlySet<string>,
  counts: ReadonlyMap<string, number>,
  refused: number,
): void {
  const by = (what: (told: Told) => string, of: readonly Told[]) => {
    const sums: Record<string, number> = {};
    for (const one of of) sums[what(one)] = (sums[what(one)] ?? 0) + 1;
    return JSON.stringify(sums);
  };
  const way = ({ caller }: Told) => caller.replace(/^ioredis \d /, '');
  console.log(
    [
      `failovers ${JSON.stringify(Object.fromEntries(counts))}`,
      `${told.length} calls of ${new Set(told.map(({ key }) => key)).size} keys: ${by(({ error }) => error?.code ?? 'a result', told)}`,
      `results by caller ${by(
        way,
        told.filter(({ value }) => value !== undefined),
      )}`,
      `lost whole ${lost.length}, ${by(way, lost)}; of these confirmed ${lost.filter(({ caller }) => durable.has(caller)).length}`,
      `exchanges that ended with READONLY or NOREPLICAS ${refused}, longest call ${Math.round(Math.max(...told.map(({ tookMs }) => tookMs)))} ms`,
    ].join('\n'),
  );
}
