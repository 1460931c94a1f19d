/** `redis-once/otel`: what OpenTelemetry's own SDK receives of calls of every kind, and what it never does. */
import { context, metrics, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { onceProcessor } from '../../src/bullmq/index.js';
import type { Dedup, DedupOptions } from '../../src/index.js';
import { type InstrumentOptions, instrument } from '../../src/otel/index.js';
import { EACH_BULLMQ, makeQueue } from '../support/bullmq.js';
import { APPS } from '../support/http/apps.js';
import { send } from '../support/http/client.js';
import {
  claimsOf,
  connect,
  expectCode,
  freshNamespace,
  gate,
  heldHandler,
  makeDedup,
  ownRedis,
  until,
} from '../support/index.js';
import { makeConsumer, makeStream } from '../support/streams.js';
import { type Point, type Sdk, startSdk } from '../support/telemetry.js';

beforeAll(() => void context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable()));
afterAll(() => context.disable());

/** An instrumented Dedup, and what is received of it. */
function watched(options: DedupOptions = {}, redis = connect(), how: InstrumentOptions = {}) {
  const namespace = options.namespace ?? freshNamespace();
  const sdk = startSdk();
  const dedup = instrument(makeDedup({ ...options, namespace }, redis), {
    tracer: sdk.tracer,
    meter: sdk.meter,
    ...how,
  });
  return { dedup, sdk, namespace, redis };
}

const attributesOf = (sdk: Sdk) => sdk.spans().map(({ attributes }) => attributes);
const outcomesOf = (sdk: Sdk) => attributesOf(sdk).map((attributes) => attributes['redis_once.outcome']);
const parentOf = (span: ReadableSpan | undefined) => span?.parentSpanContext?.spanId;
const idOf = (span: ReadableSpan | undefined) => span?.spanContext().spanId;
const failure = (message: string) => () => Promise.reject(new Error(message));

class PaymentDeclined extends Error {}

