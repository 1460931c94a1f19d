/** Runs some calls, one of which waits for a holder of another connection, then ends what it is told to and nothing else. */
import { Redis } from 'ioredis';
import { Dedup } from '../../../src/index.js';

const { url, namespace, closes } = JSON.parse(process.argv[2] as string) as {
  url: string;
  namespace: string;
  /** Its Dedups before its connections; else its connections alone. */
  closes: boolean;
};
const [redis, holder] = [new Redis(url), new Redis(url)];
const [dedup, other] = [redis, holder].map((connection) => new Dedup(connection, { namespace })) as [Dedup, Dedup];

let release!: (value: string) => void;
const hold = new Promise<string>((resolve) => {
  release = resolve;
});
let held!: Promise<string>;
await new Promise<void>((started) => {
  held = other.once('contended', () => {
    started();
    return hold;
  });
});
const waiting = dedup.once('contended', () => 'mine');
const plain = await dedup.once('plain', () => 1);
// The waiter has opened its subscriber when the server knows of one: that is what must not keep the process alive.
while ((await redis.pubsub('NUMSUB', `${namespace}::hints`))[1] === 0)
  await new Promise((resolve) => setTimeout(resolve, 2));
release('held');
const values = [...(await Promise.all([held, waiting])), plain];
if (closes) await Promise.all([dedup.close(), other.close()]);
await Promise.all([redis.quit(), holder.quit()]);
process.send?.(values);
process.disconnect();
