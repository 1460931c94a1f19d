import { expect, inject, onTestFinished, test } from 'vitest';
import { onceProcessor } from '../../../src/bullmq/index.js';
import type { OnceContext } from '../../../src/index.js';
import { connect, expectCode, makeDedup } from '../../support/index.js';
import { FaultProxy } from '../../support/proxy.js';

const handler = () => 1;

test('it declares three parameters: BullMQ gives its signal to no other', () => {
  expect(onceProcessor(makeDedup(), handler)).toHaveLength(3);
});

test.each<[options: object, message: RegExp]>([
  [{ key: 'order' }, /`key` to be a function of the job, got `order` \(string\)/],
  [{ fingerprint: {} }, /`fingerprint` to be a function/],
  [{ slot: 'a' }, /`slot` to be a function/],
  [{ onInProgress: 'wait' }, /`onInProgress` is not an option of `onceProcessor`/],
  [{ waitTimeout: '1s' }, /`waitTimeout` is not/],
  [{ signal: new AbortController().signal }, /`signal` is not/],
  [
    { namespace: 'x' },
    /`namespace` is not an option of `onceProcessor`\. It takes: key, fingerprint, slot, retention,/,
  ],
  [{ keys: () => 'k' }, /`keys` is not an option/],
  [null as never, /the options to be an object, got `null`/],
  [5 as never, /the options to be an object, got `5`/],
  [{ lease: '1ms' }, /`lease`/],
])('options that are wrong are told when it is made: %o', (options, message) => {
  expect(() => onceProcessor(makeDedup(), handler, options)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
  );
});

test('a fingerprint beside a record that is a mark is told when it is made', () => {
  const dedup = makeDedup();
  const record = dedup.seen('done');
  const fingerprint = () => 1;
  const message = expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining('no room') });
  expect(() => onceProcessor(dedup, handler, { record, fingerprint } as object)).toThrow(message);
  expect(() => onceProcessor(dedup.with({ record }), handler, { fingerprint })).toThrow(message);
});

test('a Dedup that is none is told when it is made', () => {
  for (const none of [{}, null, undefined, 'dedup']) {
    expect(() => onceProcessor(none as never, handler)).toThrow(/^Expected a Dedup, got /);
  }
});

test('a handler that is none is told when it is made', () => {
  expect(() => onceProcessor(makeDedup(), 'handler' as never)).toThrow('Expected the handler to be a function');
});

test('options that are undefined are as if not given', () => {
  const none = { key: undefined, fingerprint: undefined, slot: undefined, lease: undefined, retention: undefined };
  expect(() => onceProcessor(makeDedup(), handler, none)).not.toThrow();
});

/** As much of a Job as it takes. */
function jobStub(moved: (timestamp: number, token?: string) => Promise<void>) {
  return { id: '1', timestamp: 1, queueQualifiedName: 'bull:q', opts: {}, data: {}, moveToDelayed: moved } as never;
}

test('a job is moved with its token, and where that fails, BullMQ is told why', async () => {
  const dedup = makeDedup();
  const processor = onceProcessor(dedup, handler, { key: () => 'k' });
  const moves: unknown[] = [];
  let failure: Error | undefined;
  const job = jobStub(async (timestamp, token) => {
    moves.push({ afterMs: timestamp - Date.now(), token });
    if (failure) throw failure;
  });
  await dedup.once('k', async () => {
    await expect(processor(job, 'token-1')).rejects.toMatchObject({ name: 'DelayedError' });
    failure = new Error('Missing lock for job 1');
    await expect(processor(job, 'token-2')).rejects.toBe(failure);
  });
  expect(moves).toEqual([
    { afterMs: expect.closeTo(30_000, -4), token: 'token-1' },
    { afterMs: expect.closeTo(30_000, -4), token: 'token-2' },
  ]);
});

test('however little of the lease is left, the job is delayed by 100 ms: it does not come round and round', async () => {
  const dedup = makeDedup({ lease: '100ms' });
  const processor = onceProcessor(dedup, handler, { key: () => 'k' });
  const delays: number[] = [];
  await dedup.once('k', async () => {
    // Renewed at a third of the lease, what is left of it is anything from 66 to 100 ms.
    const startedAt = Date.now();
    while (Date.now() - startedAt < 100) {
      const askedAt = Date.now();
      const job = jobStub(async (timestamp) => void delays.push(timestamp - askedAt));
      await expect(processor(job, 'token')).rejects.toMatchObject({ name: 'DelayedError' });
    }
  });
  expect(Math.min(...delays)).toBeGreaterThanOrEqual(100);
});

