/** The webhook receiver, asked by a sender that signs, doubles, hangs up and tries again, as GitHub's users do. */
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Redis } from 'ioredis';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  expect,
  type MockInstance,
  onTestFinished,
  test,
  vi,
} from 'vitest';
import { webhookReceiver } from '../../examples/webhook-receiver.js';
import { Dedup, type Duration } from '../../src/index.js';
import { connect, freshNamespace, heldHandler, makeDedup, until } from '../support/index.js';
import { type FaultProxy, startProxied } from '../support/proxy.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import type { RedisServer } from '../support/redis/index.js';

const SECRET = "It's a Secret to Everybody";
const BODY = '{"ref":"main"}';

let server: RedisServer;
let proxy: FaultProxy;
beforeAll(async () => {
  ({ server, proxy } = await startProxied());
});
let logged: MockInstance<typeof console.error>;
beforeEach(() => {
  logged = vi.spyOn(console, 'error').mockImplementation(() => {});
});
afterEach(() => {
  logged.mockRestore();
  proxy.reset();
});
afterAll(async () => {
  await proxy.stop();
  await server.stop();
});

interface Sent {
  readonly id?: string;
  readonly event?: string;
  readonly method?: string;
  readonly body?: string;
  readonly signature?: string;
  readonly signal?: AbortSignal;
}

function sign(body: string, secret = SECRET): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}

