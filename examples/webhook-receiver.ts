/**
 * A receiver of webhooks signed as GitHub signs them, on node:http alone. What is acknowledged is counted and in a stream,
 * once; the work proper reads that stream, so that no sender waits for it.
 *
 * Senders hang up after some seconds (GitHub: 10), and know one thing of an answer: 2xx, or not. So all of this must be
 * over before: give the Dedup a `redisTimeout` of 2 s.
 *
 * | the delivery | is answered | the sender |
 * |---|---|---|
 * | done, or a copy of one that is done | 204 | is satisfied |
 * | without a good signature | 401 | has no business here: Redis is not asked |
 * | too long, no JSON, without an id or with one that is too long, no POST | 413, 400, 405 | sends it in vain |
 * | another body under an id that is done | 422 | has a bug: it is logged |
 * | a copy of one that is still running | 503, Retry-After | sends it again, and then it is done |
 * | Redis away, the outcome unknown | 503, Retry-After | sends it again: at worst it is a copy |
 * | anything else | 500 | sends it again; it is logged |
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { type Dedup, type Duration, isDedupError } from 'redis-once';

const LONGEST_BODY = 1024 * 1024;
/** GitHub redelivers by hand: within 3 days, GitHub Enterprise Server within 7. */
const RETENTION = '8d';

class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** @param patience how long a copy waits for the first to be done, before it is sent away */
export function webhookReceiver(dedup: Dedup, secret: string, patience: Duration = '3s'): RequestListener {
  const deliveries = dedup.scope('github').with({ retention: RETENTION, waitTimeout: patience });

  const receive = async (request: IncomingMessage) => {
    if (request.method !== 'POST') throw new Refusal(405, 'POST only');
    const body = await readBody(request);
    if (!isSigned(body, request.headers['x-hub-signature-256'], secret)) throw new Refusal(401, 'No good signature');
    const { 'x-github-delivery': id, 'x-github-event': event } = request.headers;
    if (typeof id !== 'string' || typeof event !== 'string') throw new Refusal(400, 'No id, or no event');
    // Before the key is taken: what is refused leaves no record.
    if (!isJson(body)) throw new Refusal(400, 'No JSON');
    await deliveries.once(
      id,
      ({ tx }) => {
        tx.hincrby('events', event, 1).xadd('deliveries', '*', 'id', id, 'event', event, 'body', body);
      },
      { fingerprint: createHash('sha256').update(body).digest('hex') },
    );
  };

  return (request, response) => {
    receive(request).then(
      () => response.writeHead(204).end(),
      (error: unknown) => refuse(response, error),
    );
  };
}

/**
 * As it came: parsed and written again, it would have other bytes, and another signature. What is too long is read to its
 * end, so that the sender gets its answer, and not kept.
 */
async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes <= LONGEST_BODY) chunks.push(chunk);
    }
  } catch {
    throw new Refusal(400, 'The sender has hung up');
  }
  if (bytes > LONGEST_BODY) throw new Refusal(413, 'Too long');
  return Buffer.concat(chunks);
}

/**
 * GitHub's signature: HMAC SHA-256 of the body. It has no time in it, so whoever recorded a delivery can send it again: a
 * copy while its record lives, and a new one after. Stripe signs `<t>.<body>` and sends `t` along: there, refuse what is
 * more than 5 minutes old, after the comparison. Its retries are signed anew, so none of them is refused for its age.
 */
function isSigned(body: Buffer, header: string | string[] | undefined, secret: string): boolean {
  const expected = Buffer.from(`sha256=${createHmac('sha256', secret).update(body).digest('hex')}`);
  const given = Buffer.from(String(header));
  // In equal time for all texts of the right length, which is no secret.
  return given.length === expected.length && timingSafeEqual(given, expected);
}

function isJson(body: Buffer): boolean {
  try {
    JSON.parse(String(body));
    return true;
  } catch {
    return false;
  }
}

function refuse(response: ServerResponse, error: unknown): void {
  if (error instanceof Refusal) {
    response.writeHead(error.status).end(error.message);
    return;
  }
  if (isDedupError(error, 'INVALID_KEY')) {
    response.writeHead(400).end('No id');
    return;
  }
  if (isDedupError(error) && error.retryable) {
    const seconds = isDedupError(error, 'IN_PROGRESS') ? Math.ceil(error.retryAfterMs / 1_000) : 1;
    response.writeHead(503, { 'retry-after': String(Math.max(1, seconds)) }).end('Not yet: send it again');
    return;
  }
  console.error('A webhook failed:', error);
  const isReused = isDedupError(error, 'FINGERPRINT_MISMATCH');
  response.writeHead(isReused ? 422 : 500).end(isReused ? 'Another body under this id' : 'Failed');
}
