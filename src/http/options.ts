/** What a route that takes an Idempotency-Key may be told, whatever its framework. */
import { type Codec, layersAround } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';
import { checkDedup, INSIDE } from '../inside.js';
import type { OnceOptions } from '../options.js';
import { flag, oneOf, wholeNumber } from '../rules.js';
import { isNeverStored, responseCodec } from './response.js';

/** Which responses are kept and told again; the others release the key, with none of their effects. */
export type StorePolicy = 'stripe' | 'success' | ((status: number) => boolean);

/**
 * @typeParam Request the framework's own request; Hono's context
 */
export interface IdempotencyOptions<Request>
  extends Pick<OnceOptions, 'retention' | 'lease' | 'waitTimeout' | 'maxAttempts' | 'maxRunTime'> {
  /**
   * Whose key it is: a user, an account, a tenant. Keys of different owners never meet; a key without an owner would let
   * one customer read another's response. `'global'` for routes that have no owners.
   */
  scope: ((request: Request) => string) | 'global';
  /** What the key is for; the same key elsewhere is another record. Default: method and path. */
  operation?: ((request: Request) => string) | undefined;
  /** Default `'Idempotency-Key'`. */
  header?: string | undefined;
  /** Are requests without a key refused (400)? Default `false`: they pass through. */
  required?: boolean | undefined;
  /** Requests of other methods pass through. Default `['POST', 'PATCH']`. */
  methods?: readonly string[] | undefined;
  /** What two requests of one key must agree in: any JSON value. Default: query and body. */
  fingerprint?: ((request: Request) => unknown) | undefined;
  /**
   * Default: below 500, except 401, 403, 408, 425 and 429, and what a handler threw. `'stripe'`: every response of a handler that has begun;
   * `'success'`: 2xx and 3xx.
   */
  store?: StorePolicy | undefined;
  /** Headers that are stored, besides Content-Type and Content-Encoding. Default: Location, ETag, Link. */
  replayHeaders?: readonly string[] | undefined;
  /** `'throw'` (default): a copy that comes while the first runs gets 409; `'wait'`: it waits for the response. */
  onInProgress?: 'throw' | 'wait' | undefined;
  /**
   * Bytes of a response body that are kept, and of a request body that is compared. Default: half of the Dedup's
   * `maxResultBytes`, 512 KiB.
   */
  maxBodyBytes?: number | undefined;
  /** Where Redis is not reached: `'throw'`, 503; `'proceed'`, the handler runs without dedup. Default: the Dedup's. */
  onStoreFailure?: 'throw' | 'proceed' | undefined;
  /** The Cluster hash tag of the data that the handler writes. From the program, never from the client. */
  slot?: ((request: Request) => string) | undefined;
}

/** The options, checked. */
export interface HttpSettings<Request> {
  readonly scope: ((request: Request) => string) | 'global';
  readonly operation: ((request: Request) => string) | undefined;
  readonly fingerprint: ((request: Request) => unknown) | undefined;
  readonly slot: ((request: Request) => string) | undefined;
  /** As it is spelt. */
  readonly header: string;
  readonly required: boolean;
  /** Upper case. */
  readonly methods: readonly string[];
  readonly isStored: (status: number, threw: boolean) => boolean;
  /** Lower case. */
  readonly replayHeaders: readonly string[];
  readonly maxBodyBytes: number;
}

/** A head of a stored response has room beside the body. */
const LONGEST_HEAD_BYTES = 32 * 1024;
const NOT_STORED = [401, 403, 408, 425, 429];
const STORED: Record<'default' | 'stripe' | 'success', HttpSettings<never>['isStored']> = {
  default: (status, threw) => !threw && status < 500 && !NOT_STORED.includes(status),
  stripe: () => true,
  success: (status) => status >= 200 && status < 400,
};

const NAMES = [
  'scope',
  'operation',
  'header',
  'required',
  'methods',
  'fingerprint',
  'store',
  'replayHeaders',
  'onInProgress',
  'maxBodyBytes',
  'onStoreFailure',
  'slot',
  'retention',
  'lease',
  'waitTimeout',
  'maxAttempts',
  'maxRunTime',
] satisfies (keyof IdempotencyOptions<never>)[];

/**
 * The settings, and a view of the Dedup whose calls have the options of `once` that were given.
 *
 * @throws InvalidOptionError naming the option that is wrong
 */
