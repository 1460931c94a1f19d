import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { idempotency as expressIdempotency } from '../../src/http/express.js';
import { idempotency as fastifyIdempotency } from '../../src/http/fastify.js';
import { idempotent } from '../../src/http/fetch.js';
import { readKeyHeader } from '../../src/http/key-header.js';
import { responseCodec } from '../../src/http/response.js';
import { connect, makeDedup } from '../support/index.js';

const scope = 'global' as const;

test('a Dedup or a handler that is none is told when it is made', async () => {
  const options = { scope };
  const dedup = makeDedup();
  for (const none of [{}, undefined, connect()]) {
    const isNone = expect.objectContaining({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('a Dedup, got'),
    });
    expect(() => expressIdempotency(none as never, options)).toThrow(isNone);
    expect(() => idempotent(none as never, options, () => new Response())).toThrow(isNone);
    // By the promise of the registration, where it can be caught.
    const app = Fastify();
    await expect(app.register(fastifyIdempotency, { ...options, dedup: none as never })).rejects.toThrow(isNone);
  }
  expect(() => idempotent(dedup, options, undefined as never)).toThrow('Expected the handler to be a function');
});

test.each<[options: object | undefined, message: RegExp]>([
  [undefined, /the options to be an object/],
  [{}, /`scope` to be a function of the request that names the owner/],
  [{ scope: 'mine' }, /`scope`/],
  [{ scope, operation: 'a' }, /`operation` to be a function/],
  [{ scope, fingerprint: {} }, /`fingerprint` to be a function/],
  [{ scope, slot: 'a' }, /`slot` to be a function/],
  [{ scope, header: 'a b' }, /`header`/],
  [{ scope, required: 1 }, /`required` to be a boolean/],
  [{ scope, methods: 'POST' }, /`methods`/],
  [{ scope, store: 'all' }, /`store` to be 'stripe', 'success' or a function/],
  [{ scope, replayHeaders: ['Set-Cookie'] }, /`set-cookie` in `replayHeaders`/],
  [{ scope, replayHeaders: ['content-length'] }, /`content-length`/],
  [{ scope, onInProgress: 'no' }, /`onInProgress`/],
  [{ scope, onStoreFailure: 'no' }, /`onStoreFailure`/],
  [{ scope, maxBodyBytes: 2 ** 20 }, /`maxBodyBytes` to be a whole number from 0 to/],
  [{ scope, lease: '1ms' }, /`lease`/],
  [{ scope, onError: 'store' }, /`onError` is not an option/],
  [{ scope, conflictRetries: 1 }, /`conflictRetries` is not an option/],
])('options that are wrong are told when it is made: %o', (options, message) => {
  const wrong = expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) });
  expect(() => expressIdempotency(makeDedup(), options as never)).toThrow(wrong);
  expect(() => idempotent(makeDedup(), options as never, () => new Response())).toThrow(wrong);
});

test('a Dedup that keeps next to nothing keeps no bodies', () => {
  expect(() => expressIdempotency(makeDedup({ maxResultBytes: 1_000 }), { scope })).not.toThrow();
  expect(() => expressIdempotency(makeDedup({ maxResultBytes: 1_000 }), { scope, maxBodyBytes: 1 })).toThrow(
    'maxBodyBytes',
  );
});

test.each([
  ['"a";', 'malformed'],
  ['"a"b', 'malformed'],
  ['"a\\x"', 'malformed'],
  ['"ä"', 'malformed'],
  ['ä', 'malformed'],
  ['a;b', 'malformed'],
  ['a"b', 'malformed'],
  ['"a"; b', { key: 'a' }],
  ['"a";b=1;c="x\\"y"', { key: 'a' }],
  ['*a/b:c=', { key: '*a/b:c=' }],
] as const)('the header %s', (value, wanted) => {
  expect(readKeyHeader([value])).toEqual(wanted);
});

test('a stored response is read as it was written, to the byte', () => {
  const response = { status: 299, headers: [['a', 'ü'] as const], body: Buffer.from([0, 255, 10]) };
  const context = { redisKey: '' };
  expect(responseCodec.decode(responseCodec.encode(response, context) as Buffer, context)).toEqual(response);
  const large = { ...response, body: null };
  expect(responseCodec.decode(responseCodec.encode(large, context) as Buffer, context)).toEqual({
    ...large,
    headers: [],
  });
});
