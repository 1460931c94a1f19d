/** One app a framework, with the same routes, on a port of its own. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import express5 from 'express';
import express4 from 'express4';
import Fastify from 'fastify';
import { type Context, Hono } from 'hono';
import { onTestFinished } from 'vitest';
import { idempotency as expressIdempotency, idempotencyErrors } from '../../../src/http/express.js';
import { idempotency as fastifyIdempotency } from '../../../src/http/fastify.js';
import { idempotent } from '../../../src/http/fetch.js';
import { idempotency as honoIdempotency, type IdempotencyVariables } from '../../../src/http/hono.js';
import type { IdempotencyOptions } from '../../../src/http/options.js';
import type { Dedup } from '../../../src/index.js';
import { type Made, respond, type World } from './routes.js';

/** Options of every framework: functions of the request are given the account that it names. */
export interface AppOptions extends Omit<IdempotencyOptions<never>, 'scope' | 'operation' | 'fingerprint' | 'slot'> {
  readonly operation?: 'global';
  readonly scope?: 'global';
}

export type StartApp = (dedup: Dedup, world: World, options: AppOptions) => Promise<string>;

const LARGEST_BODY = '20mb';

async function listen(handler: RequestListener | Server): Promise<string> {
  const server = typeof handler === 'function' ? createServer(handler) : handler;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function forRequest<R>(
  account: (request: R) => string,
  { operation, scope, ...rest }: AppOptions,
): IdempotencyOptions<R> {
  return { ...rest, scope: scope ?? account, ...(operation && { operation: () => operation }) };
}

function startExpress(express: typeof express5): StartApp {
  return async (dedup, world, options) => {
    const app = express();
    app.use(express.json({ limit: LARGEST_BODY, strict: false }));
    app.use(express.urlencoded({ extended: false, limit: LARGEST_BODY }));
    app.use(express.text({ limit: LARGEST_BODY }));
    app.use(express.raw({ type: 'application/octet-stream', limit: LARGEST_BODY }));
    app.use(
      expressIdempotency(
        dedup,
        forRequest((req) => req.get('x-account') ?? 'nobody', options),
      ),
    );
    app.use(async (req, res, next) => {
      try {
        const made = await respond(req.path, { context: req.idempotency, body: req.body }, world);
        if (made.via === 'throw') throw thrown(made);
        // Another's header, on the live response.
        for (const [name, value] of Object.entries(made.headers ?? {})) res.setHeader(name, value);
        if (made.via === 'raw') {
          res.writeHead(made.status, { 'x-raw': '1' });
          res.write('');
          res.end(made.body);
        } else if (made.via === 'redirect') res.redirect(made.status, made.body as string);
        else if (made.via === 'json') res.status(made.status).json(made.body);
        else if (made.via === 'chunks') Readable.from(made.body as string[]).pipe(res.status(made.status));
        else if (made.via === 'empty') res.status(made.status).end();
        else res.status(made.status).send(made.body);
      } catch (error) {
        next(error);
      }
    });
    app.use(idempotencyErrors);
    // Quiet: that errors are thrown is a part of the cases.
    app.use((error: Thrown, _req: express5.Request, res: express5.Response, _next: express5.NextFunction) => {
      res.status(error.statusCode ?? 500).json({ error: 'thrown' });
    });
    return listen(app as RequestListener);
  };
}

const startFastify: StartApp = async (dedup, world, options) => {
  const app = Fastify({ bodyLimit: 20 * 1024 * 1024 });
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_req, body, done) =>
    done(null, body),
  );
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_req, body, done) => done(null, body));
  await app.register(fastifyIdempotency, {
    dedup,
    ...forRequest((request) => String(request.headers['x-account'] ?? 'nobody'), options),
  });
  app.all('/*', async (request, reply) => {
    const path = request.url.split('?')[0] as string;
    const made = await respond(path, { context: request.idempotency, body: request.body }, world);
    if (made.via === 'throw') throw thrown(made);
    reply.code(made.status).headers(made.headers ?? {});
    if (made.via === 'redirect') return reply.redirect(made.body as string, made.status);
    if (made.via === 'chunks') return reply.send(Readable.from(made.body as string[]));
    return reply.send(made.body);
  });
  await app.ready();
  onTestFinished(() => app.close());
  return app.listen({ port: 0, host: '127.0.0.1' });
};

/** What frameworks take the status of their answer from. */
type Thrown = Error & { readonly statusCode?: number };

function thrown({ status }: Made): Thrown {
  return Object.assign(new Error('thrown'), { statusCode: status });
}

/** As handlers of the Fetch API make it. */
function toResponse(made: Made): Response {
  const { via, status, headers, body } = made;
  if (via === 'throw') throw thrown(made);
  if (via === 'json') return Response.json(body, { status, headers: headers ?? {} });
  if (via === 'redirect') return new Response(null, { status, headers: { location: body as string } });
  if (via === 'empty') return new Response(null, { status });
  if (via === 'chunks') {
    const stream = Readable.toWeb(Readable.from((body as string[]).map((chunk) => Buffer.from(chunk))));
    return new Response(stream as unknown as ReadableStream, { status, headers: headers ?? {} });
  }
  return new Response(body as string, { status, headers: headers ?? {} });
}

async function bodyOf(request: Request): Promise<unknown> {
  const text = await request.text();
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const startHono: StartApp = async (dedup, world, options) => {
  const app = new Hono<{ Variables: IdempotencyVariables }>();
  app.use(
    honoIdempotency(
      dedup,
      forRequest((c: Context) => c.req.header('x-account') ?? 'nobody', options),
    ),
  );
  app.all('*', async (c) => {
    const body = await bodyOf(c.req.raw);
    const made = await respond(c.req.path, { context: c.get('idempotency'), body }, world);
    if (made.via === 'json') return c.json(made.body as object, made.status as 200, made.headers ?? {});
    if (made.via === 'redirect') return c.redirect(made.body as string, made.status as 303);
    return toResponse(made);
  });
  app.onError((error, c) => c.json({ error: 'thrown' }, ((error as Thrown).statusCode ?? 500) as 500));
  return listen(getRequestListener(app.fetch));
};

const startFetch: StartApp = async (dedup, world, options) => {
  const handle = idempotent(
    dedup,
    forRequest((request: Request) => request.headers.get('x-account') ?? 'nobody', options),
    async (request, context) => {
      const { pathname } = new URL(request.url);
      return toResponse(await respond(pathname, { context, body: await bodyOf(request) }, world));
    },
  );
  const safely = (request: Request) =>
    handle(request).catch(({ statusCode = 500 }: Thrown) => Response.json({ error: 'thrown' }, { status: statusCode }));
  return listen(getRequestListener(safely));
};

export const APPS: readonly (readonly [name: string, start: StartApp])[] = [
  ['Express 5', startExpress(express5)],
  ['Express 4', startExpress(express4 as unknown as typeof express5)],
  ['Fastify', startFastify],
  ['Hono', startHono],
  ['Fetch', startFetch],
];
