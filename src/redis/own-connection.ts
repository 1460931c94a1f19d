/** Connections of the library's own, for what would hold up the caller's: a subscription, a read that blocks. */
import type { Connection } from './connection.js';

/** What each of them can do, beside what it is made for. */
interface OwnConnection {
  connect(): Promise<void>;
  disconnect(): void;
  on(event: 'error' | 'end', listener: () => void): unknown;
}

interface Duplicable {
  readonly options: { readonly redisOptions?: object | undefined };
  duplicate(...args: unknown[]): unknown;
}

const never = () => null;
/** Options of the caller's that would cut off a read for as long as it may block. */
const PATIENT = { commandTimeout: undefined, socketTimeout: undefined, blockingTimeout: undefined };

/**
 * Another connection to the same server, not yet opened. It never reconnects by itself: whoever needs it opens a new one.
 * Replies come as in RESP 2, whatever the caller's options.
 *
 * @param options that differ from the caller's
 */
export function ownConnection<T extends OwnConnection>(
  connection: Connection,
  options: { keyPrefix?: string } = {},
): T {
  const redis = connection.redis as unknown as Duplicable;
  const common = { lazyConnect: true, enableAutoPipelining: false, ...options };
  const one = { ...PATIENT, replyMapping: 'legacy', stringNumbers: false };
  return (
    connection.isCluster
      ? redis.duplicate([], {
          ...common,
          clusterRetryStrategy: never,
          // What is asked must be true now, which a replica does not know.
          scaleReads: 'master',
          // Of ioredis 5 these replace the caller's, its password and TLS with them.
          redisOptions: { ...redis.options.redisOptions, ...one },
        })
      : redis.duplicate({
          ...common,
          ...one,
          retryStrategy: never,
          sentinelRetryStrategy: never,
          maxRetriesPerRequest: 0,
        })
  ) as T;
}
