/** Raises one number by read, compare and write, under many dedup keys at once, when told to. */
import { Redis } from 'ioredis';
import { Dedup, type Outcome } from '../../../src/index.js';

const { url, namespace, data, keys, conflictRetries } = JSON.parse(process.argv[2] as string) as {
  url: string;
  namespace: string;
  data: string;
  keys: string[];
  conflictRetries: number;
};
export type Raised = Outcome<{ readonly to: number }> & { readonly runs: number };

const redis = new Redis(url);
const dedup = new Dedup(redis, { namespace, maxAttempts: 3, conflictRetries });

process.once('message', async () => {
  const calls = keys.map(async (key): Promise<Raised> => {
    let runs = 0;
    const outcome = await dedup.run(key, async ({ tx }) => {
      runs += 1;
      const old = await redis.get(data);
      const to = Number(old) + 1;
      tx.require.equals(data, String(old)).set(data, to);
      return { to };
    });
    return { ...outcome, runs };
  });
  process.send?.(await Promise.all(calls));
  redis.disconnect();
  process.disconnect();
});
await redis.ping();
process.send?.('ready');