describe('a call', () => {
  test('that ran is one span and one point of each metric', async () => {
    const { dedup, sdk, namespace } = watched();
    const data = freshNamespace();
    await dedup.once('k', ({ tx }) => void tx.require.absent(data).set(data, 1).del(data));
    const [span, ...others] = sdk.spans();
    expect(others).toEqual([]);
    expect(span).toMatchObject({
      name: `once ${namespace}`,
      kind: 0,
      status: { code: SpanStatusCode.UNSET },
      events: [],
      links: [],
      ended: true,
    });
    expect(span?.attributes).toEqual({
      'redis_once.operation': 'once',
      'redis_once.namespace': namespace,
      'redis_once.outcome': 'executed',
      'redis_once.attempt': 1,
      'redis_once.waited_ms': 0,
      'redis_once.effects': 2,
    });
    const call = { 'redis_once.operation': 'once', 'redis_once.namespace': namespace };
    const ended = { ...call, 'redis_once.outcome': 'executed' };
    expect(await sdk.points('redis_once.calls')).toEqual([{ attributes: ended, value: 1 }]);
    const [duration] = await sdk.points('redis_once.call.duration');
    expect(duration).toEqual({ attributes: ended, value: { count: 1, sum: expect.any(Number) } });
    // In seconds: what the span itself took, and little more.
    const [seconds = 0, nanos = 0] = span?.duration ?? [];
    const { sum } = (duration as Point).value as { sum: number };
    expect(sum).toBeGreaterThanOrEqual(seconds + nanos / 1e9 - 0.001);
    expect(sum).toBeLessThan(seconds + nanos / 1e9 + 1);
    expect(await sdk.points('redis_once.commit.effects')).toEqual([{ attributes: call, value: { count: 1, sum: 2 } }]);
    for (const name of ['wait.duration', 'lease.losses', 'store.errors']) {
      expect(await sdk.points(`redis_once.${name}`)).toEqual([]);
    }
  });

  test('that was replayed tells the attempt that completed the key', async () => {
    const { dedup, sdk } = watched();
    await dedup.once('k', failure('first')).catch(() => {});
    await dedup.once('k', () => 1);
    await dedup.once('k', () => 1);
    expect(attributesOf(sdk)).toMatchObject([
      { 'redis_once.outcome': 'failed', 'redis_once.attempt': 1 },
      { 'redis_once.outcome': 'executed', 'redis_once.attempt': 2 },
      { 'redis_once.outcome': 'replayed', 'redis_once.attempt': 2 },
    ]);
    expect(attributesOf(sdk)[2]).not.toHaveProperty(['redis_once.effects']);
  });

  test('that waited, for another process or for its own, tells how long', async () => {
    const redis = connect();
    const { dedup, sdk, namespace } = watched({ hints: 'poll' }, redis);
    const holder = makeDedup({ namespace, hints: 'poll' });
    const { handler, started, release } = heldHandler('value');
    const held = holder.once('k', handler);
    await started;
    const claims = claimsOf(redis);
    const calls = [dedup.run('k', () => 'never'), dedup.run('k', () => 'never')];
    await until(() => claims() >= 2);
    release();
    await held;
    const waits = (await Promise.all(calls)).map(({ waitedMs }) => waitedMs);
    for (const waitedMs of waits) expect(waitedMs).toBeGreaterThan(0);
    const told = attributesOf(sdk).map((attributes) => attributes['redis_once.waited_ms']);
    expect(told.sort()).toEqual([...waits].sort());
    const [point] = await sdk.points('redis_once.wait.duration');
    const [first = 0, second = 0] = waits;
    expect(point).toEqual({
      attributes: { 'redis_once.operation': 'once', 'redis_once.namespace': namespace },
      value: { count: 2, sum: expect.closeTo((first + second) / 1_000, 9) },
    });
  });

  test('that fails is an error of the span, by its code or class and without a message', async () => {
    const { dedup, sdk, namespace } = watched();
    const data = freshNamespace();
    await expectCode(
      dedup.once('k', () => dedup.once('k', () => 1)),
      'IN_PROGRESS',
    );
    await dedup.once('declined', () => Promise.reject(new PaymentDeclined('of card 4111'))).catch(() => {});
    await dedup.once('text', () => Promise.reject('of card 4111')).catch(() => {});
    await dedup.once('stored', failure('of card 4111'), { onError: 'store' }).catch(() => {});
    await expectCode(dedup.once('stored', failure('never')), 'STORED_FAILURE');
    await expectCode(
      dedup.once('condition', ({ tx }) => void tx.require.exists(data)),
      'CONDITION_FAILED',
    );
    const undecodable = { encode: () => 'text', decode: () => expect.fail('of card 4111') };
    await expectCode(
      dedup.once('codec', () => 1, { codec: undecodable }),
      'CODEC',
    );
    const stop = new AbortController();
    const aborted = dedup.once('aborted', () => stop.abort(), { signal: stop.signal });
    await aborted;
    await dedup.once('late', () => 1, { signal: stop.signal }).catch(() => {});
    const failed = sdk.spans().filter(({ attributes }) => attributes['redis_once.outcome'] === 'failed');
    for (const { status, events } of failed) {
      expect(status).toEqual({ code: SpanStatusCode.ERROR });
      expect(events).toEqual([]);
    }
    expect(failed.map(({ attributes }) => [attributes['error.type'], attributes['redis_once.attempt']])).toEqual([
      ['IN_PROGRESS', undefined],
      ['IN_PROGRESS', 1],
      ['PaymentDeclined', 1],
      ['_OTHER', 1],
      ['Error', 1],
      ['STORED_FAILURE', 1],
      ['CONDITION_FAILED', 1],
      ['CODEC', 1],
      ['AbortError', undefined],
    ]);
    const declined = {
      'redis_once.operation': 'once',
      'redis_once.namespace': namespace,
      'redis_once.outcome': 'failed',
      'error.type': 'PaymentDeclined',
    };
    expect(await sdk.points('redis_once.calls')).toContainEqual({ attributes: declined, value: 1 });
  });

  test.each([
    ['a getter that throws', Object.defineProperty(new Error('x'), 'name', { get: () => expect.fail('read') })],
    ['a name with a payload in it', Object.assign(new Error('x'), { name: 'card 4111' })],
    ['no prototype', Object.create(null)],
    ['nothing', undefined],
  ])('whose handler throws what has %s rejects with that, and is told as some other error', async (_, thrown) => {
    const { dedup, sdk } = watched();
    const rejection = await dedup
      .once('k', () => Promise.reject(thrown))
      .then(
        () => expect.fail('resolved'),
        (reason: unknown) => [reason],
      );
    expect(rejection[0] === thrown).toBe(true);
    expect(attributesOf(sdk)).toMatchObject([{ 'redis_once.outcome': 'failed', 'error.type': '_OTHER' }]);
  });

  test('whose lease is lost counts as that', async () => {
    const { dedup, sdk, namespace } = watched();
    const call = dedup.once('k', () => dedup.forget('k', { force: true }));
    await expectCode(call, 'LEASE_LOST');
    expect(attributesOf(sdk)).toMatchObject([{ 'error.type': 'LEASE_LOST', 'redis_once.attempt': 1 }]);
    expect(await sdk.points('redis_once.lease.losses')).toEqual([
      { attributes: { 'redis_once.namespace': namespace, 'redis_once.reason': 'taken_over' }, value: 1 },
    ]);
  });

  test('that Redis does not answer, or refuses, counts as a store error, and one that goes on without it as bypassed', async () => {
    const away = connect({ lazyConnect: true }, 'redis://127.0.0.1:1');
    const { dedup, sdk, namespace } = watched({ redisTimeout: 20, onStoreFailure: 'proceed' }, away);
    await dedup.once('k', () => 1);
    await dedup
      .seen('set')
      .add('id')
      .catch(() => {});
    expect(outcomesOf(sdk)).toEqual(['bypassed', 'failed']);
    const url = await ownRedis();
    await connect({}, url).call('ACL', 'SETUSER', 'app', 'on', 'nopass', '~*', '&*', '+@all', '-set');
    const refused = connect({ username: 'app', password: 'x' }, url);
    const dedup2 = instrument(makeDedup({ namespace }, refused), { tracer: sdk.tracer, meter: sdk.meter });
    await expectCode(
      dedup2.once('k', () => 1),
      'STORE_UNAVAILABLE',
    );
    const error = (exchange: string, type: string) => ({
      attributes: { 'redis_once.namespace': namespace, 'redis_once.exchange': exchange, 'error.type': type },
      value: 1,
    });
    expect(await sdk.points('redis_once.store.errors')).toEqual([
      error('claim', 'no_answer'),
      error('seen', 'no_answer'),
      error('claim', 'NOPERM'),
    ]);
  });
});

