/**
 * Random ids over random time, by the scripts themselves under a clock that the test holds: TIME is replaced in their
 * text. The clock stands in a far future, so that no key expires by the server's own; what would have is removed.
 */
import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { SeenLayout, type SeenTerms } from '../../src/seen/layout.js';
import { connect } from '../support/index.js';
import { chooseSeed, seededRandom } from '../support/random.js';

const HISTORIES = Number(process.env.TEST_HISTORIES ?? 100);
const STEPS = 60;
const FAR_FUTURE_MS = 4_102_444_800_000;

class World {
  readonly layout: SeenLayout;
  readonly #ids: string[];

  constructor(
    readonly redis: Redis,
    readonly terms: SeenTerms,
    ids: readonly string[],
  ) {
    this.layout = new SeenLayout('once', randomUUID(), undefined, terms);
    this.#ids = [...ids];
  }

  async tell(task: 'add' | 'has', id: string, nowMs: number): Promise<boolean> {
    const { keys, bucketMs, digest } = this.layout.markOf(id);
    const time = `{ ${Math.floor(nowMs / 1_000)}, ${(nowMs % 1_000) * 1_000} }`;
    const source = SCRIPTS.seen.source.replace('redis.call("TIME")', time);
    expect(source).not.toBe(SCRIPTS.seen.source);
    const args = [task, bucketMs, 1, '1'.repeat(keys.length - 1), digest];
    const [[status, letters]] = (await this.redis.eval(source, keys.length, ...keys, ...args)) as [[string, string]];
    expect(status).toBe('told');
    return letters === '1';
  }

  /** What the server would do by itself at that time. */
  async expire(nowMs: number): Promise<void> {
    for (const key of new Set(this.#ids.flatMap((id) => this.layout.markOf(id).keys))) {
      const at = await this.redis.pexpiretime(key);
      expect(at).not.toBe(-1);
      if (at >= 0 && at < nowMs) await this.redis.unlink(key);
    }
  }
}

describe.each(['goes on', 'goes on and jumps back'])('while the clock %s', (how) => {
  test(`an id is known for the window and at most one bucket more (${HISTORIES} histories)`, {
    timeout: 1_000 * HISTORIES,
  }, async () => {
    const seed = chooseSeed();
    console.log(`seed ${seed}`);
    const random = seededRandom(seed);
    const below = (most: number) => Math.floor(random() * most);
    const redis = connect();
    for (let history = 0; history < HISTORIES; history += 1) {
      const buckets = 1 + below(5);
      const windowMs = 1_000 + below(5_000);
      const ids = Array.from({ length: 6 }, (_, at) => `id-${at}`);
      const world = new World(redis, { windowMs, buckets, capacity: 1 + below(1_000) }, ids);
      const { bucketMs, longestLifeMs } = world.layout;
      /** When it was marked, and the latest time since. */
      const marks = new Map<string, { at: number; latest: number }>();
      let now = FAR_FUTURE_MS + below(100_000);
      for (let step = 0; step < STEPS; step += 1) {
        const jump = random();
        if (how === 'goes on and jumps back' && jump < 0.1) now -= below(3 * longestLifeMs);
        else if (jump < 0.3) now += below(Math.ceil(1.2 * longestLifeMs));
        // On the very edge of a bucket.
        else if (jump < 0.5) now = Math.ceil(now / bucketMs) * bucketMs - below(2);
        else now += below(bucketMs);
        for (const mark of marks.values()) mark.latest = Math.max(mark.latest, now);
        await world.expire(now);
        const id = ids[below(ids.length)] as string;
        const task = random() < 0.7 ? 'add' : 'has';
        const seen = await world.tell(task, id, now);
        const mark = marks.get(id);
        const told = `history ${history}, step ${step}: ${task} ${id} at ${now}, ${JSON.stringify({ mark, windowMs, buckets })}`;
        if (!mark) expect(seen, told).toBe(false);
        else if (mark.latest < mark.at + windowMs) expect(seen, told).toBe(true);
        else if (how === 'goes on') {
          const bucketEndsAt = (Math.floor(mark.at / bucketMs) + buckets + 1) * bucketMs;
          expect(bucketEndsAt - mark.at, told).toBeLessThanOrEqual(windowMs + bucketMs + buckets);
          expect(seen, told).toBe(now <= bucketEndsAt);
        }
        if (!seen && task === 'add') marks.set(id, { at: now, latest: now });
        if (!seen && task === 'has') marks.delete(id);
      }
    }
  });
});
