/** A Redis Cluster of our own: three primaries that share the slots, each with as many replicas as are asked for. */
import { Redis } from 'ioredis';
import { freePort, type RedisServer } from '../../../src/testing/server.js';
import { until } from '../index.js';
import { startRedis } from './index.js';
import type { ServerVersion } from './versions.js';

const SLOTS = 16_384;
const PRIMARIES = 3;

/** One server of it. */
export interface ClusterNode extends RedisServer {
  /** As the cluster knows it, whatever becomes of it. */
  readonly id: string;
  /** A connection of the test's own, which comes back when the server does. */
  readonly admin: Redis;
  readonly isRunning: boolean;
}

export interface RedisCluster {
  /** What clients are told. */
  readonly nodes: { host: string; port: number }[];
  readonly servers: readonly ClusterNode[];
  /** The primary that has the slot now. */
  ownerOf(slot: number): Promise<ClusterNode>;
  /** A replica of the primary. */
  replicaOf(primary: ClusterNode): Promise<ClusterNode>;
  /** The primaries of now, of those that run. */
  primaries(): Promise<ClusterNode[]>;
  /** When there are three primaries, all servers that run say that all is well, and replicas have their primary's data. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

interface ClusterOptions {
  /** Of each primary. */
  readonly replicas?: number;
  /** How long a server may be silent before the others call it dead. */
  readonly nodeTimeoutMs?: number;
  /** Besides, as on the servers' command line. */
  readonly args?: readonly string[];
  /** Of that version, whatever else is there. */
  readonly version?: ServerVersion;
}

export async function startCluster(options: ClusterOptions = {}): Promise<RedisCluster> {
  const servers: ClusterNode[] = [];
  const buses: number[] = [];
  const stop = async () => {
    for (const { admin } of servers) admin.disconnect();
    await Promise.all(servers.map((server) => server.stop()));
  };
  try {
    const count = PRIMARIES * (1 + (options.replicas ?? 0));
    await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const { server, bus } = await startNode(options);
        servers[index] = await withAdmin(server);
        buses[index] = bus;
      }),
    );
    await Promise.all(
      servers.slice(0, PRIMARIES).map(async ({ admin }, index) => {
        const first = Math.ceil((SLOTS * index) / PRIMARIES);
        const next = Math.ceil((SLOTS * (index + 1)) / PRIMARIES);
        await admin.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
        await admin.cluster('ADDSLOTS', ...Array.from({ length: next - first }, (_, at) => first + at));
      }),
    );
    const [{ admin: first }] = servers as [ClusterNode];
    for (const [index, { port }] of servers.entries()) {
      if (index > 0) await first.call('CLUSTER', 'MEET', '127.0.0.1', String(port), String(buses[index]));
    }
    for (const { admin } of servers) await until(async () => (await knownTo(admin)).length === count);
    for (const [index, { admin }] of servers.entries()) {
      const { id } = servers[index % PRIMARIES] as ClusterNode;
      if (index >= PRIMARIES) await admin.call('CLUSTER', 'REPLICATE', id);
    }
    const cluster = clusterOf(servers, stop);
    await cluster.settled();
    return cluster;
  } catch (error) {
    await stop();
    throw error;
  }
}

function clusterOf(servers: readonly ClusterNode[], stop: () => Promise<void>): RedisCluster {
  const running = () => servers.filter(({ isRunning }) => isRunning);
  /** Of each server that runs, what it says of itself: CLUSTER NODES, its own line. */
  const told = () =>
    Promise.all(
      running().map(async (server) => {
        const lines = await knownTo(server.admin);
        return { server, line: lines.find(([, , flags]) => flags?.startsWith('myself')) as string[] };
      }),
    );
  const primariesTold = async () => (await told()).filter(({ line }) => line[2] === 'myself,master');
  const primaries = async () => {
    return (await primariesTold()).filter(({ line }) => slotsOf(line).length > 0).map(({ server }) => server);
  };
  const isWell = async ({ admin }: ClusterNode) => {
    if (!String(await admin.call('CLUSTER', 'INFO')).includes('cluster_state:ok')) return false;
    return /role:master|master_link_status:up/.test(await admin.info('replication'));
  };
  return {
    nodes: servers.map(({ port }) => ({ host: '127.0.0.1', port })),
    servers,
    primaries,
    ownerOf: async (slot) => {
      const owners = (await primariesTold()).filter(({ line }) =>
        slotsOf(line).some(([first, last]) => first <= slot && slot <= last),
      );
      // Of two that claim it the newer one has the higher epoch.
      const [owner] = owners.sort((a, b) => Number(b.line[6]) - Number(a.line[6]));
      if (!owner) throw new Error(`No server has slot ${slot}`);
      return owner.server;
    },
    replicaOf: async ({ id }) => {
      const replica = (await told()).find(({ line }) => line[3] === id);
      if (!replica) throw new Error(`No server is a replica of ${id}`);
      return replica.server;
    },
    settled: async () => {
      // One that came back takes itself for a primary until it has heard of its successor.
      await until(async () => (await primaries()).length === PRIMARIES);
      for (const server of running()) await until(() => isWell(server));
    },
    stop,
  };
}

/** The lines of CLUSTER NODES, each in its words; of servers whose handshake is over. */
async function knownTo(admin: Redis): Promise<string[][]> {
  const lines = String(await admin.call('CLUSTER', 'NODES'))
    .trim()
    .split('\n');
  return lines.map((line) => line.split(' ')).filter(([, , flags]) => !flags?.includes('handshake'));
}

/** Without those that are being moved, which are told in brackets. */
function slotsOf(line: string[]): [number, number][] {
  return line.slice(8).flatMap((word): [number, number][] => {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(word) ?? [];
    return first === undefined ? [] : [[Number(first), Number(last)]];
  });
}

/** Its bus is on a port of its own: the usual one, 10,000 further, may be none. */
async function startNode({ nodeTimeoutMs = 2_000, args = [], version }: ClusterOptions) {
  const bus = await freePort();
  const server = await startRedis(
    [
      ...['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-announce-ip', '127.0.0.1'],
      // A replica is promoted however long ago it heard of its primary, and stays with the one that it was given.
      ...['--cluster-replica-validity-factor', '0', '--cluster-allow-replica-migration', 'no'],
      ...['--cluster-node-timeout', String(nodeTimeoutMs), '--repl-diskless-sync-delay', '0', ...args],
    ],
    version,
  );
  return { server, bus };
}

async function withAdmin(server: RedisServer): Promise<ClusterNode> {
  const admin = new Redis(server.url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
  admin.on('error', () => {});
  let isRunning = true;
  return {
    url: server.url,
    port: server.port,
    id: String(await admin.call('CLUSTER', 'MYID')),
    admin,
    get isRunning() {
      return isRunning;
    },
    kill: async () => {
      isRunning = false;
      await server.kill();
    },
    restart: async () => {
      await server.restart();
      isRunning = true;
    },
    freeze: () => server.freeze(),
    wake: () => server.wake(),
    stop: () => server.stop(),
  };
}
