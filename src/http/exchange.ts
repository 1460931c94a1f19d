/** One request and its answer, whatever the framework: whether the handler runs, and what the client is sent. */
import { createHash } from 'node:crypto';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { InvalidOptionError } from '../errors.js';
import { fingerprintOf } from '../fingerprint.js';
import { given } from '../given.js';
import { insideOf } from '../inside.js';
import type { OnceContext } from '../outcome.js';
import { TOO_LARGE } from './body.js';
import { readKeyHeader } from './key-header.js';
import { type HttpSettings, type IdempotencyOptions, readHttpOptions } from './options.js';
import { problem, problemOf } from './problems.js';
import { type HttpResponse, storedHeaders } from './response.js';

/** What an adapter tells of a request. */
export interface RequestFacts {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** Each line of a header, by its name in lower case, as it came. */
  lines(header: string): readonly string[];
  /** Query and body, as JSON; or what is wrong with it. Asked for when the key is known to be one. */
  content(maxBodyBytes: number): Promise<unknown | typeof TOO_LARGE> | unknown;
}

/** The response as its handler made it: all its headers; of the body what is kept, or null where it is longer. */
export type MadeResponse = Omit<HttpResponse, 'headers'> & {
  readonly headers: Iterable<readonly [string, string]>;
  /** Has the handler thrown, and is it the framework's answer to that? */
  readonly threw?: boolean;
};

/**
 * What the client is sent: the handler's own response, or one in its place.
 *
 * `'pass'`: the request is none of ours, and its handler has not run.
 */
export type Sent = 'pass' | 'own' | HttpResponse;

/** What JSON can say and canonical JSON cannot: a number beyond a double, or thousands of levels. The client's doing. */
const INCOMPARABLE = Symbol('incomparable');

/** Path and method are hashed where they are longer. */
const LONGEST_OPERATION = 200;

/** Thrown through `once` for a response that is not stored: the key is released, with none of its effects. */
class NotStored {}

export class Exchange<Request> {
  readonly settings: HttpSettings<Request>;
  readonly #view: Dedup<Codec>;

  /** @throws InvalidOptionError naming the option that is wrong */
  constructor(dedup: Dedup<Codec>, options: IdempotencyOptions<Request>) {
    const { settings, view } = readHttpOptions(dedup, options);
    this.settings = settings;
    this.#view = view;
  }

  /**
   * @param handle runs the handler, once at most, and resolves when its response is made; to null where it gives none
   * @throws what `handle` throws; InvalidOptionError for what the program's own functions return
   */
  async answer(
    request: Request,
    facts: RequestFacts,
    handle: (context: OnceContext) => Promise<MadeResponse | null>,
  ): Promise<Sent> {
    const { header, required, methods, maxBodyBytes } = this.settings;
    if (!methods.includes(facts.method.toUpperCase())) return 'pass';
    const read = readKeyHeader(facts.lines(header.toLowerCase()));
    if (read === 'missing') return required ? problem('key-missing', header) : 'pass';
    if (read === 'malformed') return problem('key-malformed', header);
    if (read === 'too_long') return problem('key-too-long', header);
    const { fingerprint, slot } = this.settings;
    const compared = fingerprint ? fingerprint(request) : digestOf(await facts.content(maxBodyBytes), read.key);
    if (compared === TOO_LARGE) return problem('body-too-large', header);
    if (compared === INCOMPARABLE) return problem('body-incomparable', header);
    const options = { fingerprint: compared, slot: slot?.(request) };
    return this.#once(this.#viewOf(request, facts), read.key, options, handle);
  }

  async #once(
    view: Dedup<Codec>,
    key: string,
    options: { fingerprint: unknown; slot: string | undefined },
    handle: (context: OnceContext) => Promise<MadeResponse | null>,
  ): Promise<Sent> {
    const { isStored, replayHeaders, header } = this.settings;
    let thrown: { error: unknown } | undefined;
    try {
      const { status, value } = await view.run(
        key,
        async (context) => {
          try {
            const made = await handle(context);
            // Below 200 is no response that could be told again: Response.error() has 0.
            if (!made || made.status < 200 || !isStored(made.status, made.threw ?? false)) throw new NotStored();
            // Half of what it meant to write, perhaps.
            if (made.threw) insideOf(context).discardWrites();
            const { status, headers, body } = made;
            return { status, headers: storedHeaders(headers, replayHeaders), body } satisfies HttpResponse;
          } catch (error) {
            thrown = { error };
            throw error;
          }
        },
        options,
      );
      return status === 'replayed' ? replay(value as HttpResponse, header) : 'own';
    } catch (error) {
      if (error instanceof NotStored) return 'own';
      const instead = thrown?.error === error ? undefined : problemOf(error, header);
      if (instead) return instead;
      throw error;
    }
  }

  /** Its keys are of one owner and one operation. */
  #viewOf(request: Request, { method, path }: RequestFacts): Dedup<Codec> {
    const { scope, operation } = this.settings;
    const named = operation ? nameBy('operation', operation(request)) : `${method.toUpperCase()} ${path}`;
    const short = named.length > LONGEST_OPERATION ? createHash('sha256').update(named).digest('base64url') : named;
    if (scope === 'global') return this.#view.scope('global', short);
    return this.#view.scope('owner', nameBy('scope', scope(request)), short);
  }
}

function digestOf(content: unknown, key: string): string | typeof TOO_LARGE | typeof INCOMPARABLE {
  if (content === TOO_LARGE) return TOO_LARGE;
  try {
    return Buffer.from(fingerprintOf(content, key)).toString('hex');
  } catch {
    return INCOMPARABLE;
  }
}

function replay({ status, headers, body }: HttpResponse, header: string): HttpResponse {
  if (!body) return problem('response-not-kept', header, { originalStatus: status });
  return { status, headers: [...headers, ['idempotent-replayed', 'true']], body };
}

/** @throws InvalidOptionError: without an owner, a key would be everybody's */
function nameBy(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new InvalidOptionError(`Expected \`${name}\` to return a non-empty string, got ${given(value)}`);
}
