/** What is of the Fetch API: other middlewares' headers, thrown errors, responses that cannot be told again. */
import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { HTTPException } from 'hono/http-exception';
import { expect, test } from 'vitest';
import { idempotent } from '../../src/http/fetch.js';
import { type IdempotencyVariables, idempotency } from '../../src/http/hono.js';
import { connect, freshNamespace, makeDedup } from '../support/index.js';

const sending = { method: 'POST', headers: { 'idempotency-key': 'k', origin: 'http://elsewhere' } };

test('the headers of a middleware outside, CORS for instance, are on a replay too', async () => {
  const app = new Hono();
  app.use(cors());
  app.use(idempotency(makeDedup(), { scope: 'global' }));
  app.post('/', (c) => c.text('hello'));
  for (const replayed of [null, 'true']) {
    const { headers } = await app.request('/', sending);
    expect([headers.get('idempotent-replayed'), headers.get('access-control-allow-origin')]).toEqual([replayed, '*']);
  }
});

test('a handler that throws a 400 frees the key, with none of its effects', async () => {
  const redis = connect();
  const sum = freshNamespace();
  const app = new Hono<{ Variables: IdempotencyVariables }>();
  app.use(idempotency(makeDedup({}, redis), { scope: 'global' }));
  app.post('/', (c) => {
    c.get('idempotency')?.tx.incrby(sum, 1);
    throw new HTTPException(400);
  });
  for (let time = 0; time < 2; time += 1) {
    const { status, headers } = await app.request('/', sending);
    expect([status, headers.get('idempotent-replayed')]).toEqual([400, null]);
  }
  expect(await redis.get(sum)).toBeNull();
});

test('Response.error() has no status that could be told again: it is not stored', async () => {
  let runs = 0;
  const handle = idempotent(makeDedup(), { scope: 'global', store: 'stripe' }, () => {
    runs += 1;
    return Response.error();
  });
  for (let time = 0; time < 2; time += 1) {
    expect((await handle(new Request('http://here/', sending))).type).toBe('error');
  }
  expect(runs).toBe(2);
});
