/** The types of Dedup as callers meet them: connections, options, handlers, results, errors. */
import type { Cluster, Redis } from 'ioredis';
import type { Cluster as Cluster5, Redis as Redis5 } from 'ioredis5';
import { expectTypeOf, test } from 'vitest';
import {
  type AttemptsExhaustedError,
  type BrokenRecordError,
  type ClosedError,
  type Codec,
  type CodecError,
  Dedup,
  DedupError,
  type DedupErrorCode,
  type DedupErrorsByCode,
  type DedupEvents,
  type DedupOptions,
  type FingerprintMismatchError,
  type Handler,
  InProgressError,
  type InvalidKeyError,
  type InvalidOptionError,
  isDedupError,
  json,
  type LeaseLostError,
  type LeaseLostReason,
  type NoResult,
  type OnceContext,
  type OnceOptions,
  type Outcome,
  type OutcomeUnknownError,
  RETENTION,
  type RecordInfo,
  type RedisConnection,
  type ResultTooLargeError,
  type SeenOptions,
  type SeenSet,
  type StoredFailureError,
  type StoreUnavailableError,
  type UnsafeServerError,
} from '../../src/index.js';

declare const redis: Redis;
declare const dedup: Dedup;
declare const error: unknown;

/** Keeps every type: no `form: 'json'`. */
const lossless = {
  encode: (value: unknown) => String(value),
  decode: (bytes: Buffer): unknown => bytes,
};
const now = () => ({ at: new Date() });

test('a connection is a Redis or a Cluster, of ioredis 5 or 6, whatever its reply mapping', () => {
  expectTypeOf<Redis>().toExtend<RedisConnection>();
  expectTypeOf<Redis<'legacy'>>().toExtend<RedisConnection>();
  expectTypeOf<Redis<'resp3'>>().toExtend<RedisConnection>();
  expectTypeOf<Cluster>().toExtend<RedisConnection>();
  expectTypeOf<Cluster<'resp3'>>().toExtend<RedisConnection>();
  expectTypeOf<Redis5>().toExtend<RedisConnection>();
  expectTypeOf<Cluster5>().toExtend<RedisConnection>();
  expectTypeOf(new Dedup({} as Redis | Cluster | Redis5 | Cluster5)).toExtend<Dedup>();
});

test('a connection is nothing else', () => {
  // @ts-expect-error: an address is no connection
  new Dedup('redis://localhost');
  // @ts-expect-error: nor are its options
  new Dedup({ host: 'localhost' });
  // @ts-expect-error: a pipeline has no state of its own
  new Dedup(redis.pipeline());
  // @ts-expect-error: a connection is needed
  new Dedup();
  // @ts-expect-error: and a view is made by `scope` and `with`
  new Dedup(dedup);
});

test('a call gives the JSON form of what its handler returns, at once or later', async () => {
  expectTypeOf(dedup.once('k', () => 1 as const)).toEqualTypeOf<Promise<1>>();
  expectTypeOf(dedup.once('k', async () => 'a')).toEqualTypeOf<Promise<string>>();
  expectTypeOf(dedup.once('k', () => ({}) as PromiseLike<Date>)).toEqualTypeOf<Promise<string>>();
  expectTypeOf(dedup.once('k', async () => {})).toEqualTypeOf<Promise<undefined>>();
  expectTypeOf(dedup.once('k', now)).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf(dedup.run('k', now)).toEqualTypeOf<Promise<Outcome<{ at: string }>>>();
  expectTypeOf(dedup.once('k', now, { lease: '5s' })).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf<Outcome<1>>().toEqualTypeOf<{
    readonly status: 'executed' | 'replayed' | 'bypassed';
    readonly value: 1;
    readonly attempt: number;
    readonly waitedMs: number;
  }>();
  expectTypeOf<Handler<number>>().toEqualTypeOf<(context: OnceContext) => number | PromiseLike<number>>();
  dedup.once('k', (context) => {
    expectTypeOf(context).toEqualTypeOf<OnceContext>();
    expectTypeOf(context.idempotencyKey('charge')).toEqualTypeOf<string>();
    expectTypeOf(context.signal).toEqualTypeOf<AbortSignal>();
    // @ts-expect-error: what a handler is told is not its to change
    context.attempt = 2;
  });
});

