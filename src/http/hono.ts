/** `redis-once/hono`: a middleware for Hono 4. */
import type { Context, MiddlewareHandler } from 'hono';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import type { OnceContext } from '../outcome.js';
import { Exchange } from './exchange.js';
import type { IdempotencyOptions } from './options.js';
import { factsOf, held, toResponse } from './web.js';

export type { IdempotencyOptions, StorePolicy } from './options.js';

/** What `c.get('idempotency')` is: undefined where the request has no key. */
export interface IdempotencyVariables {
  idempotency: OnceContext | undefined;
}

/**
 * Makes a middleware: requests with an Idempotency-Key are handled once per owner, operation and key, and every copy gets
 * the stored response. It is sent when it is stored, together with the writes on `c.get('idempotency').tx`.
 *
 * It comes after authentication, and before the handler.
 *
 * @throws InvalidOptionError naming the option that is wrong
 * @example
 * ```ts
 * import { Hono } from 'hono';
 * import { idempotency, type IdempotencyVariables } from 'redis-once/hono';
 *
 * const app = new Hono<{ Variables: IdempotencyVariables }>();
 * app.use(idempotency(dedup, { scope: (c) => c.req.header('x-account') ?? '' }));
 * app.post('/payments', async (c) => {
 *   const { cents } = await c.req.json<{ cents: number }>();
 *   c.get('idempotency')?.tx.incrby('total', cents);
 *   return c.json({ charged: cents }, 201);
 * });
 * ```
 */
export function idempotency(
  dedup: Dedup<Codec>,
  options: IdempotencyOptions<Context>,
): MiddlewareHandler<{ Variables: IdempotencyVariables }> {
  const exchange = new Exchange(dedup, options);
  return async (c, next) => {
    const { raw } = c.req;
    // Hono keeps what it has read of a body.
    const facts = factsOf(raw, raw.bodyUsed ? () => c.req.arrayBuffer() : undefined);
    const headers = () => [...c.res.headers];
    let before: [string, string][] | undefined;
    const sent = await exchange.answer(c, facts, async (context) => {
      c.set('idempotency', context);
      before = headers();
      await next();
      const made = await held(c.res, exchange.settings.maxBodyBytes);
      replace(c, made.response);
      return { ...made.told, threw: c.error !== undefined };
    });
    if (sent === 'pass') await next();
    else if (sent !== 'own') replace(c, beside(before ?? headers(), toResponse(sent)));
  };
}

/** What others have set before, CORS for instance, is of this request and stays. */
function beside(before: readonly [string, string][], response: Response): Response {
  for (const [name, value] of before) {
    if (name === 'set-cookie') response.headers.append(name, value);
    else if (!response.headers.has(name)) response.headers.set(name, value);
  }
  return response;
}

/** Without what Hono would keep of the headers of the one before. */
function replace(c: Context, response: Response): void {
  c.res = undefined;
  c.res = response;
}
