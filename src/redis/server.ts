/** Is the server fit to remember? A record that is evicted is an effect that happens twice. */
import type { Connection } from './connection.js';

/** What INFO tells of eviction; `policy` null where it could not be read. */
export interface EvictionReport {
  readonly evicts: boolean;
  readonly policy: string | null;
}

interface ClusterNodes {
  nodes(role: 'master'): { info(...sections: string[]): Promise<string> }[];
}

const reports = new WeakMap<Connection, { epoch: number; report: Promise<EvictionReport> }>();

/**
 * Asks once per connection and again after a reconnect. INFO, since CONFIG is often denied.
 *
 * @throws ExchangeError when Redis is not reached
 */
export function evictionReport(connection: Connection, deadline: number): Promise<EvictionReport> {
  const known = reports.get(connection);
  if (known?.epoch === connection.epoch) return known.report;
  const report = read(connection, deadline);
  reports.set(connection, { epoch: connection.epoch, report });
  // Only a good report is kept: a policy may be set right while the connection stands.
  report.then(
    ({ evicts }) => evicts && reports.delete(connection),
    () => reports.delete(connection),
  );
  return report;
}

async function read(connection: Connection, deadline: number): Promise<EvictionReport> {
  const infos = await masters(connection, deadline, ['memory']);
  const nodes = infos.map(parseMemoryInfo);
  return (
    nodes.find((node) => node.evicts) ?? nodes.find((node) => node.policy === null) ?? (nodes[0] as EvictionReport)
  );
}

/**
 * INFO of every primary; empty texts where the user may not ask.
 *
 * @param sections such as `['memory']`; all of them where there are none
 * @throws ExchangeError when Redis is not reached
 */
export async function masters(connection: Connection, deadline: number, sections: string[]): Promise<string[]> {
  try {
    // A cluster that is ready knows its nodes; the first command makes sure that it is.
    const info = String(await connection.command('info', sections, deadline));
    if (!connection.isCluster) return [info];
    const nodes = (connection.redis as unknown as ClusterNodes).nodes('master');
    return await Promise.all(nodes.map((node) => connection.within(node.info(...sections), deadline)));
  } catch (error) {
    if ((error as { code?: string | null }).code === 'NOPERM') return [''];
    throw error;
  }
}

function parseMemoryInfo(info: string): EvictionReport {
  const maxmemory = /^maxmemory:(\d+)/m.exec(info)?.[1];
  const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1];
  if (maxmemory === undefined || policy === undefined) return { evicts: false, policy: null };
  return { evicts: maxmemory !== '0' && policy !== 'noeviction', policy };
}
