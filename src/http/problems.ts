/**
 * What is answered in place of a handler: problem details (RFC 9457). Titles are those of
 * draft-ietf-httpapi-idempotency-key-header-07 where it has one. No answer holds a key, a payload or a result.
 */
import { type DedupError, type DedupErrorCode, isDedupError } from '../errors.js';
import type { HttpResponse } from './response.js';

/** The last part of a problem's `type`. */
export type ProblemName =
  | 'key-missing'
  | 'key-malformed'
  | 'key-too-long'
  | 'body-too-large'
  | 'body-incomparable'
  | 'key-reused'
  | 'in-progress'
  | 'condition-failed'
  | 'response-not-kept'
  | 'attempts-exhausted'
  | 'not-applied'
  | 'unavailable'
  | 'outcome-unknown'
  | 'failed';

interface Problem {
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly retryAfterS?: number;
}

/** Soon: a handler that runs is as good as done, and asking again costs little. */
const SOON_S = 1;

const PROBLEMS: Record<ProblemName, Problem> = {
  'key-missing': {
    status: 400,
    title: 'Idempotency-Key is missing',
    detail: 'This operation takes requests with an Idempotency-Key header only.',
  },
  'key-malformed': {
    status: 400,
    title: 'Idempotency-Key is malformed',
    detail: 'The Idempotency-Key header must hold one key: a string in double quotes, or a token.',
  },
  'key-too-long': {
    status: 400,
    title: 'Idempotency-Key is too long',
    detail: 'An Idempotency-Key has 255 characters at most.',
  },
  'body-too-large': {
    status: 413,
    title: 'The request is too large',
    detail: 'The body is longer than what can be told apart from other requests with the same Idempotency-Key.',
  },
  'body-incomparable': {
    status: 400,
    title: 'The request cannot be compared',
    detail: 'Its body has numbers that are too large, or is nested too deeply, to be told apart from other requests.',
  },
  'key-reused': {
    status: 422,
    title: 'Idempotency-Key is already used',
    detail: 'The Idempotency-Key was used for another request. Another request needs a key of its own.',
  },
  'in-progress': {
    status: 409,
    title: 'A request is outstanding for this Idempotency-Key',
    detail:
      'The first request with this Idempotency-Key is not done yet. Send this one again later, with the same key.',
    retryAfterS: SOON_S,
  },
  'condition-failed': {
    status: 412,
    title: 'A precondition does not hold',
    detail: 'What the request is about has changed meanwhile. Nothing was done.',
  },
  'response-not-kept': {
    status: 409,
    title: 'The response to this Idempotency-Key was not kept',
    detail: 'The request was carried out. Its response was too long to be kept, and is not made again.',
  },
  'attempts-exhausted': {
    status: 422,
    title: 'Requests with this Idempotency-Key have failed too often',
    detail: 'The request is not tried again under this key.',
  },
  'not-applied': {
    status: 503,
    title: 'The request could not be finished',
    detail: 'Nothing was done. Send the request again, with the same Idempotency-Key.',
    retryAfterS: SOON_S,
  },
  unavailable: {
    status: 503,
    title: 'The request could not be checked for copies',
    detail: 'Nothing was done. Send the request again, with the same Idempotency-Key.',
    retryAfterS: SOON_S,
  },
  'outcome-unknown': {
    status: 503,
    title: 'Whether the request was carried out is not known yet',
    detail: 'Send it again, with the same Idempotency-Key: that settles it.',
    retryAfterS: SOON_S,
  },
  failed: {
    status: 500,
    title: 'The request could not be carried out',
    detail: 'Nothing more can be told.',
  },
};

const BY_CODE: Partial<Record<DedupErrorCode, ProblemName>> = {
  FINGERPRINT_MISMATCH: 'key-reused',
  IN_PROGRESS: 'in-progress',
  CONDITION_FAILED: 'condition-failed',
  ATTEMPTS_EXHAUSTED: 'attempts-exhausted',
  LEASE_LOST: 'not-applied',
  CLOSED: 'not-applied',
  STORE_UNAVAILABLE: 'unavailable',
  UNSAFE_SERVER: 'unavailable',
  OUTCOME_UNKNOWN: 'outcome-unknown',
  BROKEN: 'failed',
  CODEC: 'failed',
  EFFECT_REJECTED: 'failed',
  RESULT_TOO_LARGE: 'failed',
};

/** @param header the name of the header that carries keys here */
export function problem(name: ProblemName, header: string, more: Record<string, unknown> = {}): HttpResponse {
  const { status, title, detail, retryAfterS } = PROBLEMS[name];
  const named = (text: string) => text.replaceAll('Idempotency-Key', () => header);
  const body = { type: `urn:redis-once:problem:${name}`, title: named(title), status, detail: named(detail), ...more };
  const headers: [string, string][] = [['content-type', 'application/problem+json']];
  if (retryAfterS !== undefined) headers.push(['retry-after', String(retryAfterS)]);
  return { status, headers, body: Buffer.from(JSON.stringify(body)) };
}

/** What a client is told of the library's own error; nothing of a mistake in the program, which is to be thrown. */
export function problemOf(error: unknown, header: string): HttpResponse | undefined {
  if (!isDedupError(error)) return undefined;
  const name = BY_CODE[(error as DedupError).code];
  return name && problem(name, header);
}