test('a lossless codec gives the type itself: of the whole Dedup, of a view, of a call', () => {
  const whole = new Dedup(redis, { namespace: 'orders', codec: lossless });
  const view = dedup.with({ codec: lossless });
  expectTypeOf(whole.once('k', now)).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(whole.run('k', now)).toEqualTypeOf<Promise<Outcome<{ at: Date }>>>();
  expectTypeOf(whole.once('k', now, { lease: '5s' })).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(whole.scope('a').once('k', now)).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(whole.with({ slot: 's' }).once('k', now)).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(view.once('k', now)).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(view.run('k', now, { lease: '5s' })).toEqualTypeOf<Promise<Outcome<{ at: Date }>>>();
  expectTypeOf(view.scope('a').with({ lease: 1_000 }).once('k', now)).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(dedup.once('k', now, { codec: lossless })).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(dedup.run('k', now, { codec: lossless })).toEqualTypeOf<Promise<Outcome<{ at: Date }>>>();
  expectTypeOf(dedup.once('k', async () => {}, { codec: lossless })).toEqualTypeOf<Promise<void>>();
});

test('without a codec, and with `json`, a call gives the JSON form', () => {
  expectTypeOf(new Dedup(redis).once('k', now)).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf(new Dedup(redis, { lease: '5s' }).once('k', now)).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf(new Dedup(redis, { codec: json }).once('k', now)).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf(dedup.scope('a', 'b').once('k', now)).toEqualTypeOf<Promise<{ at: string }>>();
  const view = dedup.with({ slot: 'acct-42', fingerprint: { a: [1] }, retention: RETENTION.financial });
  expectTypeOf(view.run('k', now)).toEqualTypeOf<Promise<Outcome<{ at: string }>>>();
  const keeping = new Dedup(redis, { codec: lossless });
  expectTypeOf(keeping.once('k', now, { codec: json })).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf(keeping.with({ codec: json }).once('k', now)).toEqualTypeOf<Promise<{ at: string }>>();
});

test('every optional property of the options accepts undefined', () => {
  type RefusesUndefined<Options> = {
    [K in keyof Required<Options>]: undefined extends Required<Options>[K] ? never : K;
  }[keyof Options];
  expectTypeOf<RefusesUndefined<{ a?: string; b?: string | undefined }>>().toEqualTypeOf<'a'>();
  expectTypeOf<RefusesUndefined<DedupOptions>>().toBeNever();
  expectTypeOf<RefusesUndefined<OnceOptions>>().toBeNever();
  expectTypeOf<RefusesUndefined<NonNullable<Parameters<Dedup['inspect']>[1]>>>().toBeNever();
  expectTypeOf<RefusesUndefined<NonNullable<Parameters<Dedup['forget']>[1]>>>().toBeNever();
  expectTypeOf<RefusesUndefined<NonNullable<Parameters<Dedup['close']>[0]>>>().toBeNever();
  new Dedup(redis, undefined);
  dedup.once('k', now, undefined);
  dedup.forget('k', undefined);
  dedup.inspect('k', undefined);
  dedup.close(undefined);
});

test('durations are whole milliseconds or a number with a unit', () => {
  for (const lease of [250, '250ms', '30s', '5m', '24h', '7d', RETENTION.async] as const) dedup.with({ lease });
  // @ts-expect-error: no such unit
  dedup.with({ lease: '2w' });
  // @ts-expect-error: no unit
  dedup.with({ lease: '30' });
  // @ts-expect-error: no number
  dedup.with({ lease: 'soon' });
  // @ts-expect-error: spelt out
  dedup.with({ lease: '7 days' });
});

