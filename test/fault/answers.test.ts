/** Single answers that get lost, at each exchange of a call: what its caller is told, and what the key then stands at. */
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Dedup, type DedupOptions } from '../../src/index.js';
import { expectCode, freshNamespace, gate, until } from '../support/index.js';
import { type Fate, type FaultProxy, type ProxiedCommand, startProxied } from '../support/proxy.js';
import type { RedisServer } from '../support/redis/index.js';

let server: RedisServer;
let proxy: FaultProxy;
beforeAll(async () => {
  ({ server, proxy } = await startProxied());
});
afterEach(() => proxy.reset());
afterAll(async () => {
  await proxy.stop();
  await server.stop();
});

/** A Dedup whose connection is ready: the time that it takes to connect is no part of a test. */
async function make(url: string, namespace: string, options: DedupOptions, redisOptions: object): Promise<Dedup> {
  const redis = new Redis(url, { retryStrategy: () => 5, ...redisOptions });
  redis.on('error', () => {});
  const dedup = new Dedup(redis, { namespace, redisTimeout: 300, allowEviction: true, ...options });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  });
  await until(() => redis.status === 'ready');
  return dedup;
}

/** One caller behind the proxy, one beside it, who is answered however slow the machine is. */
async function pair(options: DedupOptions = {}, redisOptions: object = {}): Promise<[behind: Dedup, beside: Dedup]> {
  const namespace = freshNamespace();
  const behind = await make(proxy.url, namespace, options, redisOptions);
  return [behind, await make(server.url, namespace, { ...options, redisTimeout: 20_000 }, {})];
}

/** A fate for the first of a script's commands, for all of them, or for some. */
function befall(
  script: ProxiedCommand['script'],
  fate: Fate,
  which: (index: number) => boolean = (index) => index === 0,
): void {
  let index = 0;
  proxy.fate = (command) => (command.script === script && which(index++) ? fate : 'pass');
}
const always = () => true;

describe('one lost answer', () => {
  test.each<[ProxiedCommand['script'], Fate]>([
    ['claim', 'cut before'],
    ['claim', 'cut after'],
    ['claim', 'tear'],
    ['commit', 'cut before'],
    ['commit', 'cut after'],
    ['commit', 'tear'],
  ])('of a %s, by %s, is made up for: the handler runs once and its result is stored', async (script, fate) => {
    const [behind, beside] = await pair();
    befall(script, fate);
    let runs = 0;
    expect(await behind.run('k', () => ++runs)).toMatchObject({ status: 'executed', value: 1, attempt: 1 });
    expect(await beside.run('k', () => ++runs)).toMatchObject({ status: 'replayed', value: 1, attempt: 1 });
  });

  test.each<[Fate]>([['lose reply'], ['lose request']])(
    'of a commit, by %s on a half-open connection, is sent again when the connection is new',
    async (fate) => {
      const [behind, beside] = await pair({ redisTimeout: 200 });
      befall('commit', fate);
      const call = behind.run('k', () => 'value');
      await until(() => (proxy.counts.get(fate as string) ?? 0) > 0);
      proxy.counts.clear();
      proxy.cutAll();
      expect(await call).toMatchObject({ status: 'executed', value: 'value' });
      expect(await beside.once('k', () => '')).toBe('value');
    },
  );
});

