/** The floor of scripts: one that does nothing, once a call. */
import { Redis } from 'ioredis';
import type { ContenderType } from './contender.js';

function emptyScript(name: string, enableAutoPipelining: boolean): ContenderType {
  return {
    name,
    kind: 'floor',
    dedupes: 'nothing',
    commands: ['evalsha'],
    async open({ url }) {
      const redis = new Redis(url, { enableAutoPipelining });
      const sha1 = String(await redis.script('LOAD', 'return 0'));
      return {
        async call(key, work) {
          await redis.evalsha(sha1, 1, `once:${key}`);
          return work();
        },
        isBusy: () => false,
        async close() {
          redis.disconnect();
        },
      };
    },
  };
}

export const scriptPlain = emptyScript('empty EVALSHA', false);
export const scriptPipelined = emptyScript('empty EVALSHA, auto-pipelined', true);
