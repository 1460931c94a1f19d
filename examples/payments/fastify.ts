/** A payment API on Fastify 5. */
import Fastify, { type FastifyInstance } from 'fastify';
import type { Dedup, OnceContext } from 'redis-once';
import { idempotency } from 'redis-once/fastify';
import { type Payment, pay, rename } from './ledger.js';

export async function paymentApi(dedup: Dedup): Promise<FastifyInstance> {
  const app = Fastify();
  const accountOf = (request: { headers: Record<string, unknown> }) => String(request.headers['x-account'] ?? '');
  // Who asks is known before the key, which is theirs: the plugin's hook is a preHandler.
  app.addHook('onRequest', async (request, reply) => {
    if (accountOf(request) === '') await reply.code(401).send();
  });
  await app.register(idempotency, { dedup, scope: accountOf, required: true });

  app.post<{ Body: Payment }>('/payments', async (request, reply) => {
    return reply.code(201).send(pay(request.idempotency as OnceContext, accountOf(request), request.body));
  });
  app.patch<{ Body: { name: string } }>('/account', async (request, reply) => {
    const { body, headers } = request;
    const etag = rename(request.idempotency as OnceContext, accountOf(request), body.name, headers['if-match']);
    return reply.code(204).header('etag', etag).send();
  });
  return app;
}
