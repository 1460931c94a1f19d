/**
 * A primary, two replicas and three sentinels that watch them: of the server at hand, run on this machine. The sentinels
 * look ten times as often as they would by themselves, so that a failover takes two seconds and the old primary is
 * made a replica after one, where that takes eight to ten.
 */
import { Redis } from 'ioredis';
import type { RedisServer } from '../../../src/testing/server.js';
import { startRedis, startSentinel } from './index.js';

const REPLICAS = 2;
const SENTINELS = 3;
const NAME = 'primary';
const DOWN_AFTER_MS = 1_000;
const PACE = { 'info-period': 200, 'publish-period': 200, 'ask-period': 200, 'min-link-reconnect-period': 200 };

export class SentinelGroup {
  readonly #commands = new Map<RedisServer, Redis>();

  private constructor(
    /** The servers of the data, whichever is the primary. */
    readonly servers: readonly RedisServer[],
    private readonly sentinels: readonly RedisServer[],
  ) {}

  /** @param args of each server of the data */
  static async start(args: readonly string[] = []): Promise<SentinelGroup> {
    const started: RedisServer[] = [];
    const keep = async (server: Promise<RedisServer>) => {
      started.push(await server);
      return server;
    };
    try {
      const common = ['--repl-diskless-sync-delay', '0', ...args];
      const primary = await keep(startRedis(common));
      const follow = ['--replicaof', '127.0.0.1', String(primary.port)];
      const replicas = await Promise.all(
        Array.from({ length: REPLICAS }, () => keep(startRedis([...common, ...follow]))),
      );
      const config = [
        `sentinel monitor ${NAME} 127.0.0.1 ${primary.port} 2`,
        `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER_MS}`,
        `sentinel failover-timeout ${NAME} 3000`,
        `sentinel parallel-syncs ${NAME} ${REPLICAS}`,
      ];
      const sentinels = await Promise.all(Array.from({ length: SENTINELS }, () => keep(startSentinel(config))));
      const group = new SentinelGroup([primary, ...replicas], sentinels);
      const pace = Object.entries(PACE).flatMap(([name, ms]) => [name, String(ms)]);
      for (const sentinel of sentinels) await group.commands(sentinel).call('SENTINEL', ['DEBUG', ...pace]);
      await group.settled();
      return group;
    } catch (error) {
      await Promise.all(started.map((server) => server.stop()));
      throw error;
    }
  }

  /** What ioredis needs to know to find the primary. */
  get options(): { sentinels: { host: string; port: number }[]; name: string } {
    return { sentinels: this.sentinels.map(({ port }) => ({ host: '127.0.0.1', port })), name: NAME };
  }

  /** A connection of the group's own to a server, kept until the end. */
  commands(server: RedisServer): Redis {
    const known = this.#commands.get(server);
    if (known) return known;
    const redis = new Redis(server.url, { retryStrategy: () => 50, maxRetriesPerRequest: null });
    redis.on('error', () => {});
    this.#commands.set(server, redis);
    return redis;
  }

  /** The server that every sentinel names, when it is not `other`, and says so itself. */
  async promoted(other?: RedisServer): Promise<RedisServer> {
    return poll(async () => {
      const ports = await Promise.all(this.sentinels.map((sentinel) => this.#primaryPort(sentinel)));
      const server = this.servers.find(({ port }) => port !== other?.port && ports.every((named) => named === port));
      return server && (await this.#info(server)).includes('role:master') ? server : undefined;
    });
  }

  /** The primary, when all other servers follow it and every sentinel knows all of them and each other. */
  async settled(): Promise<RedisServer> {
    for (;;) {
      const primary = await this.promoted();
      const others = this.servers.filter((server) => server !== primary);
      const whole = await Promise.all([
        this.#info(primary).then((info) => info.match(/state=online/g)?.length === REPLICAS),
        ...others.map(async (server) => {
          const info = await this.#info(server);
          return info.includes(`master_port:${primary.port}`) && info.includes('master_link_status:up');
        }),
        ...this.sentinels.map((sentinel) => this.#knowsAll(sentinel)),
      ]);
      if (whole.every(Boolean) && (await this.promoted()) === primary) return primary;
      await pause();
    }
  }

  /** Which history the primary writes: another one after each promotion. */
  async historyOf(server: RedisServer): Promise<string | undefined> {
    return /^master_replid:(\w+)/m.exec(await this.#info(server))?.[1];
  }

  /** Has the sentinels promote a replica of a primary that is well. */
  async switchOver(): Promise<void> {
    // What went before may not be over for all of them.
    await poll(() =>
      this.commands(this.sentinels[0] as RedisServer)
        .call('SENTINEL', ['FAILOVER', NAME])
        .then(
          () => true,
          () => undefined,
        ),
    );
  }

  async follow(server: RedisServer, primary: RedisServer): Promise<void> {
    await this.commands(server).replicaof('127.0.0.1', primary.port);
  }

  async stop(): Promise<void> {
    for (const redis of this.#commands.values()) redis.disconnect();
    await Promise.all([...this.sentinels, ...this.servers].map((server) => server.stop()));
  }

  #info(server: RedisServer): Promise<string> {
    return this.commands(server).info('replication');
  }

  async #primaryPort(sentinel: RedisServer): Promise<number> {
    const reply = await this.commands(sentinel).call('SENTINEL', ['GET-MASTER-ADDR-BY-NAME', NAME]);
    return Number((reply as string[])[1]);
  }

  async #knowsAll(sentinel: RedisServer): Promise<boolean> {
    const ask = (what: string) =>
      this.commands(sentinel).call('SENTINEL', [what, NAME]) as Promise<unknown> as Promise<unknown[]>;
    const flagsOf = (instance: unknown) => {
      const words = instance as string[];
      return words[words.indexOf('flags') + 1];
    };
    const [primary, replicas, sentinels] = await Promise.all([ask('MASTER'), ask('REPLICAS'), ask('SENTINELS')]);
    return (
      flagsOf(primary) === 'master' &&
      replicas.length === REPLICAS &&
      replicas.every((replica) => flagsOf(replica) === 'slave') &&
      sentinels.length === SENTINELS - 1 &&
      sentinels.every((other) => flagsOf(other) === 'sentinel')
    );
  }
}

async function poll<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await pause();
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}
