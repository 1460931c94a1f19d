/** A payment API on Hono 4. */
import { Hono } from 'hono';
import type { Dedup, OnceContext } from 'redis-once';
import { type IdempotencyVariables, idempotency } from 'redis-once/hono';
import { type Payment, pay, rename } from './ledger.js';

export function paymentApi(dedup: Dedup): Hono<{ Variables: IdempotencyVariables }> {
  const app = new Hono<{ Variables: IdempotencyVariables }>();
  const accountOf = (c: { req: { header(name: string): string | undefined } }) => c.req.header('x-account') ?? '';
  // First who asks; then the key, which is theirs; then the routes.
  app.use((c, next) => (accountOf(c) === '' ? Promise.resolve(c.body(null, 401)) : next()));
  app.use(idempotency(dedup, { scope: accountOf, required: true }));

  app.post('/payments', async (c) => {
    return c.json(pay(c.get('idempotency') as OnceContext, accountOf(c), await c.req.json<Payment>()), 201);
  });
  app.patch('/account', async (c) => {
    const { name } = await c.req.json<{ name: string }>();
    const etag = rename(c.get('idempotency') as OnceContext, accountOf(c), name, c.req.header('if-match'));
    return c.body(null, 204, { etag });
  });
  return app;
}
