/**
 * Many callers of one key, over some Dedups, each with connections of its own. Says when all have called, that one of them runs
 * the handler, which then waits to be told to go on, and when each has an answer, which.
 */
import { createHash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Redis } from 'ioredis';
import { Dedup, type DedupOptions } from '../../../src/index.js';

export interface CrowdArgs {
  readonly url: string;
  readonly namespace: string;
  readonly dedups: number;
  readonly callers: number;
  readonly options: Pick<DedupOptions, 'hints' | 'lease' | 'waitTimeout' | 'redisTimeout'>;
}

export type CrowdMessage =
  | { readonly is: 'ready' }
  | { readonly is: 'called'; readonly heapBytes: number }
  | { readonly is: 'running'; readonly attempt: number }
  | { readonly is: 'settled'; readonly told: Record<string, number>; readonly digests: string[]; readonly ms: number };

const { url, namespace, dedups, callers, options } = JSON.parse(process.argv[2] as string) as CrowdArgs;
const tell = (message: CrowdMessage) => process.send?.(message);

setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc') as () => void;
const heapBytes = () => {
  collect();
  return process.memoryUsage().heapUsed;
};

/** Each caller is given what is stored, as a digest of its very bytes. */
const codec = {
  encode: (value: unknown) => JSON.stringify(value),
  decode: (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex'),
};
const redises = Array.from({ length: dedups }, () => new Redis(url));
const made = redises.map((redis) => new Dedup(redis, { namespace, codec, ...options }));
await Promise.all(redises.map((redis) => redis.ping()));

let goOn!: () => void;
const told = new Promise<void>((resolve) => {
  goOn = resolve;
});
async function callAll(): Promise<void> {
  const before = heapBytes();
  const startedAt = performance.now();
  const calls = Array.from({ length: callers }, (_, at) =>
    (made[at % dedups] as (typeof made)[0]).run('k', async ({ attempt }) => {
      tell({ is: 'running', attempt });
      await told;
      return { by: process.pid, attempt, text: 'x'.repeat(5_000) };
    }),
  );
  const settled = Promise.allSettled(calls);
  await new Promise((resolve) => setImmediate(resolve));
  tell({ is: 'called', heapBytes: heapBytes() - before });
  const counts: Record<string, number> = {};
  const digests = new Set<string>();
  for (const one of await settled) {
    const word = one.status === 'fulfilled' ? one.value.status : String((one.reason as { code?: string }).code);
    counts[word] = (counts[word] ?? 0) + 1;
    if (one.status === 'fulfilled') digests.add(String(one.value.value));
  }
  tell({ is: 'settled', told: counts, digests: [...digests], ms: performance.now() - startedAt });
}

process.on('message', async (message: { call?: true; goOn?: true; end?: true }) => {
  if (message.call) await callAll();
  if (message.goOn) goOn();
  if (message.end) {
    await Promise.all(made.map((dedup) => dedup.close()));
    for (const redis of redises) redis.disconnect();
    process.disconnect();
  }
});
tell({ is: 'ready' });
