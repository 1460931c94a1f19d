/** `redis-once/express`: a middleware for Express 5 and 4. */
import type { ErrorRequestHandler, Request, RequestHandler } from 'express';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { InvalidOptionError } from '../errors.js';
import type { OnceContext } from '../outcome.js';
import { parsedContent, TOO_LARGE } from './body.js';
import { Exchange } from './exchange.js';
import { HeldResponse, sendResponse } from './held-response.js';
import { headerLinesIn } from './key-header.js';
import type { IdempotencyOptions } from './options.js';

export type { IdempotencyOptions, StorePolicy } from './options.js';

declare global {
  namespace Express {
    interface Request {
      /** What the handler is told of its attempt, `tx` among it; absent where the request has no key. */
      idempotency?: OnceContext;
    }
  }
}

/** Of each request, those of all the middlewares that it has passed. */
const responses = new WeakMap<object, HeldResponse[]>();

/**
 * Makes a middleware: requests with an Idempotency-Key are handled once per owner, operation and key, and every copy gets
 * the stored response. It is sent when it is stored, together with the writes on `req.idempotency.tx`.
 *
 * It comes after authentication and body parsers, and before the handler.
 *
 * @throws InvalidOptionError naming the option that is wrong
 * @example
 * ```ts
 * import express from 'express';
 * import { idempotency } from 'redis-once/express';
 *
 * const app = express();
 * app.use(express.json());
 * app.use(idempotency(dedup, { scope: (req) => req.get('x-account') ?? '' }));
 * app.post('/payments', (req, res) => {
 *   req.idempotency?.tx.incrby('total', req.body.cents);
 *   res.status(201).json({ charged: req.body.cents });
 * });
 * ```
 */
export function idempotency(dedup: Dedup<Codec>, options: IdempotencyOptions<Request>): RequestHandler {
  const exchange = new Exchange(dedup, options);
  const { maxBodyBytes } = exchange.settings;
  return (req, res, next) => {
    const facts = {
      method: req.method,
      path: req.originalUrl.split('?')[0] as string,
      lines: (header: string) => headerLinesIn(req, header),
      content: (limit: number) => contentOf(req, limit),
    };
    let held: HeldResponse | undefined;
    const sent = exchange.answer(req, facts, (context) => {
      held = new HeldResponse(res, maxBodyBytes);
      responses.set(req, [...(responses.get(req) ?? []), held]);
      req.idempotency = context;
      // Inside the key's own handler: what comes after is a part of it.
      next();
      return held.made;
    });
    sent
      .then((answer) => {
        if (answer === 'pass') next();
        else if (answer === 'own') held?.send();
        else if (held) held.replace(answer);
        else sendResponse(res, answer);
      })
      .catch((error) => {
        held?.forget();
        next(error);
      });
  };
}

/**
 * Tells `idempotency` that a handler has thrown, which Express does not: what error handlers answer then is stored by `store`
 * alone, and never with the writes that the handler had made on `tx` by then. It stands after the routes and before the
 * error handlers, and passes the error on.
 *
 * @example
 * ```ts
 * import express from 'express';
 * import { idempotency, idempotencyErrors } from 'redis-once/express';
 *
 * const app = express();
 * app.use(express.json());
 * app.use(idempotency(dedup, { scope: (req) => req.get('x-account') ?? '' }));
 * // … the routes …
 * app.use(idempotencyErrors);
 * // … your error handlers …
 * ```
 */
export const idempotencyErrors: ErrorRequestHandler = (error, req, _res, next) => {
  for (const held of responses.get(req) ?? []) held.threw = true;
  next(error);
};

/** @throws InvalidOptionError where there is a body and nobody has read it: any two would be alike */
function contentOf({ headers, query, body, readableEnded }: Request, limit: number): unknown {
  const hasBody = Number(headers['content-length'] ?? 0) > 0 || headers['transfer-encoding'] !== undefined;
  // Express 4's parsers leave `{}` for what is not theirs, and for what is not there.
  const content = parsedContent({ headers, query, body: hasBody ? body : null }, limit);
  if (content !== TOO_LARGE && hasBody && (body === undefined || !readableEnded)) {
    const error = new InvalidOptionError(
      'Expected a body parser before `idempotency` that reads a body of this type, since requests are told apart by their bodies: ' +
        'add one, or give `fingerprint`',
    );
    // Or it is the client that has sent what nobody reads.
    throw Object.assign(error, { status: 415, statusCode: 415 });
  }
  return content;
}