test('wrong options of a Dedup are type errors', () => {
  // @ts-expect-error: no such option
  new Dedup(redis, { ttl: '1h' });
  // @ts-expect-error: misspelt
  new Dedup(redis, { nameSpace: 'orders' });
  // @ts-expect-error: not a string
  new Dedup(redis, { namespace: 1 });
  // @ts-expect-error: no such way to be woken
  new Dedup(redis, { hints: 'stream' });
  // @ts-expect-error: no such policy
  new Dedup(redis, { onStoreFailure: 'ignore' });
  // @ts-expect-error: not a boolean
  new Dedup(redis, { allowEviction: 'yes' });
  // @ts-expect-error: a codec decodes as well
  new Dedup(redis, { codec: { encode: String } });
  // @ts-expect-error: a codec gives bytes or text
  new Dedup(redis, { codec: { encode: () => 1, decode: () => 1 } });
  // @ts-expect-error: belongs to a call or a view
  new Dedup(redis, { fingerprint: 1 });
  // @ts-expect-error: belongs to a call or a view
  new Dedup(redis, { slot: 'a' });
  // @ts-expect-error: belongs to a call or a view
  new Dedup(redis, { signal: new AbortController().signal });
});

test('wrong options of a call or a view are type errors', () => {
  // @ts-expect-error: no such option
  dedup.once('k', now, { ttl: '1h' });
  // @ts-expect-error: belongs to the whole Dedup
  dedup.once('k', now, { namespace: 'orders' });
  // @ts-expect-error: belongs to the whole Dedup
  dedup.with({ redisTimeout: '1s' });
  // @ts-expect-error: no such choice
  dedup.once('k', now, { onInProgress: 'skip' });
  // @ts-expect-error: no such policy
  dedup.once('k', now, { onError: 'retry' });
  // @ts-expect-error: no such policy
  dedup.once('k', now, { onError: () => 'retry' });
  // @ts-expect-error: a policy is needed at once
  dedup.once('k', now, { onError: async () => 'store' });
  // @ts-expect-error: not a number
  dedup.run('k', now, { maxAttempts: '3' });
  // @ts-expect-error: a controller is not its signal
  dedup.run('k', now, { signal: new AbortController() });
  // @ts-expect-error: not a string
  dedup.run('k', now, { slot: 42 });
  // @ts-expect-error: options are needed
  dedup.with();
});

test('wrong keys, segments and handlers are type errors', () => {
  // @ts-expect-error: not a string
  dedup.once(1, now);
  // @ts-expect-error: not a string
  dedup.once(undefined, now);
  // @ts-expect-error: a handler is needed
  dedup.once('k');
  // @ts-expect-error: a promise is not a handler
  dedup.once('k', Promise.resolve(1));
  // @ts-expect-error: a handler is told of its attempt alone
  dedup.run('k', (key: string) => key);
  // @ts-expect-error: not a string
  dedup.scope('a', 1);
  // @ts-expect-error: no such option
  dedup.forget('k', { forced: true });
  // @ts-expect-error: `force` is for `forget`
  dedup.inspect('k', { force: true });
  // @ts-expect-error: no such duration
  dedup.close({ drain: 'soon' });
});

test('records are told in full, or as null', () => {
  expectTypeOf(dedup.inspect('k', { slot: 's' })).toEqualTypeOf<Promise<RecordInfo | null>>();
  expectTypeOf(dedup.forget('k', { force: true })).toEqualTypeOf<Promise<boolean>>();
  expectTypeOf<RecordInfo['state']>().toEqualTypeOf<'in_progress' | 'completed' | 'failed' | 'released' | 'broken'>();
  expectTypeOf<RecordInfo['leaseRemainingMs']>().toEqualTypeOf<number | null>();
});

