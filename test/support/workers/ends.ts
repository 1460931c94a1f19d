/** Runs some calls, one of which waits for a holder of another connection, then ends its own connection and nothing else. */
import { Redis } from 'ioredis';
import { Dedup } from '../../../src/index.js';

const { url, namespace } = JSON.parse(process.argv[2] as string) as { url: string; namespace: string };
const redis = new Redis(url);
const holder = new Redis(url);
const dedup = new Dedup(redis, { namespace });
const other = new Dedup(holder, { namespace });

const held = other.once('contended', () => new Promise((resolve) => setTimeout(resolve, 200, 'held')));
await new Promise((resolve) => setTimeout(resolve, 50));
const values = await Promise.all([held, dedup.once('contended', () => 'mine'), dedup.once('plain', () => 1)]);
await Promise.all([redis.quit(), holder.quit()]);
process.send?.(values);
process.disconnect();