describe('a claim that is never answered', () => {
  test.each<[Fate]>([['lose reply'], ['lose request']])(
    '(%s) is told as such: the handler did not run',
    async (fate) => {
      const [behind, beside] = await pair({ lease: '20s' });
      befall('claim', fate, always);
      const error = await expectCode(
        behind.once('k', () => expect.fail('the handler must not run')),
        'STORE_UNAVAILABLE',
      );
      expect(error.message).toMatch(/the handler did not run/);
      // Given back once the connection is well again: the key is free long before the lease ends, and nothing was counted.
      proxy.fate = () => 'pass';
      proxy.cutAll();
      const outcome = await beside.run('k', ({ attempt }) => attempt, { maxAttempts: 1, waitTimeout: '15s' });
      expect(outcome).toMatchObject({ status: 'executed', value: 1 });
    },
  );

  test('is not given back where another holds the key', async () => {
    const [behind, beside] = await pair({}, { autoResendUnfulfilledCommands: false });
    const hold = gate();
    let begun = false;
    const held = beside.once('k', () => {
      begun = true;
      return hold.opened;
    });
    await until(() => begun);
    befall('claim', 'lose request', always);
    await expectCode(
      behind.once('k', () => expect.fail('the handler must not run')),
      'STORE_UNAVAILABLE',
    );
    const seen: (string | undefined)[] = [];
    proxy.fate = ({ script }) => {
      seen.push(script);
      return 'pass';
    };
    proxy.cutAll();
    await until(() => seen.includes('claim'));
    // What follows on the answer to that claim was sent before the second of these.
    await behind.inspect('k');
    await behind.inspect('k');
    expect(seen).toEqual(['claim', 'inspect', 'inspect']);
    hold.open();
    await held;
  });

  test('until another took the key and gave it up is stale: it is claimed anew, as attempt 3', async () => {
    const [behind, beside] = await pair({ redisTimeout: '5s', lease: 100 });
    let over = false;
    let first = true;
    proxy.fate = ({ script }) => {
      if (script !== 'claim' || over) return 'pass';
      const fate = first ? 'cut after' : 'cut before';
      first = false;
      return fate;
    };
    const call = behind.run('k', ({ attempt }) => attempt);
    await until(async () => (await beside.inspect('k'))?.state === 'in_progress');
    await expect(beside.once('k', () => Promise.reject(new Error('gives up')))).rejects.toThrow('gives up');
    over = true;
    expect(await call).toMatchObject({ status: 'executed', value: 3 });
  });

  test("is not bypassed by onStoreFailure: 'proceed', since it may stand", async () => {
    const [behind] = await pair({ onStoreFailure: 'proceed' });
    befall('claim', 'lose reply', always);
    await expectCode(
      behind.once('k', () => expect.fail('the handler must not run')),
      'STORE_UNAVAILABLE',
    );
  });
});

describe('a commit that is never answered', () => {
  test('though it was applied is done: settle tells', async () => {
    const [behind, beside] = await pair({ redisTimeout: 150 }, { autoResendUnfulfilledCommands: false });
    // The commit's answer is lost for the whole phase; the connection is new for settle.
    proxy.fate = ({ script }) => (script === 'commit' ? 'cut after' : 'pass');
    expect(await behind.run('k', () => 'value')).toMatchObject({ status: 'executed', value: 'value' });
    expect(await beside.once('k', () => '')).toBe('value');
  });

  test('and was never applied is surely not done: settle releases the key, and the next attempt is number 2', async () => {
    const [behind, beside] = await pair({ redisTimeout: 150 }, { autoResendUnfulfilledCommands: false });
    proxy.fate = ({ script }) => (script === 'commit' ? 'cut before' : 'pass');
    const error = await expectCode(
      behind.once('k', () => 'lost'),
      'STORE_UNAVAILABLE',
    );
    expect(error.message).toMatch(/the claim is released/);
    expect(await beside.run('k', ({ attempt }) => attempt, { maxAttempts: 1 })).toMatchObject({ value: 2 });
  });

  test.each<[Fate, string]>([
    ['cut after', 'completed'],
    ['cut before', 'in_progress'],
  ])('nor its settle (%s) is unknown, and a later call settles it', async (fate, state) => {
    const [behind, beside] = await pair({ redisTimeout: 150, lease: 400 });
    proxy.fate = ({ script }) => (script === 'commit' ? fate : script === 'settle' ? 'cut before' : 'pass');
    const error = await expectCode(
      behind.once('k', () => 'first'),
      'OUTCOME_UNKNOWN',
    );
    expect(error.retryable).toBe(true);
    expect((await beside.inspect('k'))?.state).toBe(state);
    const later = await beside.run('k', () => 'second');
    expect(later).toMatchObject(
      state === 'completed'
        ? { status: 'replayed', value: 'first' }
        : { status: 'executed', value: 'second', attempt: 2 },
    );
  });

  test('and whose record is gone meanwhile is unknown, never lost', async () => {
    const [behind, beside] = await pair();
    proxy.fate = ({ script }) => (script === 'commit' ? 'cut after' : 'pass');
    const call = behind.once('k', () => 'value');
    await until(async () => (await beside.inspect('k'))?.state === 'completed');
    await beside.forget('k');
    proxy.fate = () => 'pass';
    await expectCode(call, 'OUTCOME_UNKNOWN');
  });

  test('and whose record another took meanwhile is unknown, never lost', async () => {
    const [behind, beside] = await pair();
    proxy.fate = ({ script }) => (script === 'commit' ? 'cut after' : 'pass');
    const call = behind.once('k', () => 'value');
    await until(async () => (await beside.inspect('k'))?.state === 'completed');
    await beside.forget('k');
    expect(await beside.once('k', () => 'another')).toBe('another');
    proxy.fate = () => 'pass';
    await expectCode(call, 'OUTCOME_UNKNOWN');
    expect(await beside.once('k', () => '')).toBe('another');
  });
});