test('a listener gets what its event carries', () => {
  expectTypeOf(dedup.on('executed', () => {})).toEqualTypeOf<() => void>();
  dedup.on('leaseLost', (event) => {
    expectTypeOf(event).toEqualTypeOf<DedupEvents['leaseLost']>();
    expectTypeOf(event.reason).toEqualTypeOf<LeaseLostReason>();
    expectTypeOf(event.keyHash).toEqualTypeOf<string>();
  });
  // @ts-expect-error: no such event
  dedup.on('lost', () => {});
  // @ts-expect-error: a server is not about a key
  dedup.on('unsafeServer', ({ key }) => key);
});

test('a Dedup is closed at the end of its block by `await using`', () => {
  expectTypeOf<Dedup>().toExtend<AsyncDisposable>();
  expectTypeOf(dedup.close({ drain: 0 })).toEqualTypeOf<Promise<void>>();
});

test('isDedupError narrows to the class of the code', () => {
  if (isDedupError(error, 'IN_PROGRESS')) expectTypeOf(error).toEqualTypeOf<InProgressError>();
  if (isDedupError(error, 'FINGERPRINT_MISMATCH')) expectTypeOf(error).toEqualTypeOf<FingerprintMismatchError>();
  if (isDedupError(error, 'STORED_FAILURE')) expectTypeOf(error).toEqualTypeOf<StoredFailureError>();
  if (isDedupError(error, 'ATTEMPTS_EXHAUSTED')) expectTypeOf(error).toEqualTypeOf<AttemptsExhaustedError>();
  if (isDedupError(error, 'LEASE_LOST')) expectTypeOf(error).toEqualTypeOf<LeaseLostError>();
  if (isDedupError(error, 'BROKEN')) expectTypeOf(error).toEqualTypeOf<BrokenRecordError>();
  if (isDedupError(error, 'RESULT_TOO_LARGE')) expectTypeOf(error).toEqualTypeOf<ResultTooLargeError>();
  if (isDedupError(error, 'CODEC')) expectTypeOf(error).toEqualTypeOf<CodecError>();
  if (isDedupError(error, 'INVALID_KEY')) expectTypeOf(error).toEqualTypeOf<InvalidKeyError>();
  if (isDedupError(error, 'INVALID_OPTION')) expectTypeOf(error).toEqualTypeOf<InvalidOptionError>();
  if (isDedupError(error, 'CLOSED')) expectTypeOf(error).toEqualTypeOf<ClosedError>();
  if (isDedupError(error, 'UNSAFE_SERVER')) expectTypeOf(error).toEqualTypeOf<UnsafeServerError>();
  if (isDedupError(error, 'STORE_UNAVAILABLE')) expectTypeOf(error).toEqualTypeOf<StoreUnavailableError>();
  if (isDedupError(error, 'OUTCOME_UNKNOWN')) expectTypeOf(error).toEqualTypeOf<OutcomeUnknownError>();
});

test('every code is that of its class, and the retryable ones are told in the type', () => {
  type Codes = { [Code in DedupErrorCode]: DedupErrorsByCode[Code]['code'] };
  expectTypeOf<Codes>().toEqualTypeOf<{ [Code in DedupErrorCode]: Code }>();
  type Retryable = { [Code in DedupErrorCode]: DedupErrorsByCode[Code]['retryable'] extends true ? Code : never };
  expectTypeOf<Retryable[DedupErrorCode]>().toEqualTypeOf<
    'IN_PROGRESS' | 'LEASE_LOST' | 'CONDITION_FAILED' | 'STORE_UNAVAILABLE' | 'OUTCOME_UNKNOWN' | 'NOT_DURABLE'
  >();
});

test('isDedupError without a code narrows to all classes, and their codes tell them apart', () => {
  if (isDedupError(error)) {
    expectTypeOf(error).toEqualTypeOf<DedupErrorsByCode[DedupErrorCode]>();
    if (error.code === 'IN_PROGRESS') expectTypeOf(error.retryAfterMs).toEqualTypeOf<number>();
    if (error.code === 'STORED_FAILURE') expectTypeOf(error.failure.name).toEqualTypeOf<string>();
    if (error.retryable) expectTypeOf(error).not.toExtend<ClosedError>();
    // @ts-expect-error: not every error has it
    error.retryAfterMs;
  } else {
    expectTypeOf(error).toBeUnknown();
  }
  // @ts-expect-error: no such code
  isDedupError(error, 'IN_PROGRES');
});

