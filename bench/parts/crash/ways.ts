/** What a worker does that is going to be killed: each contender's call, with an effect in Redis that can be counted. */
import { Redis } from 'ioredis';
import { seenOf } from '../../cases/seen.js';
import type { Opening } from '../../contenders/contender.js';
import { CRASHING } from '../../contenders/index.js';
import { openDedup } from '../../contenders/redis-once.js';

export type Point = 'before the work' | 'after the work';

/** Tells that the point is reached; in the worker that is to die there, it never resolves. */
type Reach = (point: Point) => Promise<void>;

/** One worker's or survivor's side of a way. */
interface Side {
  attempt(key: string, reach: Reach): Promise<unknown>;
  isBusy(error: unknown): boolean;
  close(): Promise<unknown>;
}

export interface Way {
  readonly name: string;
  /** Where it can be killed. */
  readonly points: readonly Point[];
  open(opening: Opening): Promise<Side>;
}

const BOTH: readonly Point[] = ['before the work', 'after the work'];

export function effectsOf(key: string): string {
  return `effects-${key}`;
}

/** Work whose effect lies outside of what the contender records: a count on a connection of its own. */
const withEffectOutside: Way[] = CRASHING.map(({ name, open }) => ({
  name,
  points: BOTH,
  async open(opening) {
    const contender = await open(opening);
    const redis = new Redis(opening.url);
    return {
      attempt: (key, reach) =>
        contender.call(key, async () => {
          await reach('before the work');
          await redis.incr(effectsOf(key));
          await reach('after the work');
          return 'done';
        }),
      isBusy: contender.isBusy,
      close: async () => {
        redis.disconnect();
        await contender.close();
      },
    };
  },
}));

const onTx: Way = {
  name: 'redis-once, writes on tx',
  points: BOTH,
  async open(opening) {
    const { dedup, close } = await openDedup(opening);
    return {
      attempt: (key, reach) =>
        dedup.once(key, async ({ tx }) => {
          await reach('before the work');
          tx.incr(effectsOf(key));
          await reach('after the work');
          return 'done';
        }),
      isBusy: () => false,
      close,
    };
  },
};

/** There is nothing between its work and its record: it is killed when it has sent them. */
const byApply: Way = {
  name: 'redis-once, apply()',
  points: ['after the work'],
  async open(opening) {
    const { dedup, close } = await openDedup(opening);
    return {
      attempt: async (key, reach) => {
        const applied = dedup.apply(key, (tx) => tx.incr(effectsOf(key)));
        await reach('after the work');
        return applied;
      },
      isBusy: () => false,
      close,
    };
  },
};

/** Marks first, works then: for those who rather lose than repeat. Nothing where the library has no sets. */
const bySeenSet: Way = {
  name: 'redis-once, SeenSet',
  points: BOTH,
  async open(opening) {
    const { dedup, close } = await openDedup(opening);
    const redis = new Redis(opening.url);
    return {
      attempt: async (key, reach) => {
        if (!(await seenOf(dedup, 'events')?.add(key))) return;
        await reach('before the work');
        await redis.incr(effectsOf(key));
        await reach('after the work');
      },
      isBusy: () => false,
      close: async () => {
        redis.disconnect();
        await close();
      },
    };
  },
};

/** @param hasSeenSet whether the library has sets of seen ids */
export function waysOf(hasSeenSet: boolean): Way[] {
  const [once, ...others] = withEffectOutside as [Way, ...Way[]];
  return [once, onTx, byApply, ...(hasSeenSet ? [bySeenSet] : []), ...others];
}
