/** Idempotency-Key over real sockets: one table of cases, in each framework. */
import { describe, expect, test } from 'vitest';
import type { ProblemName } from '../../src/http/problems.js';
import type { Codec, Dedup } from '../../src/index.js';
import { APPS, type AppOptions, type StartApp } from '../support/http/apps.js';
import { type Received, send } from '../support/http/client.js';
import type { World } from '../support/http/routes.js';
import { connect, freshNamespace, gate, makeDedup, until } from '../support/index.js';
import { CASES, JSON_HEADERS, type Step } from './cases.js';

async function stage(start: StartApp, options: AppOptions = {}, dedup?: Dedup) {
  const redis = connect();
  const world: World = { sum: freshNamespace(), runs: 0, hold: Promise.resolve() };
  const url = await start(dedup ?? makeDedup({}, redis), world, options);
  return { redis, world, url, sum: async () => Number((await redis.get(world.sum)) ?? 0) };
}

function ask(url: string, id: string, { key = `"${id}"`, account = 'a', json, ...sending }: Omit<Step, 'expect'>) {
  const headers: [string, string][] = [['x-account', account], ...((sending.headers ?? []) as [string, string][])];
  for (const line of key === null ? [] : ([key].flat() as string[])) headers.push(['Idempotency-Key', line]);
  const { path = '/', method = 'POST' } = sending;
  if (json !== undefined)
    return send(url, { method, path, headers: [...headers, ...JSON_HEADERS], body: JSON.stringify(json) });
  return send(url, { method, path, headers, ...(sending.body !== undefined && { body: sending.body }) });
}

function expectProblem({ status, headers, body }: Received, name: ProblemName): void {
  expect(headers['content-type']).toBe('application/problem+json');
  const told = JSON.parse(body.toString());
  expect(told).toMatchObject({ type: `urn:redis-once:problem:${name}`, status });
  expect(told.title).toEqual(expect.any(String));
  expect(told.detail).toEqual(expect.any(String));
}

