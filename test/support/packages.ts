/**
 * Which ioredis and BullMQ the tests run on: the newest, or version 5 of them by `TEST_IOREDIS=5` and `TEST_BULLMQ=5`,
 * under which whatever the tests, the library and the tests' worker processes import by the plain name is that version.
 */

/** The package that is taken for another, by the plain name. */
const TAKEN: Readonly<Record<string, string>> = {
  ...(process.env.TEST_IOREDIS === '5' && { ioredis: 'ioredis5' }),
  ...(process.env.TEST_BULLMQ === '5' && { bullmq: 'bullmq5' }),
};

/** For Vite. */
export const ALIASES = Object.entries(TAKEN).map(([name, replacement]) => ({
  find: new RegExp(`^${name}$`),
  replacement,
}));

/** Node options for a process that runs TypeScript, and takes the same packages. What packages import themselves stays. */
export const WORKER_OPTIONS: readonly string[] = ['--import', 'tsx', ...takenByNode()];

function takenByNode(): string[] {
  if (ALIASES.length === 0) return [];
  const resolve = `export const resolve = (name, context, next) =>
    next(context.parentURL?.includes('/node_modules/') ? name : (${JSON.stringify(TAKEN)}[name] ?? name), context);`;
  const register = `import { register } from 'node:module'; register(${JSON.stringify(moduleOf(resolve))});`;
  return ['--import', moduleOf(register)];
}

function moduleOf(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`;
}
