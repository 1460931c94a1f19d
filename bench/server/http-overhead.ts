/**
 * What an Idempotency-Key adds to a request: each framework with a handler that answers a little JSON, bare, with a key of
 * its own, and with a key whose response is stored. Client, servers and Redis share the machine. `npm run bench:http`
 */
import { once } from 'node:events';
import { Agent, createServer, type RequestListener, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import Table from 'cli-table3';
import express from 'express';
import { fastify } from 'fastify';
import { Hono } from 'hono';
import { Redis } from 'ioredis';
import { idempotency as forExpress } from '../../src/http/express.js';
import { idempotency as forFastify } from '../../src/http/fastify.js';
import { idempotent } from '../../src/http/fetch.js';
import { idempotency as forHono } from '../../src/http/hono.js';
import { Dedup } from '../../src/index.js';
import { startRedis } from '../../test/support/redis/index.js';
import { median, spread, told } from '../measure/statistics.js';
import { circumstances, writeResults } from './server-time.js';

const ROUNDS = 15;
const REQUESTS = 400;
const AT_ONCE = 16;
const BODY = JSON.stringify({ cents: 1_999, to: 'bob' });
const scope = 'global';

const server = await startRedis();
const redis = new Redis(server.url);
const dedup = new Dedup(redis, { namespace: 'bench-http' });
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
const closing: (() => unknown)[] = [];

async function listen(listener: RequestListener): Promise<number> {
  const listening = createServer(listener).listen(0, '127.0.0.1');
  await once(listening, 'listening');
  closing.push(() => listening.close());
  return (listening.address() as AddressInfo).port;
}

function onExpress(isKeyed: boolean): Promise<number> {
  const app = express().use(express.json());
  if (isKeyed) app.use(forExpress(dedup, { scope }));
  app.post('/', (_req, res) => void res.status(201).json({ paid: 1_999 }));
  return listen(app as RequestListener);
}

async function onFastify(isKeyed: boolean): Promise<number> {
  const app = fastify();
  if (isKeyed) await app.register(forFastify, { dedup, scope });
  app.post('/', async (_request, reply) => reply.code(201).send({ paid: 1_999 }));
  closing.push(() => app.close());
  await app.listen({ port: 0, host: '127.0.0.1' });
  return (app.server.address() as AddressInfo).port;
}

function onHono(isKeyed: boolean): Promise<number> {
  const app = new Hono();
  if (isKeyed) app.use(forHono(dedup, { scope }) as never);
  app.post('/', async (c) => c.json({ paid: (await c.req.json<{ cents: number }>()).cents }, 201));
  return listen(getRequestListener(app.fetch));
}

function onFetch(isKeyed: boolean): Promise<number> {
  const bare = async (asked: Request) =>
    Response.json({ paid: ((await asked.json()) as { cents: number }).cents }, { status: 201 });
  return listen(getRequestListener(isKeyed ? idempotent(dedup, { scope }, bare) : bare));
}

let keys = 0;
const nextKey = () => `first-${keys++}`;
const copyKey = (framework: string) => `copy-${framework.replace(' ', '-')}`;

function send(port: number, key: string | undefined): Promise<void> {
  const headers = { 'content-type': 'application/json', 'content-length': BODY.length };
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        method: 'POST',
        agent,
        headers: key ? { ...headers, 'idempotency-key': key } : headers,
      },
      (response) => {
        if (response.statusCode !== 201) reject(new Error(`Answered ${response.statusCode}`));
        response.resume().on('end', resolve);
      },
    );
    sent.on('error', reject);
    sent.end(BODY);
  });
}

/** Microseconds a request, of one turn. */
async function turn(port: number, keyOf: () => string | undefined): Promise<number> {
  const startedAt = performance.now();
  let left = REQUESTS;
  const clients = Array.from({ length: AT_ONCE }, async () => {
    while (left > 0) {
      left -= 1;
      await send(port, keyOf());
    }
  });
  await Promise.all(clients);
  return ((performance.now() - startedAt) * 1_000) / REQUESTS;
}

const FRAMEWORKS = { 'Express 5': onExpress, 'Fastify 5': onFastify, 'Hono 4': onHono, Fetch: onFetch };

try {
  const ports = new Map<string, [bare: number, keyed: number]>();
  for (const [name, start] of Object.entries(FRAMEWORKS)) ports.set(name, [await start(false), await start(true)]);
  const samples = new Map([...ports.keys()].map((name) => [name, { bare: [], first: [], copy: [] } as Turns]));
  for (const [name, [, keyed]] of ports) await send(keyed, copyKey(name));
  // The first rounds warm up and are not counted.
  for (let round = -3; round < ROUNDS; round += 1) {
    for (const [name, [bare, keyed]] of ports) {
      const turns = {
        bare: await turn(bare, () => undefined),
        first: await turn(keyed, nextKey),
        copy: await turn(keyed, () => copyKey(name)),
      };
      if (round < 0) continue;
      for (const kind of ['bare', 'first', 'copy'] as const) samples.get(name)?.[kind].push(turns[kind]);
    }
  }
  const rows = [...samples].map(([name, { bare, first, copy }]) => ({
    name,
    bareMicros: spread(bare),
    firstAdds: spread(first.map((micros, round) => micros - (bare[round] as number))),
    copyAdds: spread(copy.map((micros, round) => micros - (bare[round] as number))),
  }));
  const table = new Table({
    head: ['', 'bare, µs a request', 'a first request adds', 'a copy adds'],
    style: { head: [] },
  });
  for (const { name, bareMicros, firstAdds, copyAdds } of rows) {
    table.push([name, told(bareMicros, 0), told(firstAdds, 0), told(copyAdds, 0)]);
  }
  console.log(table.toString());
  console.log(
    `Bare, the median over the frameworks is ${median(rows.map(({ bareMicros }) => bareMicros.median)).toFixed(0)} µs.`,
  );
  writeResults('http-overhead', {
    ...(await circumstances(redis)),
    command: 'npm run bench:http',
    rounds: ROUNDS,
    requests: REQUESTS,
    atOnce: AT_ONCE,
    rows,
  });
} finally {
  agent.destroy();
  for (const close of closing) await close();
  redis.disconnect();
  await server.stop();
}

interface Turns {
  bare: number[];
  first: number[];
  copy: number[];
}
