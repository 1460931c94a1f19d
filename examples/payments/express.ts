/** A payment API on Express 5 or 4. */
import express, { type Express } from 'express';
import type { Dedup, OnceContext } from 'redis-once';
import { idempotency, idempotencyErrors } from 'redis-once/express';
import { pay, rename } from './ledger.js';

export function paymentApi(dedup: Dedup): Express {
  const app = express();
  // First who asks, and the body; then the key, which is theirs; then the routes.
  app.use((req, res, next) => void (req.get('x-account') ? next() : res.sendStatus(401)));
  app.use(express.json());
  app.use(idempotency(dedup, { scope: (req) => req.get('x-account') ?? '', required: true }));

  app.post('/payments', (req, res) => {
    res.status(201).json(pay(req.idempotency as OnceContext, req.get('x-account') as string, req.body));
  });
  app.patch('/account', (req, res) => {
    const context = req.idempotency as OnceContext;
    const etag = rename(context, req.get('x-account') as string, req.body.name, req.get('if-match'));
    res.set('etag', etag).sendStatus(204);
  });
  // What a route throws is answered, and nothing of what it wrote is made.
  app.use(idempotencyErrors);
  return app;
}