describe('an apply', () => {
  test('tells its effects, its attempt, and why it was refused', async () => {
    const { dedup, sdk, redis, namespace } = watched();
    const data = freshNamespace();
    await redis.set(data, 'text');
    await expectCode(
      dedup.apply('k', (tx) => tx.incr(data)),
      'EFFECT_REJECTED',
    );
    await redis.del(data);
    await dedup.apply('k', (tx) => tx.incr(data).incr(data).del(data));
    await dedup.applyMany([{ key: 'k', write: (tx) => void tx.incr(data) }]);
    const call = { 'redis_once.operation': 'apply', 'redis_once.namespace': namespace };
    expect(attributesOf(sdk)).toEqual([
      {
        ...call,
        'redis_once.outcome': 'failed',
        'redis_once.attempt': 1,
        'redis_once.waited_ms': 0,
        'error.type': 'EFFECT_REJECTED',
      },
      {
        ...call,
        'redis_once.outcome': 'executed',
        'redis_once.attempt': 2,
        'redis_once.waited_ms': 0,
        'redis_once.effects': 3,
      },
      { ...call, 'redis_once.outcome': 'replayed', 'redis_once.attempt': 2, 'redis_once.waited_ms': 0 },
    ]);
    expect(await sdk.points('redis_once.commit.effects')).toEqual([{ attributes: call, value: { count: 1, sum: 3 } }]);
  });
});

