/** A Redis Cluster of our own: primaries that share the slots, without replicas. */
import { Redis } from 'ioredis';
import { freePort, type RedisServer } from '../../../src/testing/server.js';
import { startRedis } from './index.js';

const SLOTS = 16_384;
const NODES = 3;

export interface RedisCluster {
  readonly nodes: { host: string; port: number }[];
  stop(): Promise<void>;
}

export async function startCluster(): Promise<RedisCluster> {
  const servers: RedisServer[] = [];
  const admins: Redis[] = [];
  try {
    for (let count = 0; count < NODES; count += 1) servers.push(await startNode());
    for (const { url } of servers) admins.push(new Redis(url));
    await Promise.all(
      admins.map(async (admin, index) => {
        const first = Math.ceil((SLOTS * index) / NODES);
        const next = Math.ceil((SLOTS * (index + 1)) / NODES);
        await admin.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
        await admin.cluster('ADDSLOTS', ...Array.from({ length: next - first }, (_, at) => first + at));
      }),
    );
    const [first] = admins as [Redis, ...Redis[]];
    for (const [index, { port }] of servers.entries()) {
      if (index > 0) await first.call('CLUSTER', 'MEET', '127.0.0.1', String(port), String(busPorts.get(port)));
    }
    for (const admin of admins) {
      while (!/cluster_state:ok[\s\S]*cluster_known_nodes:3/.test(String(await admin.call('CLUSTER', 'INFO')))) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  } catch (error) {
    await Promise.all(servers.map((server) => server.stop()));
    throw error;
  } finally {
    for (const admin of admins) admin.disconnect();
  }
  return {
    nodes: servers.map(({ port }) => ({ host: '127.0.0.1', port })),
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
    },
  };
}

const busPorts = new Map<number, number>();

/** Its bus is on a port of its own: the usual one, 10,000 further, may be none. */
async function startNode(): Promise<RedisServer> {
  const bus = await freePort();
  const args = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-announce-ip', '127.0.0.1'];
  const server = await startRedis([...args, '--cluster-node-timeout', '2000']);
  busPorts.set(server.port, bus);
  return server;
}
