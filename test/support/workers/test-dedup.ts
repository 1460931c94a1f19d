/** Makes a test Dedup on whatever Redis there is, tells of it, and ends as it is told: by itself, or by being killed. */
import { crashBeforeCommit, createTestDedup } from '../../../src/testing/index.js';

const { closes } = JSON.parse(process.argv[2] as string) as { closes: boolean };
try {
  const { dedup, url, close, redis } = await createTestDedup();
  const value = await dedup.once('k', ({ tx }) => {
    tx.incr('n');
    return 'value';
  });
  // Nor must what a process held that was let die.
  await crashBeforeCommit(dedup.with({ lease: '1h' }), 'crashed', () => 1);
  const [, folder] = (await redis.config('GET', 'dir')) as [string, string];
  process.send?.({ url, value, folder });
  await new Promise((resolve) => process.once('message', resolve));
  if (closes) await close();
  else redis.disconnect();
} catch (error) {
  process.send?.({ error: String(error) });
}
// Nothing is ended by hand: the server that was started must not hold this process.
process.disconnect();
