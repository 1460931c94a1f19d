/** What is Fastify's own: hooks, streams, thrown errors, injected requests. */
import { PassThrough, Readable } from 'node:stream';
import Fastify, { type FastifyInstance, type RouteHandlerMethod } from 'fastify';
import { expect, onTestFinished, test } from 'vitest';
import { type IdempotencyPluginOptions, idempotency } from '../../src/http/fastify.js';
import { connect, freshNamespace, makeDedup } from '../support/index.js';

interface More {
  options?: Partial<IdempotencyPluginOptions>;
  before?: (app: FastifyInstance) => void;
}

/** The route's first answer, and what a copy gets. */
async function twice(handler: RouteHandlerMethod, { options, before }: More = {}) {
  const app = Fastify();
  onTestFinished(() => app.close());
  before?.(app);
  await app.register(idempotency, { dedup: makeDedup(), scope: () => 'a', ...options });
  app.post('/', handler);
  const ask = () => app.inject({ method: 'POST', url: '/', headers: { 'idempotency-key': 'k' } });
  return [await ask(), await ask()] as const;
}

test('requests that are injected have a key as well', async () => {
  const answers = await twice(async () => 'hello');
  expect(answers.map(({ body, headers }) => [body, headers['idempotent-replayed']])).toEqual([
    ['hello', undefined],
    ['hello', 'true'],
  ]);
});

test('a stream that errors before it is kept is an error, and frees the key', async () => {
  let runs = 0;
  const answers = await twice(async (_request, reply) => {
    runs += 1;
    async function* broken() {
      yield 'a';
      if (runs === 1) throw new Error('broken');
    }
    return reply.send(Readable.from(broken()));
  });
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([500, 200]);
});

test('a Response of the Fetch API is sent, and replayed', async () => {
  const answers = await twice(
    async () => new Response('hello', { status: 201, headers: { 'content-type': 'text/x' } }),
  );
  for (const { statusCode, body, headers } of answers) {
    expect([statusCode, body, headers['content-type']]).toEqual([201, 'hello', 'text/x']);
  }
});

test('a stream that never ends is cut off, and destroyed', async () => {
  const streams: PassThrough[] = [];
  const handler: RouteHandlerMethod = async (_request, reply) => {
    const stream = new PassThrough();
    streams.push(stream);
    return reply.send(stream);
  };
  const answers = await twice(handler, { options: { maxRunTime: 300, lease: 100 } });
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([503, 503]);
  expect(streams.map(({ destroyed }) => destroyed)).toEqual([true, true]);
});

test.each<[string, (app: FastifyInstance) => void]>([
  ["Fastify's own error handler", () => {}],
  [
    'another',
    (app) => app.setErrorHandler((error: Error, _request, reply) => reply.code(400).send({ message: error.message })),
  ],
])('a handler that throws what %s answers with 400 frees the key, with none of its effects', async (_whose, before) => {
  const redis = connect();
  const sum = freshNamespace();
  const handler: RouteHandlerMethod = async (request) => {
    request.idempotency?.tx.incrby(sum, 1);
    throw Object.assign(new Error('bad'), { statusCode: 400 });
  };
  const answers = await twice(handler, { before, options: { dedup: makeDedup({}, redis) } });
  for (const { statusCode, headers } of answers) {
    expect([statusCode, headers['idempotent-replayed']]).toEqual([400, undefined]);
  }
  expect(await redis.get(sum)).toBeNull();
});

test('an answer in place of a response has the headers that were set before it', async () => {
  const before = (app: FastifyInstance) =>
    app.addHook('onRequest', async (_request, reply) => {
      reply.header('access-control-allow-origin', '*');
    });
  const [first] = await twice(
    async (request, reply) => {
      request.idempotency?.tx.require.exists('never-there');
      return reply.header('x-own', '1').send('hello');
    },
    { before },
  );
  expect(first.statusCode).toBe(412);
  expect([first.headers['access-control-allow-origin'], first.headers['x-own']]).toEqual(['*', undefined]);
});