describe('a set of seen ids', () => {
  test('tells of each call whether any of its ids was new, and how many were', async () => {
    const { dedup, sdk, namespace } = watched();
    const set = dedup.scope('s').seen('set');
    await set.add('a');
    await set.add('a');
    await set.addMany(['a', 'b', 'c']);
    await set.has('d');
    const told = attributesOf(sdk).map(({ 'redis_once.operation': operation, ...rest }) => [
      operation,
      rest['redis_once.outcome'],
      rest['redis_once.ids'],
      rest['redis_once.new_ids'],
    ]);
    expect(told).toEqual([
      ['seen.add', 'new', 1, 1],
      ['seen.add', 'seen', 1, 0],
      ['seen.add', 'new', 3, 2],
      ['seen.has', 'new', 1, 1],
    ]);
    expect(sdk.spans()[0]?.name).toBe(`seen.add ${namespace}`);
  });
});

describe('the span of a call', () => {
  test('is a child of the caller’s, and the parent of the handler’s, also where many calls share their exchanges', async () => {
    const { dedup, sdk } = watched();
    const keys = ['a', 'b', 'c'];
    await sdk.tracer.startActiveSpan('consume', async (consume) => {
      await dedup.onceMany(keys, {
        key: (key) => key,
        concurrency: 1,
        handler: (key) => sdk.tracer.startActiveSpan(`work ${key}`, (span) => span.end()),
      });
      consume.end();
    });
    const spans = sdk.spans();
    const consume = spans.find(({ name }) => name === 'consume');
    const calls = spans.filter(({ name }) => name.startsWith('once '));
    expect(calls.map(parentOf)).toEqual(keys.map(() => idOf(consume)));
    const work = keys.map((key) => spans.find(({ name }) => name === `work ${key}`));
    // Each of another call.
    expect(new Set(work.map(parentOf))).toEqual(new Set(calls.map(idOf)));
  });

  test('is active through waits and takeovers: the handler’s spans are its children whenever it begins', async () => {
    const redis = connect();
    const { dedup, sdk, namespace } = watched({ hints: 'poll' }, redis);
    const holder = makeDedup({ namespace, hints: 'poll' });
    const [started, hold] = [gate(), gate()];
    const held = holder.once('k', () => {
      started.open();
      return hold.opened;
    });
    await started.opened;
    const claims = claimsOf(redis);
    // The second follows the first in this process, and leads when that has failed.
    const calls = [1, 2].map((number) =>
      dedup.run('k', async () => {
        sdk.tracer.startSpan(`work ${number}`).end();
        if (number === 1) throw new Error('the first fails');
      }),
    );
    await until(() => claims() >= 2);
    hold.fail(new Error('the holder fails'));
    await held.catch(() => {});
    await Promise.allSettled(calls);
    const spans = sdk.spans();
    const [first, second] = ['failed', 'executed'].map((outcome) =>
      spans.find(({ attributes }) => attributes['redis_once.outcome'] === outcome),
    );
    expect(parentOf(spans.find(({ name }) => name === 'work 1'))).toBe(idOf(first));
    expect(parentOf(spans.find(({ name }) => name === 'work 2'))).toBe(idOf(second));
    expect(idOf(first)).not.toBe(idOf(second));
  });
});

