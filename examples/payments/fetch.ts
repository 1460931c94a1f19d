/** Payments as handlers of the Fetch API: in Next, `app/payments/route.ts` exports the first as `POST`. */

import type { Dedup, OnceContext } from 'redis-once';
import { idempotent } from 'redis-once/fetch';
import { type Payment, pay, rename } from './ledger.js';

type Handler = (request: Request) => Promise<Response>;

export function paymentApi(dedup: Dedup): Handler {
  const accountOf = (request: Request) => request.headers.get('x-account') ?? '';
  const options = { scope: accountOf, required: true };

  const payments = idempotent(dedup, options, async (request, context) => {
    const payment = (await request.json()) as Payment;
    return Response.json(pay(context as OnceContext, accountOf(request), payment), { status: 201 });
  });
  const account = idempotent(dedup, options, async (request, context) => {
    const { name } = (await request.json()) as { name: string };
    const ifMatch = request.headers.get('if-match') ?? undefined;
    const etag = rename(context as OnceContext, accountOf(request), name, ifMatch);
    return new Response(null, { status: 204, headers: { etag } });
  });

  return async (request) => {
    // Who asks is known before the key, which is theirs.
    if (accountOf(request) === '') return new Response(null, { status: 401 });
    return new URL(request.url).pathname === '/payments' ? payments(request) : account(request);
  };
}
