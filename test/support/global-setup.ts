/** One plain Redis for the whole run. */
import type { TestProject } from 'vitest/node';
import { plainRedis } from './redis/index.js';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const redis = await plainRedis();
  project.provide('redisUrl', redis.url);
  return redis.stop;
}

declare module 'vitest' {
  interface ProvidedContext {
    redisUrl: string;
  }
}
