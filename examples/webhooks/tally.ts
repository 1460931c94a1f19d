/** What the handler does: it counts events and bytes by repository and writes a ledger. And what that has to come to. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Redis } from 'ioredis';
import type { Webhook } from './feed.js';

/** What a handler writes to: `tx`, or a connection, which takes the same calls. */
export interface Writer {
  hincrby(key: string, field: string, increment: number): unknown;
  xadd(key: string, id: '*', field: string, value: string): unknown;
}

export interface Sums {
  readonly events: ReadonlyMap<string, number>;
  readonly bytes: ReadonlyMap<string, number>;
  /** How many entries the ledger has of each webhook. */
  readonly ledger: ReadonlyMap<string, number>;
}

/** The handler: a write, a few milliseconds of work, and two more writes. */
export async function handle(webhook: Webhook, to: Writer, prefix: string): Promise<void> {
  const { repository, bytes } = amountsOf(webhook);
  await to.hincrby(`${prefix}:events`, repository, 1);
  await sleep(5 + Math.random() * 10);
  await to.hincrby(`${prefix}:bytes`, repository, bytes);
  await to.xadd(`${prefix}:ledger`, '*', 'webhook', webhook.id);
}

/** Of a feed whose every webhook is handled once. */
export function expectedSums(feed: readonly Webhook[]): Sums {
  const webhooks = [...new Set(feed)];
  const amounts = webhooks.map(amountsOf);
  return {
    events: sumUp(amounts.map(({ repository }) => [repository, 1])),
    bytes: sumUp(amounts.map(({ repository, bytes }) => [repository, bytes])),
    ledger: sumUp(webhooks.map(({ id }) => [id, 1])),
  };
}

export async function readSums(redis: Redis, prefix: string): Promise<Sums> {
  const entries = await redis.xrange(`${prefix}:ledger`, '-', '+');
  return {
    events: numbers(await redis.hgetall(`${prefix}:events`)),
    bytes: numbers(await redis.hgetall(`${prefix}:bytes`)),
    ledger: sumUp(entries.map(([, [, id]]) => [String(id), 1])),
  };
}

/** To the last repository and the last entry of the ledger. */
export function areExact(sums: Sums, expected: Sums): boolean {
  return isDeepStrictEqual(sums, expected);
}

export function total(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

function amountsOf({ payload }: Webhook): { repository: string; bytes: number } {
  return { repository: payload.repository?.full_name ?? '(none)', bytes: Buffer.byteLength(JSON.stringify(payload)) };
}

function sumUp(amounts: readonly [name: string, amount: number][]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const [name, amount] of amounts) sums.set(name, (sums.get(name) ?? 0) + amount);
  return sums;
}

function numbers(hash: Record<string, string>): Map<string, number> {
  return new Map(Object.entries(hash).map(([field, count]) => [field, Number(count)]));
}