test('a retention that is too short is told of the record’s own key, slot and all', async () => {
  const dedup = makeDedup();
  const hashes: string[] = [];
  for (const event of ['shortRetention', 'executed'] as const) dedup.on(event, ({ keyHash }) => hashes.push(keyHash));
  const processor = onceProcessor(dedup, handler, { slot: () => 'a', retention: '1s' });
  await processor(
    jobStub(() => expect.fail('moved')),
    'token',
  );
  expect(hashes).toHaveLength(2);
  expect(hashes[0]).toBe(hashes[1]);
});

test('a job whose attempt came to nothing here is looked at again in a second', async () => {
  const proxy = await FaultProxy.start(Number(new URL(inject('redisUrl')).port));
  onTestFinished(() => proxy.stop());
  proxy.fate = ({ script }) => (script === 'commit' ? 'cut after' : 'pass');
  const behind = makeDedup({ redisTimeout: 300 }, connect({ retryStrategy: () => 5 }, proxy.url));
  const dedup = makeDedup();
  const processors = {
    LEASE_LOST: onceProcessor(dedup, () => dedup.forget('k', { force: true }), { key: () => 'k' }),
    OUTCOME_UNKNOWN: onceProcessor(behind, handler),
  };
  for (const [code, processor] of Object.entries(processors)) {
    const delays: number[] = [];
    const askedAt = Date.now();
    const job = jobStub(async (timestamp) => void delays.push(timestamp - askedAt));
    await expect(processor(job, 'token'), code).rejects.toMatchObject({ name: 'DelayedError' });
    expect(delays[0], code).toBeGreaterThanOrEqual(1_000);
  }
});

test.each(['DelayedError', 'WaitingError', 'WaitingChildrenError'])(
  'a %s of the handler’s, of whatever copy of BullMQ, says nothing against the key',
  async (name) => {
    const dedup = makeDedup();
    const error = Object.assign(new Error('moved'), { name });
    const moving = (_job: unknown, { attempt }: OnceContext) => {
      if (attempt === 1) throw error;
      return attempt;
    };
    const processor = onceProcessor(dedup, moving, { key: () => 'k', maxAttempts: 1, onError: 'store' });
    const job = jobStub(() => expect.fail('moved by the processor'));
    await expect(processor(job, 'token')).rejects.toBe(error);
    expect(await processor(job, 'token')).toBe(2);
  },
);

test('a broken record fails its job for good', async () => {
  const redis = connect();
  const dedup = makeDedup({}, redis);
  const breaking = async () => {
    const { redisKey } = (await dedup.inspect('k')) as { redisKey: string };
    await redis.setrange(redisKey, 1, 'B');
  };
  const job = jobStub(() => expect.fail('moved'));
  await expect(onceProcessor(dedup, breaking, { key: () => 'k' })(job, 'token')).rejects.toMatchObject({
    name: 'UnrecoverableError',
    cause: expect.objectContaining({ code: 'BROKEN' }),
  });
});

test('a Dedup whose Redis is out of reach: the error is BullMQ’s to count', async () => {
  const redis = connect({ lazyConnect: true, retryStrategy: () => null }, 'redis://127.0.0.1:1');
  const dedup = makeDedup({ redisTimeout: '200ms' }, redis);
  const job = jobStub(() => expect.fail('moved'));
  await expectCode(onceProcessor(dedup, handler)(job, 'token'), 'STORE_UNAVAILABLE');
});

test('a signal that has aborted: nothing is claimed, and its reason is told as an Error', async () => {
  const dedup = makeDedup();
  const processor = onceProcessor(dedup, () => expect.fail('ran'), { key: () => 'k' });
  const job = jobStub(() => expect.fail('moved'));
  for (const [reason, message] of [
    ['by hand', 'The job was cancelled: by hand'],
    [null, 'The job was cancelled'],
  ]) {
    await expect(processor(job, 'token', AbortSignal.abort(reason))).rejects.toThrow(message as string);
  }
  const error = new Error('own');
  await expect(processor(job, 'token', AbortSignal.abort(error))).rejects.toBe(error);
  expect(await dedup.inspect('k')).toBeNull();
});

test('a handler that outlives maxRunTime is a failure that BullMQ counts: it would hang again and again', async () => {
  const dedup = makeDedup({ lease: 100, maxRunTime: 100 });
  const hung = onceProcessor(dedup, () => new Promise(() => {}), { key: () => 'k' });
  const job = jobStub(() => expect.fail('moved'));
  await expectCode(hung(job, 'token'), 'LEASE_LOST');
});
