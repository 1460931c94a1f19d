/** Which servers, Nodes and clients are run together. */
import { readdirSync } from 'node:fs';
import { SERVER_VERSIONS, type ServerVersion } from '../../test/support/redis/versions.js';

type Client = '5' | '6';

/** One whole run of the suites. */
export interface Cell {
  /** One that test/support has, or the name of an image. */
  readonly server: string;
  /** Its major version. */
  readonly node: string;
  readonly ioredis: Client;
  readonly bullmq: Client;
}

/** What was asked for; all of a kind where nothing was. */
export interface Asked {
  readonly server?: readonly string[] | undefined;
  readonly node?: readonly string[] | undefined;
  readonly ioredis?: readonly string[] | undefined;
  readonly bullmq?: readonly string[] | undefined;
}

/** What all else is compared with: the oldest server, the newest clients. */
const BASE = { server: 'redis-7.0', ioredis: '6', bullmq: '6' } as const satisfies Omit<Cell, 'node'>;
const CLIENTS: readonly Client[] = ['6', '5'];

/**
 * With nothing asked for, one kind at a time: each server, each Node, each version of a client, the rest being the base.
 * Else each of what was asked for with each, and the base for what was not.
 *
 * @param nodes major versions, that of this process first
 * @throws Error that names the versions of a client that there are
 */
export function cellsOf(asked: Asked, nodes: readonly string[]): Cell[] {
  const base = { ...BASE, node: nodes[0] as string };
  const kinds = {
    server: asked.server ?? [base.server],
    node: asked.node ?? [base.node],
    ioredis: (asked.ioredis ?? [base.ioredis]).map(clientNamed),
    bullmq: (asked.bullmq ?? [base.bullmq]).map(clientNamed),
  };
  if (Object.values(asked).some((names) => names !== undefined)) {
    return kinds.server.flatMap((server) =>
      kinds.node.flatMap((node) =>
        kinds.ioredis.flatMap((ioredis) => kinds.bullmq.map((bullmq) => ({ server, node, ioredis, bullmq }))),
      ),
    );
  }
  const cells: Cell[] = [
    base,
    ...SERVER_VERSIONS.map((server) => ({ ...base, server })),
    ...nodes.map((node) => ({ ...base, node })),
    ...CLIENTS.map((ioredis) => ({ ...base, ioredis })),
    ...CLIENTS.map((bullmq) => ({ ...base, bullmq })),
  ];
  return cells.filter((cell, index) => cells.findIndex((other) => nameOf(other) === nameOf(cell)) === index);
}

function clientNamed(name: string): Client {
  const client = CLIENTS.find((known) => known === name);
  if (!client) throw new Error(`Expected version 5 or 6 of ioredis and BullMQ, got ${name}.`);
  return client;
}

export function nameOf({ server, node, ioredis, bullmq }: Cell): string {
  return `${server}, Node ${node}, ioredis ${ioredis}, BullMQ ${bullmq}`;
}

/** Does test/support provide it? Else it is an image. */
export function isProvided(server: string): server is ServerVersion {
  return (SERVER_VERSIONS as readonly string[]).includes(server);
}

/** The folders of test/ that have tests to run. Types are those of TypeScript, not of a server. */
export const SUITES: readonly string[] = [
  ...new Set(
    readdirSync(new URL('../../test', import.meta.url), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.test.ts'))
      .map((file) => file.split(/[/\\]/)[0] as string),
  ),
].sort();

/** Those of the package pack, install and compile it, those of the docs build the site: no server or client of ours changes them. */
const OF_NO_SERVER = ['package', 'docs'];

export function suitesOf({ server, ioredis, bullmq }: Cell): readonly string[] {
  const isBase = server === BASE.server && ioredis === BASE.ioredis && bullmq === BASE.bullmq;
  return SUITES.filter((suite) => isBase || !OF_NO_SERVER.includes(suite));
}
