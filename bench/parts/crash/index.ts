/**
 * What becomes of a key whose worker is killed (SIGKILL) with the work before it, or behind it and not yet recorded. The
 * next caller comes at once, and comes again as long as it is refused.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { seenOf } from '../../cases/seen.js';
import { openDedup } from '../../contenders/redis-once.js';
import type { Stage } from '../../measure/stage.js';
import type { CrashResult } from '../../report/results.js';
import { effectsOf, type Point, type Way, waysOf } from './ways.js';
import type { WorkerArgs } from './worker.js';

const KEY = 'order-1';
const RETRY_MS = 50;
/** Workers that start at once: each loads all contenders. */
const AT_ONCE = 4;

export interface CrashPace {
  /** Of claims and locks. */
  readonly holdMs: number;
  /** How long the next caller is watched. */
  readonly watchedMs: number;
}

export async function crash(stage: Stage, pace: CrashPace): Promise<CrashResult[]> {
  const cases = waysOf(await hasSeenSet(stage)).flatMap((way) => way.points.map((point) => ({ way, point })));
  const watches: Promise<CrashResult>[] = [];
  for (let at = 0; at < cases.length; at += AT_ONCE) {
    const killed = cases.slice(at, at + AT_ONCE).map(async ({ way, point }, index) => {
      const opening = { url: stage.urlOf(at + index), holdMs: pace.holdMs };
      await killWorker(way, point, opening);
      watches.push(watchNextCaller(stage, way, point, { ...pace, url: opening.url, database: at + index }));
    });
    await Promise.all(killed);
  }
  const results = await Promise.all(watches);
  const order = cases.map(({ way, point }) => `${way.name} ${point}`);
  return results.sort((a, b) => order.indexOf(`${a.name} ${a.killed}`) - order.indexOf(`${b.name} ${b.killed}`));
}

async function hasSeenSet(stage: Stage): Promise<boolean> {
  const { dedup, close } = await openDedup({ url: stage.urlOf(0), holdMs: 1_000 });
  const has = seenOf(dedup, 'events') !== undefined;
  await close();
  return has;
}

async function killWorker(way: Way, point: Point, { url, holdMs }: { url: string; holdMs: number }): Promise<void> {
  const args: WorkerArgs = { way: way.name, point, url, holdMs, key: KEY };
  const worker = fork(new URL('./worker.ts', import.meta.url), [JSON.stringify(args)], {
    execArgv: ['--import', 'tsx'],
  });
  const exited = once(worker, 'exit');
  const reached = await Promise.race([once(worker, 'message'), exited.then(() => undefined)]);
  if (!reached) throw new Error(`The worker of ${way.name} ended before it was ${point}.`);
  worker.kill('SIGKILL');
  await exited;
}

async function watchNextCaller(
  stage: Stage,
  way: Way,
  point: Point,
  { url, database, holdMs, watchedMs }: CrashPace & { url: string; database: number },
): Promise<CrashResult> {
  const killedAt = performance.now();
  const side = await way.open({ url, holdMs });
  let answeredMs: number | null = null;
  let refusals = 0;
  let over = false;
  const caller = async () => {
    while (!over && answeredMs === null) {
      try {
        await side.attempt(KEY, async () => {});
        answeredMs = performance.now() - killedAt;
      } catch (error) {
        if (over) return;
        if (!side.isBusy(error)) throw error;
        refusals += 1;
        await wait(RETRY_MS);
      }
    }
  };
  await Promise.race([caller(), wait(watchedMs)]);
  over = true;
  const { effects, standsMs } = await look(stage, database);
  const result = { name: way.name, killed: point, effects, answeredMs, refusals };
  await side.close();
  return {
    ...result,
    answeredMs: answeredMs && Math.round(answeredMs),
    standsMs: answeredMs === null ? standsMs : null,
  };
}

/** In one step: other watches use the connection as well. */
async function look(stage: Stage, database: number): Promise<{ effects: number; standsMs: number | null }> {
  const redis = stage.admin.duplicate({ db: database });
  try {
    const effects = Number(await redis.get(effectsOf(KEY)));
    const keys = (await redis.keys('*')).filter((key) => key !== effectsOf(KEY));
    const left = await Promise.all(keys.map((key) => redis.pttl(key)));
    return { effects, standsMs: left.length > 0 && !left.includes(-1) ? Math.max(...left) : null };
  } finally {
    redis.disconnect();
    await stage.flush(database);
  }
}
