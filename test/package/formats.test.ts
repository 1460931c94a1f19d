/** A Dedup of one module format, in an entry point of the other: two copies of the code meet. */
import { createRequire } from 'node:module';
import { Hono } from 'hono';
import { expect, test } from 'vitest';
import { connect, freshNamespace } from '../support/index.js';

const require = createRequire(import.meta.url);
const DIST = '../../dist';

const load = {
  import: (entry: string) => import(`${DIST}/${entry}.js`),
  require: async (entry: string) => require(`${DIST}/${entry}.cjs`),
};

test.each([
  ['import', 'require'],
  ['require', 'import'],
] as const)('a Dedup by %s, a middleware by %s: a throw is stored without its writes', async (one, other) => {
  const { Dedup } = (await load[one]('index')) as typeof import('../../src/index.js');
  const { idempotency } = (await load[other]('hono')) as typeof import('../../src/http/hono.js');
  const [redis, namespace] = [connect(), freshNamespace()];
  const data = `${namespace}-data`;
  const app = new Hono<{ Variables: import('../../src/http/hono.js').IdempotencyVariables }>();
  app.use(idempotency(new Dedup(redis, { namespace }), { scope: 'global', store: 'stripe' }));
  app.post('/', (c) => {
    c.get('idempotency')?.tx.incr(data);
    throw new Error('thrown');
  });
  app.onError((_, c) => c.text('thrown', 500));
  const ask = () => app.request('/', { method: 'POST', headers: { 'idempotency-key': 'k' } });
  const [first, copy] = [await ask(), await ask()];
  expect([first.status, copy.status, copy.headers.get('idempotent-replayed')]).toEqual([500, 500, 'true']);
  expect(await redis.exists(data)).toBe(0);
});
