/** The payment APIs, one a framework, asked by `fetch`. */
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { describe, expect, onTestFinished, test } from 'vitest';
import { paymentApi as onExpress } from '../../examples/payments/express.js';
import { paymentApi as onFastify } from '../../examples/payments/fastify.js';
import { paymentApi as onFetch } from '../../examples/payments/fetch.js';
import { paymentApi as onHono } from '../../examples/payments/hono.js';
import type { Dedup } from '../../src/index.js';
import { connect, freshNamespace, makeDedup } from '../support/index.js';

async function listen(handler: RequestListener): Promise<string> {
  const server = createServer(handler).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe.each<[string, (dedup: Dedup) => Promise<string>]>([
  ['Express', (dedup) => listen(onExpress(dedup) as RequestListener)],
  [
    'Fastify',
    async (dedup) => {
      const app = await onFastify(dedup);
      onTestFinished(() => app.close());
      return app.listen({ port: 0, host: '127.0.0.1' });
    },
  ],
  ['Hono', (dedup) => listen(getRequestListener(onHono(dedup).fetch))],
  ['Fetch', (dedup) => listen(getRequestListener(onFetch(dedup)))],
])('the payment API on %s', (_name, start) => {
  async function stage() {
    // The example names its data plainly: a keyPrefix keeps each test's apart.
    const redis = connect({ keyPrefix: `${freshNamespace()}-` });
    const url = await start(makeDedup({ namespace: 'payments' }, redis));
    const ask = (method: string, path: string, body: object, headers: Record<string, string> = {}) =>
      fetch(`${url}${path}`, {
        method,
        headers: { 'content-type': 'application/json', 'x-account': 'alice', ...headers },
        body: JSON.stringify(body),
      });
    return { redis, ask };
  }

  test('moves money once, however often the request is sent', async () => {
    const { redis, ask } = await stage();
    const payment = { to: 'bob', cents: 1999 };
    const key = { 'idempotency-key': '"p1"' };
    for (const replayed of [null, 'true', 'true']) {
      const response = await ask('POST', '/payments', payment, key);
      expect([response.status, response.headers.get('idempotent-replayed')]).toEqual([201, replayed]);
      expect(await response.json()).toEqual({ paid: 1999 });
    }
    expect(await redis.hgetall('balances')).toEqual({ alice: '-1999', bob: '1999' });
    expect(await redis.xlen('ledger')).toBe(1);
    expect((await ask('POST', '/payments', { ...payment, cents: 1 }, key)).status).toBe(422);
    expect((await ask('POST', '/payments', payment)).status).toBe(400);
    expect((await ask('POST', '/payments', payment, { ...key, 'x-account': '' })).status).toBe(401);
    expect((await ask('POST', '/payments', payment, { ...key, 'x-account': 'carol' })).status).toBe(201);
  });

  test('changes what the caller has seen, and nothing else: If-Match', async () => {
    const { redis, ask } = await stage();
    const first = await ask('PATCH', '/account', { name: 'A' }, { 'idempotency-key': 'r1', 'if-match': '"0"' });
    expect([first.status, first.headers.get('etag')]).toEqual([204, '"1"']);
    const stale = await ask('PATCH', '/account', { name: 'B' }, { 'idempotency-key': 'r2', 'if-match': '"0"' });
    expect([stale.status, stale.headers.get('content-type')]).toEqual([412, 'application/problem+json']);
    const again = await ask('PATCH', '/account', { name: 'A' }, { 'idempotency-key': 'r1', 'if-match': '"0"' });
    expect([again.status, again.headers.get('etag')]).toEqual([204, '"1"']);
    expect(await redis.hgetall('account:alice')).toEqual({ name: 'A', version: '1' });
  });
});
