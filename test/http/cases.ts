/** What a client sends and is answered, the same in every framework. Read by http.test.ts. */
import type { ProblemName } from '../../src/http/problems.js';
import type { AppOptions } from '../support/http/apps.js';
import type { Sending } from '../support/http/client.js';

/** Headers by name; null where there must be none. */
type ExpectedHeaders = Readonly<Record<string, string | null>>;

export interface Step extends Partial<Sending> {
  /** The line of the header, or several; default `"<id of the case>"`. Null: none. */
  readonly key?: string | readonly string[] | null;
  /** JSON, in place of a body. */
  readonly json?: unknown;
  readonly account?: string;
  readonly expect: {
    readonly status: number;
    readonly headers?: ExpectedHeaders;
    readonly json?: unknown;
    readonly text?: string;
    /** Is it a stored response? Then its bytes are those of the first step. */
    readonly replayed?: boolean;
    readonly problem?: ProblemName;
  };
}

export interface HttpCase {
  readonly id: string;
  readonly title: string;
  readonly options?: AppOptions;
  readonly steps: readonly Step[];
  /** How often the handler has run, and what its effects have come to: each run adds 1. */
  readonly runs: number;
  readonly sum: number;
}

const JSON_TYPE = 'application/json';
const pay = { path: '/pay', json: { cents: 5 } } as const;
const first = { status: 201, json: { charged: 5, run: 1 }, replayed: false } as const;
const again = { status: 201, json: { charged: 5, run: 1 }, replayed: true } as const;

/** The same request twice: the first runs, the second is told the same. */
function twice(path: string, status: number, headers: ExpectedHeaders = {}): Step[] {
  return [
    { path, expect: { status, headers, replayed: false } },
    { path, expect: { status, headers, replayed: true } },
  ];
}

/** The same request twice, and both run. */
function runsAgain(path: string, status: number): Step[] {
  return [
    { path, expect: { status, replayed: false } },
    { path, expect: { status, replayed: false } },
  ];
}

function refused(key: string | readonly string[], problem: ProblemName): Step[] {
  return [{ ...pay, key, expect: { status: 400, problem } }];
}

