/** A process that makes one call, and waits to be killed where it is told to. */
import { type Point, waysOf } from './ways.js';

export interface WorkerArgs {
  readonly way: string;
  readonly point: Point;
  readonly url: string;
  readonly holdMs: number;
  readonly key: string;
}

const { way: name, point, url, holdMs, key } = JSON.parse(process.argv[2] as string) as WorkerArgs;
const way = waysOf(true).find((one) => one.name === name);
if (!way) throw new Error(`There is no way ${name}.`);
const side = await way.open({ url, holdMs });
await side.attempt(key, async (reached) => {
  if (reached !== point) return;
  process.send?.(reached);
  await new Promise<never>(() => {});
});
