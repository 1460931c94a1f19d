/** Floors of plain commands: the least that claiming and completing, or looking, costs with ioredis. */
import { Redis } from 'ioredis';
import { type ContenderType, RETENTION_MS } from './contender.js';

const UNDER_WAY = 'under way';
const BUSY = 'Another call is at work on the key.';

/** SET NX to claim, SET XX to complete. A copy finds the key and reads it. A dead claim holds for the whole retention. */
function setTwice(name: string, enableAutoPipelining: boolean): ContenderType {
  return {
    name,
    kind: 'floor',
    dedupes: 'at the same time',
    commands: ['set', 'get'],
    async open({ url }) {
      const redis = new Redis(url, { enableAutoPipelining });
      await redis.ping();
      return {
        async call(key, work) {
          if (!(await redis.set(`once:${key}`, UNDER_WAY, 'PX', RETENTION_MS, 'NX'))) {
            const earlier = await redis.get(`once:${key}`);
            if (earlier === null || earlier === UNDER_WAY) throw new Error(BUSY);
            return earlier;
          }
          const result = await work();
          await redis.set(`once:${key}`, result, 'PX', RETENTION_MS, 'XX');
          return result;
        },
        isBusy: (error) => (error as Error).message === BUSY,
        async close() {
          redis.disconnect();
        },
      };
    },
  };
}

/** GET, and only where there is nothing yet the work: the least that a duplicate can cost. */
function getOnly(name: string, enableAutoPipelining: boolean): ContenderType {
  return {
    name,
    kind: 'floor',
    dedupes: 'in sequence',
    commands: ['get'],
    async open({ url }) {
      const redis = new Redis(url, { enableAutoPipelining });
      await redis.ping();
      return {
        async call(key, work) {
          const earlier = await redis.get(`once:${key}`);
          if (earlier !== null) return earlier;
          const result = await work();
          await redis.set(`once:${key}`, result, 'PX', RETENTION_MS);
          return result;
        },
        isBusy: () => false,
        async close() {
          redis.disconnect();
        },
      };
    },
  };
}

export const setPlain = setTwice('SET NX + SET XX', false);
export const setPipelined = setTwice('SET NX + SET XX, auto-pipelined', true);
export const getPlain = getOnly('GET', false);
export const getPipelined = getOnly('GET, auto-pipelined', true);