/** A receiver behind the proxy, and a look at the data beside it. */
async function stage({ patience, redisTimeout }: { patience?: Duration; redisTimeout?: Duration } = {}) {
  const keyPrefix = `${freshNamespace()}-`;
  const behind = new Redis(proxy.url, { keyPrefix });
  behind.on('error', () => {});
  const dedup = new Dedup(behind, { namespace: 'example', redisTimeout });
  const web = createServer(webhookReceiver(dedup, SECRET, patience)).listen(0, '127.0.0.1');
  await once(web, 'listening');
  onTestFinished(async () => {
    web.closeAllConnections();
    web.close();
    await dedup.close({ drain: 0 });
    behind.disconnect();
  });
  const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/`;
  const send = ({ id, event = 'push', method = 'POST', body = BODY, signature, signal }: Sent) =>
    fetch(url, {
      method,
      headers: {
        ...(id !== undefined && { 'x-github-delivery': id }),
        'x-github-event': event,
        'x-hub-signature-256': signature ?? sign(body),
      },
      ...(method === 'POST' && { body }),
      ...(signal && { signal }),
    });
  const status = async (sent: Sent) => (await send(sent)).status;
  const elsewhere = () => makeDedup({ namespace: 'example' }, connect({ keyPrefix }, server.url));
  return { redis: connect({ keyPrefix }, server.url), elsewhere, send, status };
}

async function deliveries(redis: Redis): Promise<string[]> {
  return (await redis.xrange('deliveries', '-', '+')).map(([, fields]) => fields[1] as string);
}

test('counts each delivery once: copies at once, a sender that hangs up, answers that are lost, and repeats', async () => {
  const { redis, status } = await stage();
  const seed = chooseSeed();
  console.log(`Seed ${seed}`);
  const random = seededRandom(seed);
  let faults = 40;
  proxy.fate = () => {
    if (faults === 0 || random() > 0.25) return 'pass';
    faults -= 1;
    return random() < 0.5 ? 'cut before' : 'cut after';
  };
  const events = ['push', 'issues', 'ping'];
  const deliver = async (index: number) => {
    const sent = { id: `d${index}`, event: events[index % 3] as string, body: JSON.stringify({ index }) };
    if (random() < 0.2) {
      const hangUp = new AbortController();
      const gone = status({ ...sent, signal: hangUp.signal }).catch(() => {});
      setImmediate(() => hangUp.abort());
      await gone;
    }
    while ((await status(sent)) !== 204);
  };
  const ids = Array.from({ length: 60 }, (_, index) => index);
  await Promise.all([...ids, ...ids].map(deliver));
  await Promise.all(ids.map(deliver));
  expect(await redis.hgetall('events')).toEqual({ push: '20', issues: '20', ping: '20' });
  expect((await deliveries(redis)).sort()).toEqual(ids.map((index) => `d${index}`).sort());
});

test('refuses what is forged, and asks Redis nothing about it', async () => {
  const { redis, status } = await stage();
  const asked = vi.fn(() => 'pass' as const);
  proxy.fate = asked;
  for (const signature of [
    sign(BODY, 'another secret'),
    sign(`${BODY} `),
    sign(BODY).slice(0, -1),
    `${sign(BODY)}0`,
    sign(BODY).toUpperCase(),
    sign(BODY).slice('sha256='.length),
    `sha1=${createHmac('sha1', SECRET).update(BODY).digest('hex')}`,
    '',
  ]) {
    expect(await status({ id: 'd1', signature })).toBe(401);
  }
  expect(asked).not.toHaveBeenCalled();
  expect(await status({ id: 'd1' })).toBe(204);
  expect(await deliveries(redis)).toEqual(['d1']);
});

test('refuses what it cannot take, without a record: the same id is free for what it can', async () => {
  const { redis, status } = await stage();
  expect(await status({ id: 'd1', method: 'GET' })).toBe(405);
  expect(await status({ id: 'd1', body: `"${'x'.repeat(1024 * 1024)}"` })).toBe(413);
  expect(await status({ id: 'd1', body: 'no JSON' })).toBe(400);
  expect(await status({})).toBe(400);
  expect(await status({ id: '' })).toBe(400);
  expect(await status({ id: 'x'.repeat(513) })).toBe(400);
  expect(await redis.exists('events', 'deliveries')).toBe(0);
  expect(await status({ id: 'd1' })).toBe(204);
  expect(logged).not.toHaveBeenCalled();
});

test('answers 422 to another body under an id that is done, and tells', async () => {
  const { redis, status } = await stage();
  expect(await status({ id: 'd1', body: '{"n":1}' })).toBe(204);
  expect(await status({ id: 'd1', body: '{"n":2}' })).toBe(422);
  expect(await status({ id: 'd1', body: '{"n":1}' })).toBe(204);
  expect(logged).toHaveBeenCalledTimes(1);
  expect(await redis.hgetall('events')).toEqual({ push: '1' });
});

test('answers 503 with Retry-After to a copy of what is running elsewhere, and 204 when it is done', async () => {
  const { redis, elsewhere, send, status } = await stage({ patience: '20ms' });
  const { handler, started, release } = heldHandler(undefined);
  const fingerprint = createHash('sha256').update(BODY).digest('hex');
  const first = elsewhere().scope('github').once('d1', handler, { fingerprint });
  await started;
  const answer = await send({ id: 'd1' });
  expect(answer.status).toBe(503);
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  release();
  await first;
  expect(await status({ id: 'd1' })).toBe(204);
  // The other's handler wrote nothing: this one had its result.
  expect(await redis.exists('events')).toBe(0);
});

test('while Redis is away it answers 503, and the delivery is counted once when it is back', async () => {
  const { redis, send, status } = await stage({ redisTimeout: '300ms' });
  // Before the claim; and after the commit, whose answer is lost: it is counted already, and its sender is not told so.
  for (const [id, fate] of [
    ['d1', () => 'lose request' as const],
    ['d2', ({ script }: { script: unknown }) => (script === 'claim' ? ('pass' as const) : ('lose reply' as const))],
  ] as const) {
    proxy.fate = fate;
    const answer = await send({ id });
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '1']);
    proxy.reset();
    proxy.cutAll();
    await until(async () => (await status({ id })) === 204);
  }
  expect(await redis.hgetall('events')).toEqual({ push: '2' });
  expect(await deliveries(redis)).toEqual(['d1', 'd2']);

  // The server itself dies, and comes back with nothing.
  await server.kill();
  expect(await status({ id: 'd3' })).toBe(503);
  await server.restart();
  await until(async () => (await status({ id: 'd3' })) === 204);
  expect(await status({ id: 'd3' })).toBe(204);
  expect(await deliveries(redis)).toEqual(['d3']);
  expect(logged).not.toHaveBeenCalled();
});
