/** What is Express's own: middlewares around it, and all the ways to write a response by hand. */
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createServer, type RequestListener, request } from 'node:http';
import { type AddressInfo, createConnection } from 'node:net';
import { PassThrough, pipeline } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import express, { type Express, type RequestHandler, type Response } from 'express';
import express4 from 'express4';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type IdempotencyOptions, idempotency, idempotencyErrors } from '../../src/http/express.js';
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

  test.each<[string, RequestHandler, status: number, body: string]>([
    [
      'a handler that throws when it has answered',
      (_req, res) => {
        res.status(201).send('hello world');
        throw new Error('late');
      },
      201,
      'hello world',
    ],
    [
      'a buffer that is written again',
      (_req, res) => {
        const buffer = Buffer.from('hello ');
        res.status(201).write(buffer, () => {
          buffer.write('world!');
          res.end(buffer);
        });
      },
      201,
      'hello world!',
    ],
    [
      'a flat list of headers with a list in it',
      (_req, res) => void res.writeHead(201, ['Set-Cookie', ['a=1', 'b=2'], 'X-A', '1'] as never).end('hello'),
      201,
      'hello',
    ],
  ])('%s: the response is as it was made', async (_what, handler, status, body) => {
    const answers = await twice(handler);
    expect(answers.map((answer) => [answer.status, answer.body.toString()])).toEqual([
      [status, body],
      [status, body],
    ]);
    expect(answers.map(({ headers }) => headers['idempotent-replayed'])).toEqual([undefined, 'true']);
  });

  test.each<[string, RequestHandler]>([
    ['a status that is none', (_req, res) => void Object.assign(res, { statusCode: 1000 }).end('x')],
    ['a head with a status that is none', (_req, res) => void res.writeHead(42).end('x')],
    ['a message that is none', (_req, res) => void Object.assign(res.status(500), { statusMessage: '\n' }).end('x')],
  ])('%s is an error of the handler, and kills nothing', async (_what, handler) => {
    const answers = await twice(handler);
    expect(answers.map(({ status }) => status)).toEqual([500, 500]);
  });

  test('an error after a part of a body: the length is that of what is sent', async () => {
    const [first] = await twice((_req, res, next) => {
      res.write('part');
      next(new Error('late'));
    });
    expect(first.status).toBe(500);
    expect(Number(first.headers['content-length'])).toBe(first.body.length);
    expect(first.body.toString()).toMatch(/^part.*<\/html>\s*$/s);
  });

  test('a `store` that throws is told to the error handler, and leaves no key and no client hanging', async () => {
    const app = make();
    const store = () => {
      throw new Error('store');
    };
    app.use(idempotency(makeDedup(), { ...account, store }));
    app.post('/', (_req, res) => void res.send('ran'));
    app.use(((error, _req, res, _next) => void res.status(500).send(error.message)) as express.ErrorRequestHandler);
    const url = await start(app);
    for (let time = 0; time < 2; time += 1) {
      const { status, body } = await send(url, { path: '/', headers: [['idempotency-key', 'k']] });
      expect([status, body.toString()]).toEqual([500, 'store']);
    }
  });

  test('a response that its handler destroys frees the key', async () => {
    const app = make();
    app.use(idempotency(makeDedup(), account));
    let runs = 0;
    app.post('/', (_req, res) => {
      runs += 1;
      if (runs === 1) res.destroy();
      else res.send('ran');
    });
    const url = await start(app);
    const request = { path: '/', headers: [['idempotency-key', 'k']] as [string, string][] };
    await expect(send(url, request)).rejects.toThrow();
    await expect.poll(async () => (await send(url, request)).body.toString()).toBe('ran');
  });

  test.each(['pipe', 'pipeline'])(
    'a client that hangs up in the middle of a %s: it is stored to its end',
    async (how) => {
      const app = make();
      app.use(idempotency(makeDedup(), account));
      const source = new PassThrough();
      let closed: () => void = () => {};
      const hungUp = new Promise<void>((resolve) => {
        closed = resolve;
      });
      app.post('/', (req, res) => {
        req.socket.once('close', () => setImmediate(closed));
        if (how === 'pipe') source.pipe(res);
        else pipeline(source, res, () => {});
        source.write('hello ');
        gone.destroy();
      });
      const url = await start(app);
      const gone = request(url, { method: 'POST', headers: { 'idempotency-key': 'k' } });
      gone.on('error', () => {}).end();
      await hungUp;
      source.end('world');
      const copy = () => send(url, { path: '/', headers: [['idempotency-key', 'k']] });
      await expect.poll(async () => (await copy()).body.toString()).toBe('hello world');
    },
  );

  test('a problem in place of a response has none of its status message', async () => {
    const app = make();
    app.use(idempotency(makeDedup(), account));
    app.post('/', (req, res) => {
      req.idempotency?.tx.require.exists('never-there');
      res.writeHead(201, 'Made').end();
    });
    const answer = await fetch(await start(app), { method: 'POST', headers: { 'idempotency-key': 'k' } });
    expect([answer.status, answer.statusText]).toEqual([412, 'Precondition Failed']);
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

  test.each<[string, (res: express.Response) => unknown]>([
    ['json', (res) => res.status(201).json({ ok: 1 })],
    ['send', (res) => res.type('html').send('<p>')],
    ['redirect', (res) => res.redirect('/elsewhere')],
    ['sendStatus', (res) => res.sendStatus(204)],
    ['cookie', (res) => res.cookie('a', 'b').append('x', 'y').end()],
    ['writeHead', (res) => res.writeHead(200, { a: 'b' }).end('x')],
    ['removeHeader', (res) => res.removeHeader('a')],
    ['setHeaders', (res) => res.setHeaders(new Headers({ a: 'b' }))],
    ['flushHeaders', (res) => res.flushHeaders()],
    ['write', (res) => res.write('x')],
  ])('what a handler answers by %s when another answer was sent is dropped, and throws nothing', async (_, late) => {
    const app = make();
    app.use(idempotency(makeDedup(), { ...account, maxRunTime: 100, lease: 100 }));
    let answer: () => unknown = () => {};
    app.post('/', (_req, res) => {
      answer = () => late(res);
    });
    app.post('/other', (_req, res) => void res.send('served'));
    // One connection: a byte too many would stand in front of the next answer.
    const socket = createConnection(Number(new URL(await start(app)).port), '127.0.0.1');
    onTestFinished(() => void socket.destroy());
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes;
    });
    const post = (path: string) =>
      socket.write(`POST ${path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: ${path}\r\nContent-Length: 0\r\n\r\n`);
    post('/');
    await expect.poll(() => text).toMatch(/^HTTP\/1\.1 503 [\s\S]*\}$/);
    text = '';
    expect(answer).not.toThrow();
    post('/other');
    await expect.poll(() => text).toMatch(/served$/);
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('another answer goes whole through a middleware that ends it later', async () => {
    const app = make();
    app.use((_req, res, next) => {
      const end = res.end.bind(res) as (...args: unknown[]) => Response;
      res.end = ((...args: unknown[]) => {
        setImmediate(() => {
          res.setHeader('x-late', '1');
          end(...args);
        });
        return res;
      }) as never;
      next();
    });
    app.use(idempotency(makeDedup(), account));
    app.post('/', (req, res) => {
      req.idempotency?.tx.require.exists('never-there');
      res.send('made');
    });
    const answer = await fetch(await start(app), { method: 'POST', headers: { 'idempotency-key': 'k' } });
    expect([answer.status, answer.headers.get('x-late')]).toEqual([412, '1']);
    expect(((await answer.json()) as { type: string }).type).toContain('condition-failed');
  });

  test('of a throw every middleware is told that the request has passed', async () => {
    const app = make();
    const dedup = makeDedup();
    for (const operation of ['outer', 'inner']) {
      app.use(idempotency(dedup.scope(operation), account));
    }
    let runs = 0;
    app.post('/', () => {
      runs += 1;
      throw new Error('thrown');
    });
    app.use(idempotencyErrors);
    app.use(((_error, _req, res, _next) => void res.status(402).end()) as express.ErrorRequestHandler);
    const url = await start(app);
    for (const expected of [1, 2]) {
      expect((await send(url, { path: '/', headers: [['idempotency-key', 'k']] })).status).toBe(402);
      expect(runs).toBe(expected);
    }
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

  test('a body of a type that no parser reads is a 415, where nobody says otherwise', async () => {
    const app = make();
    app.use(express.json());
    app.use(idempotency(makeDedup(), account));
    app.post('/', (_req, res) => void res.send('ran'));
    const headers = [
      ['idempotency-key', 'k'],
      ['content-type', 'text/x-odd'],
    ] as [string, string][];
    expect((await send(await start(app), { path: '/', headers, body: 'text' })).status).toBe(415);
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