test('instanceof narrows as well', () => {
  if (error instanceof InProgressError) expectTypeOf(error).toEqualTypeOf<InProgressError>();
  if (error instanceof DedupError) {
    expectTypeOf(error).toEqualTypeOf<DedupError>();
    expectTypeOf(error.key).toEqualTypeOf<string | undefined>();
  }
});

test('options without a codec leave the one around them, also where they are annotated or their codec is undefined', () => {
  const keeping = dedup.with({ codec: lossless });
  const call: OnceOptions = { lease: '5s' };
  const whole: DedupOptions = { namespace: 'orders' };
  expectTypeOf(new Dedup(redis, whole).once('k', now)).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf(dedup.once('k', now, call)).toEqualTypeOf<Promise<{ at: string }>>();
  expectTypeOf(dedup.run('k', now, { codec: undefined })).toEqualTypeOf<Promise<Outcome<{ at: string }>>>();
  expectTypeOf(dedup.with({ codec: undefined })).toEqualTypeOf<Dedup>();
  expectTypeOf(keeping.once('k', now, call)).toEqualTypeOf<Promise<{ at: Date }>>();
  expectTypeOf(keeping.with(call).once('k', now, { codec: undefined })).toEqualTypeOf<Promise<{ at: Date }>>();
  const either = {} as OnceOptions<typeof lossless | undefined>;
  expectTypeOf(dedup.once('k', now, either)).toEqualTypeOf<Promise<{ at: string } | { at: Date }>>();
});

test('a Dedup is not taken for one with another codec', () => {
  expectTypeOf<Dedup<typeof lossless>>().not.toExtend<Dedup>();
  expectTypeOf<Dedup>().not.toExtend<Dedup<typeof lossless>>();
  expectTypeOf<Dedup>().toExtend<Dedup<Codec>>();
});

test('a set of seen ids tells yes or no', async () => {
  const set = dedup.seen('events', { window: '24h', capacity: 10, buckets: 1, slot: 's' });
  expectTypeOf(set).toEqualTypeOf<SeenSet>();
  expectTypeOf(dedup.seen).parameters.toEqualTypeOf<[name: string, options?: SeenOptions]>();
  expectTypeOf(await set.add('id')).toEqualTypeOf<boolean>();
  expectTypeOf(await set.has('id')).toEqualTypeOf<boolean>();
  expectTypeOf(await set.addMany(['id'] as const)).toEqualTypeOf<boolean[]>();
});

test('calls whose record is a mark come to nothing', async () => {
  const record = dedup.seen('done');
  const handler = ({ attempt }: OnceContext) => ({ attempt });
  expectTypeOf(await dedup.once('k', handler, { record })).toEqualTypeOf<undefined>();
  expectTypeOf((await dedup.run('k', handler, { record, lease: '1m' })).value).toEqualTypeOf<undefined>();
  expectTypeOf(await dedup.once('k', handler, { record: 'full' })).toEqualTypeOf<{ attempt: number }>();
  const view = dedup.with({ record });
  expectTypeOf(view).toEqualTypeOf<Dedup<NoResult>>();
  expectTypeOf(await view.once('k', handler)).toEqualTypeOf<undefined>();
  expectTypeOf(await view.scope('a').once('k', handler)).toEqualTypeOf<undefined>();
  // @ts-expect-error a mark has no room for a fingerprint
  void dedup.once('k', handler, { record, fingerprint: 1 } satisfies import('../../src/index.js').MarkedOptions);
  expectTypeOf(await new Dedup<NoResult>(redis, { record }).once('k', handler)).toEqualTypeOf<undefined>();
  expectTypeOf<DedupOptions['record']>().toEqualTypeOf<'full' | SeenSet | undefined>();
});
