/** What is Express's own: middlewares around it, and all the ways to write a response by hand. */
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import express, { type Express, type RequestHandler, type Response } from 'express';
import express4 from 'express4';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type IdempotencyOptions, idempotency } from '../../src/http/express.js';
import { send } from '../support/http/client.js';
import { makeDedup } from '../support/index.js';

const account: IdempotencyOptions<express.Request> = { scope: (req) => req.get('x-account') ?? 'a' };

async function start(app: Express): Promise<string> {
  const server = createServer(app as RequestListener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe.each([
  ['Express 5', express],
  ['Express 4', express4 as unknown as typeof express],
])('%s', (_name, make) => {
  /** The route's first answer, and what a copy gets. */
  async function twice(handler: RequestHandler, around: { before?: RequestHandler; after?: RequestHandler } = {}) {
    const app = make();
    if (around.before) app.use(around.before);
    app.use(idempotency(makeDedup(), { ...account, maxBodyBytes: 10_000 }));
    if (around.after) app.use(around.after);
    app.post('/', handler);
    const url = await start(app);
    const request = {
      path: '/',
      headers: [
        ['idempotency-key', 'k'],
        ['accept-encoding', 'gzip'],
      ] as [string, string][],
    };
    return [await send(url, request), await send(url, request)] as const;
  }

  const text = 'compressible '.repeat(100);

  test.each([
    ['outside', { before: compression({ threshold: 0 }) }],
    ['inside', { after: compression({ threshold: 0 }) }],
  ])('with compression %s it, both answers are compressed, and the same when they are not', async (_where, around) => {
    const answers = await twice((_req, res) => void res.type('text/plain').send(text), around);
    for (const { headers, body } of answers) {
      expect(headers['content-encoding']).toBe('gzip');
      expect(gunzipSync(body).toString()).toBe(text);
    }
    expect(answers.map(({ headers }) => headers['idempotent-replayed'])).toEqual([undefined, 'true']);
  });

  test.each<[string, (res: Response) => unknown]>([
    ['writeHead with an object', (res) => res.writeHead(201, { 'Content-Type': 'text/x' }).end('hello world')],
    ['writeHead with a message', (res) => res.writeHead(201, 'Made', { 'content-type': 'text/x' }).end('hello world')],
    ['writeHead with a list', (res) => res.writeHead(201, ['Content-Type', 'text/x']).end('hello world')],
    [
      'writes with encodings',
      (res) => {
        res.status(201).type('text/x');
        res.write('aGVsbG8=', 'base64');
        res.write(Buffer.from(' wor'));
        res.end('6c64', 'hex');
      },
    ],
    [
      'writes with callbacks',
      (res) => {
        res
          .status(201)
          .type('text/x')
          .write('hello ', () => res.end('world', () => {}));
      },
    ],
    [
      'flushHeaders first',
      (res) => {
        res.status(201).type('text/x').flushHeaders();
        res.end('hello world');
      },
    ],
    [
      'an end after the end',
      (res) => {
        res.status(201).type('text/x').end('hello world');
        res.end('and more');
      },
    ],
  ])('%s is held back, sent, and replayed', async (_what, write) => {
    const answers = await twice((_req, res) => void write(res));
    for (const { status, headers, body } of answers) {
      expect([status, body.toString()]).toEqual([201, 'hello world']);
      expect(headers['content-type']).toContain('text/x');
    }
  });

  test('a file that is piped, longer than what is kept, is sent to its end', async () => {
    const [first, copy] = await twice((_req, res) => {
      createReadStream(new URL('../../package-lock.json', import.meta.url), { highWaterMark: 1_000 }).pipe(res);
    });
    expect(JSON.parse(first.body.toString()).name).toBe('redis-once');
    expect(copy.status).toBe(409);
  });

  test('nothing is sent before the commit', async () => {
    const dedup = makeDedup();
    const app = make();
    app.use(idempotency(dedup, account));
    const seen: unknown[] = [];
    app.post('/', (req, res) => {
      res.once('finish', async () => seen.push((await dedup.scope('owner', 'a', 'POST /').inspect('k'))?.state));
      res.status(201).write('begun');
      seen.push(res.headersSent, req.idempotency?.attempt);
      res.end();
    });
    const url = await start(app);
    await send(url, { path: '/', headers: [['idempotency-key', 'k']] });
    await expect.poll(() => seen).toEqual([false, 1, 'completed']);
  });

  test('a body that nobody has read is an error of the program, told before anything runs', async () => {
    const app = make();
    app.use(idempotency(makeDedup(), account));
    app.post('/', (_req, res) => void res.send('ran'));
    const errors: Error[] = [];
    app.use(((error, _req, res, _next) => {
      errors.push(error);
      res.status(500).end();
    }) as express.ErrorRequestHandler);
    const url = await start(app);
    const answer = await send(url, { path: '/', headers: [['idempotency-key', 'k']], body: 'text' });
    expect(answer.status).toBe(500);
    expect(errors[0]).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining('body parser') });
  });

  test('so is an owner without a name', async () => {
    const app = make();
    app.use(idempotency(makeDedup(), { scope: () => '' }));
    app.post('/', (_req, res) => void res.send('ran'));
    app.use(((error, _req, res, _next) => void res.status(500).send(error.message)) as express.ErrorRequestHandler);
    const answer = await send(await start(app), { path: '/', headers: [['idempotency-key', 'k']] });
    expect(answer.body.toString()).toContain('Expected `scope` to return a non-empty string');
  });
});