describe('a connection that stood all the time', () => {
  test('tells of a record that is gone that nothing was applied', async () => {
    const [behind, beside] = await pair();
    const hold = gate();
    const call = behind.once('k', () => hold.opened);
    await until(async () => (await beside.inspect('k'))?.state === 'in_progress');
    await beside.forget('k', { force: true });
    hold.open();
    await expectCode(call, 'LEASE_LOST');
  });
});

describe('late messages of an attempt that was given up', () => {
  const orders: [string, number[]][] = [
    ['claim, commit, settle', [0, 1, 2]],
    ['commit, settle, claim', [1, 2, 0]],
    ['settle, claim, commit', [2, 0, 1]],
    ['commit, claim, settle', [1, 0, 2]],
    ['claim, settle, commit', [0, 2, 1]],
    ['settle, commit, claim', [2, 1, 0]],
  ];

  test.each(orders)('in the order %s change nothing, and are told so', async (_name, order) => {
    const [behind, beside] = await pair(
      { redisTimeout: 150, lease: 300 },
      { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 },
    );
    // A copy of the claim is kept; every commit and settle is held back.
    const seen = new Set<string>();
    proxy.fate = ({ script }) => {
      if (script === undefined || script === 'renew' || (script === 'claim' && seen.has(script))) return 'pass';
      if (seen.has(script)) return 'cut before';
      seen.add(script);
      return script === 'claim' ? 'double' : 'hold';
    };
    await expectCode(
      behind.once('k', () => 'zombie'),
      'OUTCOME_UNKNOWN',
    );
    proxy.fate = () => 'pass';
    const taken = await beside.run('k', () => 'taker');
    expect(taken).toMatchObject({ status: 'executed', attempt: 2 });
    const before = await beside.inspect('k');
    expect(proxy.heldCount).toBe(3);
    const answers = await proxy.deliverHeld((held) => order.map((index) => held[index] as Buffer));
    expect(answers.join()).not.toMatch(/owned|done/);
    expect(await beside.inspect('k')).toEqual({ ...before, expiresInMs: expect.any(Number) });
    expect(await beside.once('k', () => '')).toBe('taker');
  });

  test.each([
    ['claim, settle', [0, 1]],
    ['settle, claim', [1, 0]],
  ] as const)(
    'that was released, in the order %s, change nothing, and the next attempt works',
    async (_name, order) => {
      const [behind, beside] = await pair();
      proxy.fate = ({ script }) => (script === 'claim' || script === 'settle' ? 'double' : 'pass');
      await behind.once('k', () => Promise.reject(new Error('gives up'))).catch(() => {});
      proxy.fate = () => 'pass';
      const before = await beside.inspect('k');
      expect(proxy.heldCount).toBe(2);
      const answers = await proxy.deliverHeld((held) => order.map((index) => held[index] as Buffer));
      expect(answers.join()).toMatch(/stale/);
      expect(answers.join()).toMatch(/released/);
      expect(await beside.inspect('k')).toEqual({ ...before, expiresInMs: expect.any(Number) });
      expect(await beside.run('k', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
    },
  );
});

describe('Redis that is not reached', () => {
  test('is told at once where the connection is closed, and the handler does not run', async () => {
    const [behind] = await pair();
    const redis = new Redis(proxy.url, { retryStrategy: () => null });
    redis.on('error', () => {});
    const dedup = new Dedup(redis, { namespace: freshNamespace() });
    redis.disconnect();
    await until(() => redis.status === 'end');
    const error = await expectCode(
      dedup.once('k', () => expect.fail('the handler must not run')),
      'STORE_UNAVAILABLE',
    );
    expect(error.message).toMatch(/closed/);
    expect(await behind.once('k', () => 1)).toBe(1);
  });

  test("is bypassed by onStoreFailure: 'proceed': without record, attempt 1, fence 0", async () => {
    const redis = new Redis(proxy.url, { retryStrategy: () => null });
    redis.on('error', () => {});
    const dedup = new Dedup(redis, { namespace: freshNamespace(), onStoreFailure: 'proceed' });
    redis.disconnect();
    await until(() => redis.status === 'end');
    const values = await Promise.all(
      [1, 2].map(() =>
        dedup.run('k', ({ attempt, fence, signal }) => ({ attempt, fence, aborted: signal.aborted, at: new Date(0) })),
      ),
    );
    for (const outcome of values) {
      expect(outcome).toMatchObject({ status: 'bypassed', attempt: 1 });
      expect(outcome.value).toEqual({ attempt: 1, fence: 0, aborted: false, at: new Date(0).toISOString() });
    }
    const aborted = dedup.once('k', () => expect.fail('the handler must not run'), {
      signal: AbortSignal.abort('reason'),
    });
    await expect(aborted).rejects.toBe('reason');
  });

  test("ends a bypass by the caller's signal, and by its codec", async () => {
    const redis = new Redis(proxy.url, { retryStrategy: () => null });
    redis.on('error', () => {});
    const dedup = new Dedup(redis, { namespace: freshNamespace(), onStoreFailure: 'proceed' });
    redis.disconnect();
    await until(() => redis.status === 'end');
    const controller = new AbortController();
    const handler = async ({ signal }: { signal: AbortSignal }) => {
      controller.abort('no longer wanted');
      signal.throwIfAborted();
    };
    await expect(dedup.once('k', handler, { signal: controller.signal })).rejects.toBe('no longer wanted');
    await expectCode(
      dedup.once('k', () => 1n),
      'CODEC',
    );
    const { signal } = new AbortController();
    const listening = new Set<unknown>();
    signal.addEventListener = ((_type: string, listener: unknown) => listening.add(listener)) as never;
    signal.removeEventListener = ((_type: string, listener: unknown) => listening.delete(listener)) as never;
    expect(await dedup.once('k', () => listening.size, { signal })).toBe(1);
    expect(listening.size).toBe(0);
  });

  test('is bypassed for maxRunTime at most: the handler is told, and cut off', async () => {
    const redis = new Redis(proxy.url, { retryStrategy: () => null });
    redis.on('error', () => {});
    const dedup = new Dedup(redis, {
      namespace: freshNamespace(),
      onStoreFailure: 'proceed',
      lease: 100,
      maxRunTime: 150,
    });
    redis.disconnect();
    await until(() => redis.status === 'end');
    let signal: AbortSignal | undefined;
    const call = dedup.once('k', (context) => {
      signal = context.signal;
      return new Promise(() => {});
    });
    await expectCode(call, 'LEASE_LOST');
    expect(signal?.reason.message).toMatch(/maxRunTime/);
  });

  test('in time runs no handler where the Dedup closes, or the caller aborts, meanwhile', async () => {
    const make = () => {
      const redis = new Redis(proxy.url, { lazyConnect: true });
      redis.connect = () => new Promise(() => {});
      return new Dedup(redis, { namespace: freshNamespace(), onStoreFailure: 'proceed', redisTimeout: 100 });
    };
    const handler = () => expect.fail('the handler must not run');
    const [closing, open] = [make(), make()];
    const closed = expectCode(closing.once('k', handler), 'CLOSED');
    const done = closing.close();
    expect((await closed).key).toBe('k');
    await done;
    const controller = new AbortController();
    const aborted = open.once('k', handler, { signal: controller.signal });
    controller.abort('no longer wanted');
    await expect(aborted).rejects.toBe('no longer wanted');
    await open.close();
  });

  test('is bypassed by each caller for itself: none waits for the handler of another', async () => {
    const redis = new Redis(proxy.url, { retryStrategy: () => null });
    redis.on('error', () => {});
    const dedup = new Dedup(redis, { namespace: freshNamespace(), onStoreFailure: 'proceed' });
    redis.disconnect();
    await until(() => redis.status === 'end');
    let begun = 0;
    const hold = gate();
    const calls = [1, 2].map(() =>
      dedup.run('k', async () => {
        begun += 1;
        await hold.opened;
      }),
    );
    await until(() => begun === 2);
    hold.open();
    await Promise.all(calls);
  });

  test('of a forget without an answer is unknown', async () => {
    const [behind] = await pair({ redisTimeout: 100 });
    await behind.once('k', () => 1);
    befall('forget', 'lose reply', always);
    await expectCode(behind.forget('k'), 'OUTCOME_UNKNOWN');
  });

  test('after a handler has failed is made up for: the key is released when the connection is well', async () => {
    const [behind, beside] = await pair({ redisTimeout: 100, lease: '30s' }, { autoResendUnfulfilledCommands: false });
    befall('settle', 'lose request');
    await expect(behind.once('k', () => Promise.reject(new Error('its own')))).rejects.toThrow('its own');
    proxy.cutAll();
    expect(await beside.run('k', ({ attempt }) => attempt, { waitTimeout: '15s' })).toMatchObject({ value: 2 });
  });

  test('leaves no payload in what is thrown', async () => {
    const [behind] = await pair({ redisTimeout: 100 });
    proxy.fate = ({ script }) => (script === 'claim' ? 'pass' : 'cut before');
    const error = await expectCode(
      behind.once('k', () => 'hunter2', { fingerprint: 'hunter3' }),
      'OUTCOME_UNKNOWN',
    );
    const { inspect } = await import('node:util');
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/hunter/);
  });
});
