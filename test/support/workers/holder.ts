/** Holds a key until it is told otherwise; says what it does, so that the test can end it at every step of its life. */
import { Redis } from 'ioredis';
import { Dedup, type DedupOptions } from '../../../src/index.js';

const { url, namespace, options, blockMs, fails } = JSON.parse(process.argv[2] as string) as {
  url: string;
  namespace: string;
  options: DedupOptions;
  blockMs?: number;
  fails?: boolean;
};
const redis = new Redis(url);
const dedup = new Dedup(redis, { namespace, ...options });
const told = new Promise<void>((resolve) => process.once('message', () => resolve()));

try {
  const outcome = await dedup.run('k', async (context) => {
    const { attempt, fence } = context;
    process.send?.({ attempt, fence });
    if (blockMs !== undefined) {
      const end = performance.now() + blockMs;
      while (performance.now() < end);
      process.send?.({ abortedAtOnce: context.signal.aborted });
    }
    await told;
    process.send?.({ aborted: context.signal.aborted });
    if (fails) throw new Error('fails');
    return { by: 'holder', attempt };
  });
  process.send?.({ outcome });
} catch (error) {
  process.send?.({ code: (error as { code?: string }).code });
}
await dedup.close();
redis.disconnect();
process.disconnect();
