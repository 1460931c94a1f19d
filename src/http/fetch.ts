/** `redis-once/fetch`: for handlers of the Fetch API, as Next's route handlers are. */
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';
import type { OnceContext } from '../outcome.js';
import { Exchange } from './exchange.js';
import type { IdempotencyOptions } from './options.js';
import { factsOf, held, toResponse } from './web.js';

export type { IdempotencyOptions, StorePolicy } from './options.js';

/**
 * Makes a handler: requests with an Idempotency-Key are handled once per owner, operation and key, and every copy gets
 * the stored response. It is returned when it is stored, together with the writes on `context.tx`.
 *
 * @param handler is given the request, what it is told of its attempt (undefined where the request has no key), and what
 *   else the returned handler is called with
 * @throws InvalidOptionError naming the option that is wrong
 * @example
 * ```ts
 * import { idempotent } from 'redis-once/fetch';
 *
 * const POST = idempotent(dedup, { scope: (request) => request.headers.get('x-account') ?? '' }, async (request, context) => {
 *   const { cents } = (await request.json()) as { cents: number };
 *   context?.tx.incrby('total', cents);
 *   return Response.json({ charged: cents }, { status: 201 });
 * });
 * ```
 */
export function idempotent<Rest extends unknown[] = []>(
  dedup: Dedup<Codec>,
  options: IdempotencyOptions<Request>,
  handler: (request: Request, context: OnceContext | undefined, ...rest: Rest) => Response | Promise<Response>,
): (request: Request, ...rest: Rest) => Promise<Response> {
  const exchange = new Exchange(dedup, options);
  if (typeof handler !== 'function') {
    throw new InvalidOptionError(`Expected the handler to be a function, got ${given(handler)}`);
  }
  return async (request, ...rest) => {
    let own: Response | undefined;
    const sent = await exchange.answer(request, factsOf(request), async (context) => {
      const made = await held(await handler(request, context, ...rest), exchange.settings.maxBodyBytes);
      own = made.response;
      return made.told;
    });
    if (sent === 'pass') return handler(request, undefined, ...rest);
    return sent === 'own' ? (own as Response) : toResponse(sent);
  };
}
