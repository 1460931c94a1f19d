/** `redis-once/fastify`: a plugin for Fastify 5. */
import { Readable } from 'node:stream';
import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import type { OnceContext } from '../outcome.js';
import { BodyBuffer, parsedContent } from './body.js';
import { Exchange, type MadeResponse, type Sent } from './exchange.js';
import { headerLines } from './held-response.js';
import { headerLinesIn } from './key-header.js';
import type { IdempotencyOptions } from './options.js';
import type { HttpResponse } from './response.js';

export type { IdempotencyOptions, StorePolicy } from './options.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** What the handler is told of its attempt, `tx` among it; null where the request has no key. */
    idempotency: OnceContext | null;
  }
}

/** The options of the plugin. */
export interface IdempotencyPluginOptions extends IdempotencyOptions<FastifyRequest> {
  dedup: Dedup<Codec>;
}

/** A request whose handler runs under its key. */
interface Running {
  readonly made: (response: MadeResponse) => void;
  readonly failed: (error: unknown) => void;
  /** Headers that others have set before. */
  readonly before: ReturnType<FastifyReply['getHeaders']>;
  readonly sent: Promise<Sent>;
  /** Is there a response, which waits to be sent? */
  isMade: boolean;
  threw: boolean;
}

/**
 * A plugin: requests with an Idempotency-Key are handled once per owner, operation and key, and every copy gets the
 * stored response. It is sent when it is stored, together with the writes on `request.idempotency.tx`.
 *
 * It holds for the routes of the instance that it is registered on. Its hook is a `preHandler`: authentication belongs into an
 * earlier one.
 *
 * @throws InvalidOptionError naming the option that is wrong
 * @example
 * ```ts
 * import Fastify from 'fastify';
 * import { idempotency } from 'redis-once/fastify';
 *
 * const app = Fastify();
 * await app.register(idempotency, { dedup, scope: (request) => String(request.headers['x-account'] ?? '') });
 * app.post<{ Body: { cents: number } }>('/payments', async (request, reply) => {
 *   request.idempotency?.tx.incrby('total', request.body.cents);
 *   return reply.code(201).send({ charged: request.body.cents });
 * });
 * ```
 */
export const idempotency: FastifyPluginCallback<IdempotencyPluginOptions> = (app, options, done) => {
  let exchange: Exchange<FastifyRequest>;
  try {
    exchange = exchangeOf(options);
  } catch (error) {
    // What a plugin throws nobody could catch.
    done(error as Error);
    return;
  }
  const running = new WeakMap<FastifyRequest, Running>();

  app.decorateRequest('idempotency', null);

  app.addHook('preHandler', (request, reply, proceed) => {
    const facts = {
      method: request.method,
      path: request.url.split('?')[0] as string,
      lines: (header: string) => headerLinesIn(request.raw, header),
      content: (limit: number) => parsedContent(request, limit),
    };
    const sent: Promise<Sent> = exchange.answer(request, facts, (context) => {
      request.idempotency = context;
      return new Promise((made, failed) => {
        const before = { ...reply.getHeaders() };
        running.set(request, { made, failed, before, sent, isMade: false, threw: false });
        // Inside the key's own handler: what comes after is a part of it.
        proceed();
      });
    });
    sent.then(
      (answer) => {
        if (running.get(request)?.isMade) return;
        if (answer === 'pass') proceed();
        else if (answer !== 'own') sendInstead(request, reply, answer);
      },
      (error) => {
        if (!running.has(request)) proceed(error);
      },
    );
  });

  /** In place of a handler that has not run, or that has not answered in time: what it answers later is dropped. */
  function sendInstead(request: FastifyRequest, reply: FastifyReply, answer: HttpResponse): void {
    running.delete(request);
    setHead(reply, answer);
    void reply.send(answer.body && answer.body.length > 0 ? answer.body : undefined);
  }

  app.addHook('onError', async (request) => {
    const run = running.get(request);
    if (run) run.threw = true;
  });

  app.addHook('onSend', async (request, reply, payload) => {
    const run = running.get(request);
    if (!run || run.isMade) return payload;
    run.isMade = true;
    const sendable = unwrapped(reply, payload);
    const gathered = gather(sendable, exchange.settings.maxBodyBytes);
    gathered.then(({ body }) => {
      run.made({ status: reply.statusCode, headers: headerLines(reply.getHeaders()), body, threw: run.threw });
    }, run.failed);
    const answer = await run.sent;
    if (answer === 'own' || answer === 'pass') return (await gathered).whole;
    // Cut off: nobody reads it to its end.
    if (sendable instanceof Readable) sendable.destroy();
    for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name);
    reply.headers(run.before);
    setHead(reply, answer);
    return answer.body;
  });
  done();
};

/** @throws InvalidOptionError */
function exchangeOf(options: IdempotencyPluginOptions): Exchange<FastifyRequest> {
  // What Fastify itself adds is no option of ours.
  const {
    dedup,
    prefix: _,
    logLevel: __,
    logSerializers: ___,
    ...own
  } = options as IdempotencyPluginOptions & Record<string, unknown>;
  return new Exchange(dedup, own as unknown as IdempotencyOptions<FastifyRequest>);
}

/** For the instance that registers it, not for one of its own: as `fastify-plugin` has it. */
Object.assign(idempotency, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'redis-once',
});

function setHead(reply: FastifyReply, { status, headers, body }: HttpResponse): void {
  reply.code(status);
  for (const [name, value] of headers) reply.header(name, value);
  if (body && body.length > 0) reply.header('content-length', body.length);
}

/** A Response of the Fetch API is taken apart, as Fastify does after its hooks. */
function unwrapped(reply: FastifyReply, payload: unknown): unknown {
  if (!(payload instanceof Response)) return payload;
  reply.code(payload.status);
  for (const [name, value] of payload.headers) reply.header(name, value);
  return payload.body;
}

/** A payload as it is kept, and as it is sent: a stream is read up to the limit, and what is beyond follows as it comes. */
async function gather(payload: unknown, limit: number): Promise<{ body: Buffer | null; whole: unknown }> {
  const body = new BodyBuffer(limit);
  if (typeof payload === 'string') body.add(Buffer.from(payload));
  else if (payload instanceof Uint8Array) body.add(payload);
  else if (payload !== null && payload !== undefined) return gatherStream(payload, body);
  return { body: body.kept, whole: payload };
}

async function gatherStream(payload: unknown, body: BodyBuffer): Promise<{ body: Buffer | null; whole: unknown }> {
  const stream = payload as AsyncIterable<Uint8Array | string>;
  const chunks = stream[Symbol.asyncIterator]();
  for (;;) {
    const { done, value } = await chunks.next();
    if (done) return { body: body.kept, whole: body.bytes };
    body.add(typeof value === 'string' ? Buffer.from(value) : value);
    if (body.isOver) break;
  }
  async function* all() {
    yield body.bytes;
    yield* { [Symbol.asyncIterator]: () => chunks };
  }
  return { body: body.kept, whole: Readable.from(all(), { objectMode: false }) };
}