describe('what takes an instrumented Dedup', () => {
  test('a view, made before or after, is instrumented as well; of a namespace, whatever its scope', async () => {
    const sdk = startSdk();
    const dedup = makeDedup();
    const before = dedup.scope('refunds');
    expect(instrument(before, { tracer: sdk.tracer, meter: sdk.meter })).toBe(before);
    await before.once('k', () => 1);
    await dedup
      .with({ retention: '1h' })
      .scope('refunds')
      .once('k', () => 1);
    await dedup.once('k', () => 1);
    expect(outcomesOf(sdk)).toEqual(['executed', 'replayed', 'executed']);
    expect(new Set(sdk.spans().map(({ name }) => name)).size).toBe(1);
  });

  test('a BullMQ processor', async () => {
    const [[, bullmq]] = EACH_BULLMQ as [(typeof EACH_BULLMQ)[number]];
    const { dedup, sdk } = watched();
    const { queue, work, finished } = makeQueue(bullmq);
    work(onceProcessor(dedup, () => sdk.tracer.startActiveSpan('work', (span) => span.end()), { key: () => 'k' }));
    for (const name of ['a', 'b']) await finished(await queue.add(name, {}));
    expect(sdk.spans().map(({ name }) => name.split(' ')[0])).toEqual(['work', 'once', 'once']);
    expect(outcomesOf(sdk).slice(1)).toEqual(['executed', 'replayed']);
    expect(parentOf(sdk.spans()[0])).toBe(idOf(sdk.spans()[1]));
  });

  test('a consumer of a stream', async () => {
    const { dedup, sdk } = watched({ lease: 1_000 });
    const stage = makeStream();
    const handler = () => sdk.tracer.startActiveSpan('work', (span) => span.end());
    const { consumer, processed } = makeConsumer(
      stage,
      handler,
      { key: ({ fields }) => fields.order as string },
      dedup,
    );
    await stage.add({ order: 'o' });
    await consumer.start();
    await processed(1);
    await stage.add({ order: 'o' });
    await processed(2);
    expect(outcomesOf(sdk).slice(1)).toEqual(['executed', 'replayed']);
    // The acknowledgement is an effect like any other.
    expect(attributesOf(sdk)[1]).toMatchObject({ 'redis_once.effects': 1 });
    expect(parentOf(sdk.spans()[0])).toBe(idOf(sdk.spans()[1]));
  });

  test('a route that takes an Idempotency-Key; a response that is not stored is its own kind of failure', async () => {
    const { dedup, sdk } = watched();
    const [[, start]] = APPS as [(typeof APPS)[number]];
    const url = await start(dedup, { sum: freshNamespace(), runs: 0, hold: Promise.resolve() }, {});
    const ask = (path: string, key: string) => send(url, { path, headers: [['idempotency-key', key]] });
    expect((await ask('/pay', 'a')).status).toBe(201);
    expect((await ask('/pay', 'a')).status).toBe(201);
    expect((await ask('/status/503', 'b')).status).toBe(503);
    expect(outcomesOf(sdk)).toEqual(['executed', 'replayed', 'failed']);
    expect(attributesOf(sdk)[2]).toMatchObject({ 'error.type': 'NotStored' });
  });
});

describe('what is exported', () => {
  const MARK = 'mark4111';

  test.each([{}, { keys: 'hash' as const }])(
    'holds no key, payload, result, written value, id, or message, with %o',
    async (how) => {
      const { dedup, sdk, redis } = watched({}, connect(), how);
      const marked = `key-${MARK}`;
      const data = `${freshNamespace()}-${MARK}`;
      await dedup.scope(`scope-${MARK}`).once(marked, () => ({ result: MARK }), { fingerprint: { payload: MARK } });
      await dedup.once(marked, ({ tx }) => void tx.set(data, MARK));
      await dedup.once(`${marked}-2`, failure(MARK)).catch(() => {});
      await dedup.once(`${marked}-3`, failure(MARK), { onError: 'store' }).catch(() => {});
      await dedup.once(`${marked}-3`, failure(MARK)).catch(() => {});
      await dedup.once(marked, () => 1, { fingerprint: MARK }).catch(() => {});
      await dedup.once(`${marked}-4`, () => dedup.forget(`${marked}-4`, { force: true })).catch(() => {});
      await dedup.once(`${marked}-5`, ({ tx }) => tx.incrby(data, MARK as never)).catch(() => {});
      await dedup.apply(`apply-${MARK}`, (tx) => tx.incr(data)).catch(() => {});
      await dedup.apply(`apply-${MARK}`, (tx) => tx.set(data, MARK));
      await dedup.seen(`set-${MARK}`).addMany([MARK]);
      await redis.del(data);
      const text = await sdk.text();
      expect(sdk.spans().length).toBeGreaterThan(10);
      expect(text).not.toContain(MARK);
      expect(text.includes('redis_once.key.hash')).toBe('keys' in how);
    },
  );

  test('tells a key by the same hash as events do, where that is asked for', async () => {
    const { dedup, sdk } = watched({}, connect(), { keys: 'hash' });
    const hashes: string[] = [];
    dedup.on('executed', ({ keyHash }) => hashes.push(keyHash));
    await dedup.once('k', () => 1);
    expect(attributesOf(sdk)[0]?.['redis_once.key.hash']).toBe(hashes[0]);
  });
});