export function readHttpOptions<Request>(
  dedup: Dedup<Codec>,
  options: IdempotencyOptions<Request>,
): { settings: HttpSettings<Request>; view: Dedup<Codec> } {
  checkDedup(dedup);
  if (typeof options !== 'object' || options === null) {
    throw new InvalidOptionError(`Expected the options to be an object, got ${given(options)}`);
  }
  const unknown = Object.keys(options).find((name) => !(NAMES as string[]).includes(name));
  if (unknown) throw new InvalidOptionError(`\`${unknown}\` is not an option. There is: ${NAMES.join(', ')}`);
  const { scope, operation, fingerprint, slot, store } = options;
  if (scope !== 'global' && typeof scope !== 'function') {
    throw new InvalidOptionError(
      `Expected \`scope\` to be a function of the request that names the owner of its key, or 'global', got ${given(scope)}`,
    );
  }
  for (const [name, value] of Object.entries({ operation, fingerprint, slot })) {
    if (value !== undefined && typeof value !== 'function') {
      throw new InvalidOptionError(`Expected \`${name}\` to be a function of the request, got ${given(value)}`);
    }
  }
  const replayHeaders = names('replayHeaders', options.replayHeaders, ['location', 'etag', 'link']);
  const never = replayHeaders.find(isNeverStored);
  if (never) throw new InvalidOptionError(`\`${never}\` in \`replayHeaders\` must not be told again to other requests`);
  const { maxResultBytes } = dedup[INSIDE].parts.settings;
  const longestBody = Math.max(0, maxResultBytes - LONGEST_HEAD_BYTES);
  return {
    settings: {
      scope,
      operation,
      fingerprint,
      slot,
      header: headerName(options.header),
      required: flag('required', options.required ?? false),
      methods: names('methods', options.methods, ['post', 'patch']).map((method) => method.toUpperCase()),
      isStored: storePolicy(store),
      replayHeaders,
      maxBodyBytes: wholeNumber(0, longestBody)(
        'maxBodyBytes',
        options.maxBodyBytes ?? Math.min(longestBody, maxResultBytes >> 1),
      ),
    },
    view: viewOf(dedup, options),
  };
}

/**
 * A handler runs once a request, and what it throws is the framework's: no conflict runs it again, no failure is stored. Its
 * response is told again, so its record is kept in full, whatever the Dedup does with others.
 */
function viewOf(dedup: Dedup<Codec>, options: IdempotencyOptions<never>): Dedup<Codec> {
  const { retention, lease, waitTimeout, maxAttempts, maxRunTime, onStoreFailure } = options;
  const onInProgress = oneOf('throw', 'wait')('onInProgress', options.onInProgress ?? 'throw') as 'throw' | 'wait';
  const own = { retention, lease, waitTimeout, maxAttempts, maxRunTime, onInProgress };
  // A response has a form of its own; what the Dedup's codec has around its results (compression, encryption), it has as well.
  const codec = layersAround(dedup[INSIDE].codec, responseCodec);
  const view = dedup.with({ ...own, record: 'full', codec, onError: 'release', conflictRetries: 0 });
  if (onStoreFailure === undefined) return view;
  return view[INSIDE].onStoreFailure(
    oneOf('throw', 'proceed')('onStoreFailure', onStoreFailure) as 'throw' | 'proceed',
  );
}

function storePolicy(store: unknown): HttpSettings<never>['isStored'] {
  if (typeof store === 'function') return (status) => (store as (status: number) => boolean)(status);
  if (store === undefined || store === 'stripe' || store === 'success') return STORED[store ?? 'default'];
  throw new InvalidOptionError(
    `Expected \`store\` to be 'stripe', 'success' or a function of the status, got ${given(store)}`,
  );
}

function headerName(header: unknown = 'Idempotency-Key'): string {
  names('header', [header], []);
  return header as string;
}

/** Lower case. */
function names(name: string, value: unknown, otherwise: readonly string[]): string[] {
  if (value === undefined) return [...otherwise];
  if (
    !Array.isArray(value) ||
    !value.every((entry) => typeof entry === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(entry))
  ) {
    throw new InvalidOptionError(`Expected \`${name}\` to hold names as HTTP has them, got ${given(value)}`);
  }
  return value.map((entry: string) => entry.toLowerCase());
}
