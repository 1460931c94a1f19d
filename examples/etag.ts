/**
 * `PUT` with `If-Match`: who edits an old version is told so, and a request that is sent again gets its first answer. A 412 is none: it says how
 * the document stands, and the same request may succeed when that has changed.
 */
import type { Redis } from 'ioredis';
import { type Dedup, isDedupError } from 'redis-once';

export interface PutRequest {
  /** The header `Idempotency-Key`. */
  readonly idempotencyKey: string;
  readonly document: string;
  /** The version that was edited: the header `If-Match`, as `"3"`; `"0"` where there is none yet. */
  readonly ifMatch: string;
  readonly body: string;
}

export interface Answer {
  readonly status: 200 | 400 | 412;
  readonly etag: string | null;
}

const ETAG = /^"(0|[1-9]\d{0,14})"$/;

export async function put(redis: Redis, dedup: Dedup, request: PutRequest): Promise<Answer> {
  const { idempotencyKey, document, ifMatch, body } = request;
  const version = Number(ETAG.exec(ifMatch)?.[1] ?? Number.NaN);
  if (Number.isNaN(version)) return { status: 400, etag: null };
  const key = `document-${document}`;
  try {
    await dedup.scope('put').apply(
      idempotencyKey,
      // Holds only at that version, and raises it.
      (tx) => tx.require.version(key, 'version', version).hset(key, 'body', body),
      { fingerprint: { document, ifMatch, body } },
    );
    return { status: 200, etag: `"${version + 1}"` };
  } catch (error) {
    if (!isDedupError(error, 'CONDITION_FAILED')) throw error;
    return { status: 412, etag: `"${(await redis.hget(key, 'version')) ?? 0}"` };
  }
}