describe('instrument', () => {
  test('a second time takes the place of the first: no call is told twice', async () => {
    const { dedup, sdk } = watched();
    const second = startSdk();
    instrument(dedup, { tracer: second.tracer, meter: second.meter });
    await expectCode(
      dedup.once('k', () => dedup.forget('k', { force: true })),
      'LEASE_LOST',
    );
    expect(sdk.spans()).toEqual([]);
    expect(await sdk.points('redis_once.lease.losses')).toEqual([]);
    expect(second.spans()).toHaveLength(1);
    expect(await second.points('redis_once.lease.losses')).toHaveLength(1);
  });

  test('takes tracer and meter of the global providers, under the name and version of the package', async () => {
    const sdk = startSdk();
    metrics.setGlobalMeterProvider(sdk.meterProvider);
    onTestFinished(() => {
      trace.disable();
      metrics.disable();
    });
    const dedup = instrument(makeDedup());
    // A tracer may come later.
    trace.setGlobalTracerProvider(sdk.tracerProvider);
    await dedup.once('k', () => 1);
    expect(sdk.spans()[0]?.instrumentationScope).toMatchObject({ name: 'redis-once', version: manifest.version });
    expect(await sdk.points('redis_once.calls')).toHaveLength(1);
  });

  test('without an SDK changes nothing about calls', async () => {
    const dedup = instrument(makeDedup());
    expect(await dedup.run('k', () => 'value')).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
    await expect(dedup.once('fails', failure('mine'))).rejects.toThrow('mine');
    expect(await dedup.apply('apply', () => {})).toEqual({ status: 'executed', replies: [], attempt: 1 });
    expect(await dedup.seen('set').addMany(['a', 'a'])).toEqual([true, false]);
  });

  test.each(['startSpan', 'setAttributes', 'end', 'with', 'add', 'record'])(
    'is no danger to calls where `%s` throws',
    async (failing) => {
      const sdk = startSdk();
      let threw = 0;
      const broken = <T extends object>(target: T): T =>
        new Proxy(target, {
          get(_, name) {
            const value = Reflect.get(target, name) as unknown;
            if (typeof value !== 'function') return value;
            return (...args: unknown[]) => {
              if (name === failing) {
                threw += 1;
                throw new Error('telemetry fails');
              }
              const made = value.apply(target, args) as unknown;
              const isMade = name === 'startSpan' || String(name).startsWith('create');
              return isMade ? broken(made as object) : made;
            };
          },
        });
      if (failing === 'with') {
        context.disable();
        context.setGlobalContextManager(broken(new AsyncLocalStorageContextManager()));
        onTestFinished(() => {
          context.disable();
          context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
        });
      }
      const dedup = instrument(makeDedup(), { tracer: broken(sdk.tracer), meter: broken(sdk.meter) });
      let runs = 0;
      const handler = () => {
        runs += 1;
        return 'value';
      };
      expect(await dedup.run('k', handler)).toMatchObject({ status: 'executed', value: 'value' });
      expect(await dedup.run('k', handler)).toMatchObject({ status: 'replayed', value: 'value' });
      await expect(dedup.once('fails', failure('mine'))).rejects.toThrow('mine');
      await expectCode(
        dedup.once('lost', () => dedup.forget('lost', { force: true })),
        'LEASE_LOST',
      );
      expect(runs).toBe(1);
      expect(threw).toBeGreaterThanOrEqual(4);
    },
  );

  test.each([
    [{ tracer: {} }, /`tracer` to be a Tracer, got an object/],
    [{ meter: null }, /`meter` to be a Meter, got `null`/],
    [{ keys: 'plain' }, /`keys` to be `none` or `hash`, got `plain`/],
    [{ spans: true }, /`spans` is not an option/],
  ])('names the option that is wrong: %o', (options, message) => {
    const dedup: Dedup = makeDedup({}, connect({ lazyConnect: true }));
    expect(() => instrument(dedup, options as never)).toThrow(message);
  });
});
