/** One plain Redis for the whole run; and the scripts, where nobody has built them yet. */
import { existsSync, writeFileSync } from 'node:fs';
import type { TestProject } from 'vitest/node';
import { bundleLua, renderScripts } from '../../scripts/lua-bundle.js';
import { plainRedis } from './redis/index.js';

const SCRIPTS = 'src/redis/scripts.generated.ts';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // As it stands, where it is there: mutants are.
  if (!existsSync(SCRIPTS)) writeFileSync(SCRIPTS, renderScripts(bundleLua('lua')));
  const redis = await plainRedis();
  project.provide('redisUrl', redis.url);
  return redis.stop;
}

declare module 'vitest' {
  interface ProvidedContext {
    redisUrl: string;
  }
}