describe.each(APPS)('%s', (name, start) => {
  test.each(CASES)('[$id] $title', async ({ id, options, steps, runs, sum }) => {
    const { url, world, ...stands } = await stage(start, options);
    let first: Received | undefined;
    for (const { expect: wanted, ...step } of steps) {
      const received = await ask(url, id, step);
      expect(received.status).toBe(wanted.status);
      for (const [name, value] of Object.entries(wanted.headers ?? {})) {
        const got = received.headers[name];
        expect(Array.isArray(got) ? got.join() : (got ?? null), name).toBe(value);
      }
      if (wanted.json !== undefined) expect(JSON.parse(received.body.toString())).toEqual(wanted.json);
      if (wanted.text !== undefined) expect(received.body.toString()).toBe(wanted.text);
      if (wanted.problem) expectProblem(received, wanted.problem);
      if (wanted.replayed === undefined) continue;
      expect(received.headers['idempotent-replayed'] ?? 'false').toBe(String(wanted.replayed));
      first ??= received;
      if (!wanted.replayed) continue;
      expect(received.body.equals((first as Received).body)).toBe(true);
      expect(received.headers['content-type']).toBe((first as Received).headers['content-type']);
    }
    expect(world.runs).toBe(runs);
    expect(await stands.sum()).toBe(sum);
  });

  test('[stripe-throw] with stripe the answer to a throw is stored, and none of the writes made', async () => {
    const { url, world, sum } = await stage(start, { store: 'stripe' });
    const [one, two] = [await ask(url, 'k', { path: '/throw' }), await ask(url, 'k', { path: '/throw' })];
    expect([one.status, two.status, await sum()]).toEqual([500, 500, 0]);
    // What a Fetch handler throws is answered by others.
    const isStored = name !== 'Fetch';
    expect([two.headers['idempotent-replayed'], world.runs]).toEqual(isStored ? ['true', 1] : [undefined, 2]);
  });

  test('[header] of another name is the one that problems speak of', async () => {
    const { url } = await stage(start, { header: 'X-Request-Key', required: true });
    const { status, body } = await ask(url, 'k', { path: '/pay', json: {} });
    expect(status).toBe(400);
    expect(String(body)).toContain('X-Request-Key');
    expect(String(body)).not.toContain('Idempotency-Key');
  });

  test('[replay-headers] of the caller’s choice come beside the type of the body', async () => {
    const { url } = await stage(start, { replayHeaders: ['X-Other'] });
    const [one, two] = [
      await ask(url, 'k', { path: '/pay', json: {} }),
      await ask(url, 'k', { path: '/pay', json: {} }),
    ];
    expect(two.headers).toMatchObject({ 'content-type': one.headers['content-type'], 'x-other': 'x' });
    expect(two.headers.location).toBeUndefined();
  });

  test('[outstanding] a copy that comes while the first runs is a 409, another body a 422; then it is replayed', async () => {
    const { url, world, sum } = await stage(start);
    const hold = gate();
    world.hold = hold.opened;
    const request = { path: '/held', json: {} };
    const first = ask(url, 'outstanding', request);
    await until(() => world.runs === 1);
    const copy = await ask(url, 'outstanding', request);
    expect(copy.status).toBe(409);
    expect(Number(copy.headers['retry-after'])).toBeGreaterThanOrEqual(1);
    expectProblem(copy, 'in-progress');
    const other = await ask(url, 'outstanding', { path: '/held', json: { other: 1 } });
    expect(other.status).toBe(422);
    expectProblem(other, 'key-reused');
    hold.open();
    expect((await first).status).toBe(200);
    const replayed = await ask(url, 'outstanding', request);
    expect(replayed.headers['idempotent-replayed']).toBe('true');
    expect(replayed.body).toEqual((await first).body);
    expect([world.runs, await sum()]).toEqual([1, 1]);
  });

  test('[fifty-throw] of 50 identical requests at once one runs, and the others are 409', async () => {
    const { url, world, sum } = await stage(start);
    const hold = gate();
    world.hold = hold.opened;
    let answered = 0;
    const all = Array.from({ length: 50 }, async () => {
      const received = await ask(url, 'fifty', { path: '/held', json: {} });
      answered += 1;
      return received;
    });
    await until(() => answered === 49);
    hold.open();
    const statuses = (await Promise.all(all)).map(({ status }) => status).sort();
    expect(statuses).toEqual([200, ...Array.from({ length: 49 }, () => 409)]);
    expect([world.runs, await sum()]).toEqual([1, 1]);
  });

  test('[fifty-wait] with wait, the others get the same bytes', async () => {
    const { url, world, sum } = await stage(start, { onInProgress: 'wait' });
    const hold = gate();
    world.hold = hold.opened;
    const all = Array.from({ length: 50 }, () => ask(url, 'fifty', { path: '/held', json: {} }));
    await until(() => world.runs === 1);
    hold.open();
    const received = await Promise.all(all);
    expect(new Set(received.map(({ status, body }) => `${status} ${body}`))).toEqual(new Set(['200 {"run":1}']));
    expect(received.filter(({ headers }) => headers['idempotent-replayed'])).toHaveLength(49);
    expect([world.runs, await sum()]).toEqual([1, 1]);
  });

  test('[hang-up] a client that hangs up leaves no stuck key: its response is stored all the same', async () => {
    const { url, world, sum } = await stage(start);
    const hold = gate();
    world.hold = hold.opened;
    const controller = new AbortController();
    const headers = { 'x-account': 'a', 'idempotency-key': 'gone', 'content-type': 'application/json' };
    const gone = fetch(`${url}/held`, { method: 'POST', headers, body: '{}', signal: controller.signal });
    await until(() => world.runs === 1);
    controller.abort();
    await expect(gone).rejects.toThrow();
    hold.open();
    const request = { path: '/held', json: {}, key: 'gone' };
    let copy = await ask(url, 'gone', request);
    while (copy.status === 409) copy = await ask(url, 'gone', request);
    expect([copy.status, copy.headers['idempotent-replayed'], String(copy.body)]).toEqual([200, 'true', '{"run":1}']);
    expect([world.runs, await sum()]).toEqual([1, 1]);
  });

  test('[redis-down] without Redis it is a 503 with Retry-After, and the handler does not run', async () => {
    const redis = connect({ lazyConnect: true, retryStrategy: () => null }, 'redis://127.0.0.1:1');
    const { url, world } = await stage(start, {}, makeDedup({ redisTimeout: '100ms' }, redis));
    const received = await ask(url, 'down', { path: '/text' });
    expect([received.status, received.headers['retry-after']]).toEqual([503, '1']);
    expectProblem(received, 'unavailable');
    expect(world.runs).toBe(0);
  });

  test('[redis-down-proceed] or the handler runs without dedup, where that is asked for', async () => {
    const redis = connect({ lazyConnect: true, retryStrategy: () => null }, 'redis://127.0.0.1:1');
    const dedup = makeDedup({ redisTimeout: '100ms' }, redis);
    const { url, world } = await stage(start, { onStoreFailure: 'proceed' }, dedup);
    // Its handler writes to tx, which is not to be had.
    const received = await ask(url, 'down', { path: '/text' });
    expect([received.status, world.runs]).toEqual([500, 1]);
  });

  test('[marks] a Dedup whose records are marks keeps responses all the same', async () => {
    const dedup = makeDedup();
    const { url, world } = await stage(start, {}, dedup.with({ record: dedup.seen('done') }) as Dedup<Codec> as Dedup);
    const first = await ask(url, 'marks', { path: '/text' });
    const copy = await ask(url, 'marks', { path: '/text' });
    expect([first.status, copy.status, world.runs]).toEqual([200, 200, 1]);
    expect(copy.body).toEqual(first.body);
  });

  test('[closed] a Dedup that is closed is a 503', async () => {
    const dedup = makeDedup();
    const { url } = await stage(start, {}, dedup);
    await dedup.close();
    expectProblem(await ask(url, 'closed', { path: '/text' }), 'not-applied');
  });
});