export const CASES: readonly HttpCase[] = [
  // Replays
  {
    id: 'replay-json',
    title: 'a copy gets the stored response',
    steps: [
      { ...pay, expect: first },
      { ...pay, expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'replay-headers',
    title: 'a copy gets the headers that are listed, and no others',
    steps: [
      {
        ...pay,
        expect: { ...first, headers: { 'set-cookie': 'session=secret', 'x-other': 'x', 'idempotent-replayed': null } },
      },
      {
        ...pay,
        expect: {
          ...again,
          headers: {
            location: '/payments/1',
            etag: '"v1"',
            link: '</payments>; rel="collection"',
            'set-cookie': null,
            'x-other': null,
          },
        },
      },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'replay-own-headers',
    title: 'a copy gets the headers that are asked for',
    options: { replayHeaders: ['content-type', 'X-Other'] },
    steps: [
      { ...pay, expect: { ...first, headers: { etag: '"v1"' } } },
      { ...pay, expect: { ...again, headers: { 'x-other': 'x', etag: null } } },
    ],
    runs: 1,
    sum: 1,
  },
  { id: 'replay-text', title: 'text is replayed byte by byte', steps: twice('/text', 200), runs: 1, sum: 1 },
  {
    id: 'replay-bytes',
    title: 'bytes are replayed byte by byte',
    steps: twice('/bytes', 200, { 'content-type': 'application/octet-stream' }),
    runs: 1,
    sum: 1,
  },
  { id: 'replay-chunks', title: 'a stream is replayed byte by byte', steps: twice('/chunks', 200), runs: 1, sum: 1 },
  { id: 'replay-raw', title: 'what is written by hand is replayed', steps: twice('/raw', 202), runs: 1, sum: 1 },
  {
    id: 'replay-redirect',
    title: 'a redirect is replayed',
    steps: twice('/redirect', 303, { location: '/payments/1' }),
    runs: 1,
    sum: 1,
  },
  {
    id: 'replay-204',
    title: 'a 204 is replayed',
    steps: twice('/no-content', 204, { 'content-type': null }),
    runs: 1,
    sum: 1,
  },
  { id: 'replay-empty', title: 'an empty body is replayed', steps: twice('/nothing', 200), runs: 1, sum: 1 },

  // The key
  {
    id: 'key-forms',
    title: 'a string and a bare token name the same key',
    steps: [
      { ...pay, key: '"key-forms"', expect: first },
      { ...pay, key: 'key-forms', expect: again },
      { ...pay, key: '  "key-forms" ', expect: again },
      { ...pay, key: '"key-forms";v=1', expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'key-escapes',
    title: 'escapes are undone, and a comma within quotes is a part of the key',
    steps: [
      { ...pay, key: '"a\\"b\\\\c, d"', expect: first },
      { ...pay, key: '"a\\"b\\\\c, d"', expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'key-uuid',
    title: 'a bare UUID is a key',
    steps: [{ ...pay, key: '8e03978e-40d5-43dd-bc93-6894a57f9324', expect: first }],
    runs: 1,
    sum: 1,
  },
  {
    id: 'key-none',
    title: 'a request without a key passes through',
    steps: [
      { ...pay, key: null, expect: first },
      { ...pay, key: null, expect: { status: 201, json: { charged: 5, run: 2 }, replayed: false } },
    ],
    runs: 2,
    sum: 0,
  },
  {
    id: 'key-required',
    title: 'a request without a key is refused where one is required',
    options: { required: true },
    steps: [{ ...pay, key: null, expect: { status: 400, problem: 'key-missing' } }],
    runs: 0,
    sum: 0,
  },
  { id: 'key-empty', title: 'an empty string is no key', steps: refused('""', 'key-malformed'), runs: 0, sum: 0 },
  { id: 'key-blank', title: 'an empty header is no key', steps: refused('', 'key-malformed'), runs: 0, sum: 0 },
  {
    id: 'key-unclosed',
    title: 'a string that does not end is malformed',
    steps: refused('"abc', 'key-malformed'),
    runs: 0,
    sum: 0,
  },
  { id: 'key-spaces', title: 'words are malformed', steps: refused('a b', 'key-malformed'), runs: 0, sum: 0 },
  {
    id: 'key-list',
    title: 'values joined by commas are malformed',
    steps: refused('"a", "b"', 'key-malformed'),
    runs: 0,
    sum: 0,
  },
  {
    id: 'key-bare-list',
    title: 'tokens joined by commas are malformed',
    steps: refused('a,b', 'key-malformed'),
    runs: 0,
    sum: 0,
  },
  {
    id: 'key-several',
    title: 'several lines are malformed',
    steps: refused(['"a"', '"b"'], 'key-malformed'),
    runs: 0,
    sum: 0,
  },
  {
    id: 'key-255',
    title: '255 characters are a key',
    steps: [{ ...pay, key: `"${'k'.repeat(255)}"`, expect: first }],
    runs: 1,
    sum: 1,
  },
  {
    id: 'key-256',
    title: '256 characters are too many',
    steps: refused(`"${'k'.repeat(256)}"`, 'key-too-long'),
    runs: 0,
    sum: 0,
  },
  {
    id: 'key-10kb',
    title: 'a header of 10 KB is refused',
    steps: refused('k'.repeat(10_240), 'key-too-long'),
    runs: 0,
    sum: 0,
  },
  {
    id: 'key-header',
    title: 'another header may carry the key',
    options: { header: 'X-Request-Key' },
    steps: [
      { ...pay, key: null, headers: [['x-request-key', 'a']], expect: first },
      { ...pay, key: null, headers: [['X-Request-Key', 'a']], expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'key-spoofed',
    title: 'Idempotent-Replayed in a request says nothing',
    steps: [
      { ...pay, headers: [['idempotent-replayed', 'true']], expect: first },
      { ...pay, headers: [['idempotent-replayed', 'false']], expect: again },
    ],
    runs: 1,
    sum: 1,
  },

  // Owner and operation
  {
    id: 'owner',
    title: 'two owners of one key never see each other’s response',
    steps: [
      { ...pay, account: 'a', expect: first },
      { ...pay, account: 'b', expect: { status: 201, json: { charged: 5, run: 2 }, replayed: false } },
      { ...pay, account: 'a', expect: again },
    ],
    runs: 2,
    sum: 2,
  },
  {
    id: 'owner-global',
    title: 'without owners a key is everybody’s',
    options: { scope: 'global' },
    steps: [
      { ...pay, account: 'a', expect: first },
      { ...pay, account: 'b', expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'operation-path',
    title: 'the same key at another path is another record',
    steps: [
      { ...pay, expect: first },
      { path: '/status/200', json: { cents: 5 }, expect: { status: 200, json: { run: 2 }, replayed: false } },
    ],
    runs: 2,
    sum: 2,
  },
  {
    id: 'operation-method',
    title: 'the same key by another method is another record',
    steps: [
      { ...pay, expect: first },
      { ...pay, method: 'PATCH', expect: { status: 201, json: { charged: 5, run: 2 }, replayed: false } },
      {
        ...pay,
        method: 'PATCH',
        expect: { status: 201, json: { charged: 5, run: 2 }, headers: { 'idempotent-replayed': 'true' } },
      },
    ],
    runs: 2,
    sum: 2,
  },
  {
    id: 'operation-own',
    title: 'where the operation is named, a key is the same at all paths',
    options: { operation: 'global' },
    steps: [
      { ...pay, expect: first },
      { path: '/status/200', json: { cents: 5 }, expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  ...(['PUT', 'DELETE', 'GET', 'OPTIONS'] as const).map((method) => ({
    id: `method-${method}`,
    title: `${method} passes through untouched, key or not`,
    steps: [
      { path: '/text', method, expect: { status: 200, text: 'run 1, ünïcode', replayed: false } },
      { path: '/text', method, expect: { status: 200, text: 'run 2, ünïcode', replayed: false } },
    ],
    runs: 2,
    sum: 0,
  })),
  {
    id: 'method-own',
    title: 'methods that are named are ours, and no others',
    options: { methods: ['PUT'] },
    steps: [
      { path: '/text', method: 'PUT', expect: { status: 200, replayed: false } },
      { path: '/text', method: 'PUT', expect: { status: 200, replayed: true } },
      { path: '/text', expect: { status: 200, text: 'run 2, ünïcode', replayed: false } },
    ],
    runs: 2,
    sum: 1,
  },

  // The fingerprint
  {
    id: 'other-body',
    title: 'another body is refused',
    steps: [
      { ...pay, expect: first },
      { path: '/pay', json: { cents: 6 }, expect: { status: 422, problem: 'key-reused' } },
      { ...pay, expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'other-query',
    title: 'another query is refused',
    steps: [
      { ...pay, path: '/pay?a=1', expect: first },
      { ...pay, path: '/pay?a=2', expect: { status: 422, problem: 'key-reused' } },
      { ...pay, path: '/pay?a=1', expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'no-body',
    title: 'no body is another than an empty object',
    steps: [
      { path: '/pay', expect: { status: 201, replayed: false } },
      { path: '/pay', json: {}, expect: { status: 422, problem: 'key-reused' } },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'key-order',
    title: 'the order of names does not matter',
    steps: [
      { path: '/pay', json: { cents: 5, note: { a: 1, b: 2 } }, expect: first },
      { path: '/pay', json: { note: { b: 2, a: 1 }, cents: 5 }, expect: again },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'array-order',
    title: 'the order of arrays matters',
    steps: [
      { path: '/pay', json: { cents: 5, items: [1, 2] }, expect: first },
      { path: '/pay', json: { cents: 5, items: [2, 1] }, expect: { status: 422, problem: 'key-reused' } },
    ],
    runs: 1,
    sum: 1,
  },
  ...(
    [
      ['text', 'text/plain', 'a', 'b'],
      ['form', 'application/x-www-form-urlencoded', 'a=1', 'a=2'],
      ['binary', 'application/octet-stream', Buffer.from([0, 255, 1]), Buffer.from([0, 255, 2])],
    ] as const
  ).map(([kind, type, body, other]) => ({
    id: `body-${kind}`,
    title: `a ${kind} body is compared`,
    steps: [
      {
        path: '/text',
        headers: [['content-type', type]] as [string, string][],
        body,
        expect: { status: 200, replayed: false },
      },
      {
        path: '/text',
        headers: [['content-type', type]] as [string, string][],
        body,
        expect: { status: 200, replayed: true },
      },
      {
        path: '/text',
        headers: [['content-type', type]] as [string, string][],
        body: other,
        expect: { status: 422, problem: 'key-reused' as const },
      },
    ],
    runs: 1,
    sum: 1,
  })),
  ...(
    [
      ['infinite', '{"cents":1e999}'],
      ['deep', `${'['.repeat(20_000)}${']'.repeat(20_000)}`],
    ] as const
  ).map(([kind, body]) => ({
    id: `body-${kind}`,
    title: 'JSON that cannot be compared is the client’s error',
    steps: [
      {
        path: '/text',
        headers: [['content-type', 'application/json']] as [string, string][],
        body,
        expect: { status: 400, problem: 'body-incomparable' as const },
      },
    ],
    runs: 0,
    sum: 0,
  })),
  {
    id: 'body-10mb',
    title: 'a body of 10 MB is refused',
    steps: [
      {
        path: '/text',
        headers: [['content-type', 'text/plain']],
        body: 'x'.repeat(10 * 1024 * 1024),
        expect: { status: 413, problem: 'body-too-large' },
      },
    ],
    runs: 0,
    sum: 0,
  },

  // What is stored
  ...[200, 201, 302, 400, 404, 409, 422].map((status) => ({
    id: `stored-${status}`,
    title: `a ${status} is stored`,
    steps: twice(`/status/${status}`, status),
    runs: 1,
    sum: 1,
  })),
  ...[401, 403, 408, 425, 429, 500, 503].map((status) => ({
    id: `released-${status}`,
    title: `a ${status} is not stored, and its effects are dropped`,
    steps: runsAgain(`/status/${status}`, status),
    runs: 2,
    sum: 0,
  })),
  {
    id: 'throw',
    title: 'a handler that throws runs again, without effects',
    steps: runsAgain('/throw', 500),
    runs: 2,
    sum: 0,
  },
  {
    id: 'throw-402',
    title: 'a handler that throws what is answered by a 402 runs again, without effects',
    steps: runsAgain('/throw/402', 402),
    runs: 2,
    sum: 0,
  },
  {
    id: 'stripe-500',
    title: 'with stripe a 500 is stored',
    options: { store: 'stripe' },
    steps: twice('/status/500', 500),
    runs: 1,
    sum: 1,
  },
  {
    id: 'stripe-429',
    title: 'with stripe a 429 is stored',
    options: { store: 'stripe' },
    steps: twice('/status/429', 429),
    runs: 1,
    sum: 1,
  },
  {
    id: 'success-404',
    title: 'with success a 404 is not stored',
    options: { store: 'success' },
    steps: runsAgain('/status/404', 404),
    runs: 2,
    sum: 0,
  },
  {
    id: 'success-302',
    title: 'with success a 302 is stored',
    options: { store: 'success' },
    steps: twice('/status/302', 302),
    runs: 1,
    sum: 1,
  },

  // What is too large to keep
  {
    id: 'large',
    title: 'a response that is too large is sent, and a copy is told that it was not kept',
    options: { maxBodyBytes: 1_000 },
    steps: [
      { path: '/large', expect: { status: 200, text: 'x'.repeat(5_000), replayed: false } },
      { path: '/large', expect: { status: 409, problem: 'response-not-kept', headers: { 'retry-after': null } } },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'large-chunks',
    title: 'so is a stream, whose rest follows as it comes',
    options: { maxBodyBytes: 1_000 },
    steps: [
      { path: '/large-chunks', expect: { status: 200, text: 'y'.repeat(5_000), replayed: false } },
      { path: '/large-chunks', expect: { status: 409, problem: 'response-not-kept' } },
    ],
    runs: 1,
    sum: 1,
  },
  {
    id: 'large-enough',
    title: 'a response of just the limit is kept',
    options: { maxBodyBytes: 5_000 },
    steps: twice('/large', 200),
    runs: 1,
    sum: 1,
  },

  // What is not applied
  {
    id: 'condition',
    title: 'a condition that does not hold is a 412, and nothing is done',
    steps: [
      { path: '/conflict', expect: { status: 412, problem: 'condition-failed' } },
      { path: '/conflict', expect: { status: 412, problem: 'condition-failed' } },
    ],
    runs: 2,
    sum: 0,
  },
  {
    id: 'rejected',
    title: 'effects that cannot be made: the handler’s response is not sent, none of its headers either',
    steps: [{ path: '/rejected', expect: { status: 500, problem: 'failed', headers: { 'x-own': null, etag: null } } }],
    runs: 1,
    sum: 0,
  },
  {
    id: 'exhausted',
    title: 'a key whose attempts are exhausted is told so',
    options: { maxAttempts: 2 },
    steps: [
      ...runsAgain('/status/500', 500),
      { path: '/status/500', expect: { status: 422, problem: 'attempts-exhausted' } },
    ],
    runs: 2,
    sum: 0,
  },
  {
    id: 'cut-off',
    title: 'a handler that never answers is cut off by maxRunTime',
    options: { maxRunTime: 300, lease: 100 },
    steps: [{ path: '/hang', expect: { status: 503, problem: 'not-applied', headers: { 'retry-after': '1' } } }],
    runs: 1,
    sum: 0,
  },
];

export const JSON_HEADERS: [string, string][] = [['content-type', JSON_TYPE]];
