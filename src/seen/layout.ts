/**
 * Where the marks of a set are: which id is which integer in which keys. The same for every client, machine and process.
 *
 * An id's SHA-256 has its mark, a 64-bit integer, and its shard. A shard has a ring of buckets, one key each; which of them
 * takes a mark is decided by the server's clock (lua/lib/seen.lua). docs/seen-set.md draws it.
 */
import { createHash } from 'node:crypto';
import { escapePart } from '../key.js';

/** What the users of one set must agree on; durations in ms. */
export interface SeenTerms {
  readonly windowMs: number;
  readonly capacity: number;
  readonly buckets: number;
}

/**
 * How many ids a shard has at capacity, on average. Redis packs up to 512 integers (`set-max-intset-entries`): by chance a
 * bucket that takes them all has more in 1 of 4,600,000,000.
 */
const IDS_PER_SHARD = 384;
/** In the ring of buckets: the one of now, and one that is surely gone before its place comes again. */
const FURTHER_BUCKETS = 2;
const LAYOUT_VERSION = 1;

/** Where an id's mark is, or goes. */
export interface Mark {
  /** The buckets of its shard, all in one Cluster slot. */
  readonly keys: readonly string[];
  readonly bucketMs: number;
  /** A signed 64-bit integer in decimal: as such Redis packs it, and Lua would lose its last digits. */
  readonly digest: string;
}

export class SeenLayout {
  /** The key of the layout itself. */
  readonly key: string;
  readonly windowMs: number;
  /** What the clients compare. */
  readonly text: string;
  /** The time that a bucket takes marks for, in ms. */
  readonly bucketMs: number;
  /** How long a mark lives at most, in ms: the window and one bucket. */
  readonly longestLifeMs: number;
  readonly #path: string;
  readonly #shards: number;
  readonly #ring: number;

  /**
   * @param prefix the namespace and scopes, escaped and joined
   * @param slot a Cluster hash tag that holds the whole set; without one, each shard has its own
   */
  constructor(
    prefix: string,
    name: string,
    readonly slot: string | undefined,
    { windowMs, capacity, buckets }: SeenTerms,
  ) {
    this.windowMs = windowMs;
    this.#path = `${prefix}::seen:${escapePart(name)}`;
    this.#shards = Math.ceil(capacity / IDS_PER_SHARD);
    this.#ring = buckets + FURTHER_BUCKETS;
    this.bucketMs = Math.ceil(windowMs / buckets);
    this.longestLifeMs = this.bucketMs * (buckets + 1);
    this.key = slot === undefined ? this.#path : `{${slot}}:${this.#path}`;
    this.text = `${LAYOUT_VERSION} window=${windowMs} capacity=${capacity} buckets=${buckets}`;
  }

  /** @param id of a key of the library's own where it is a Buffer, which no id of a caller's is taken for */
  markOf(id: string | Buffer): Mark {
    const hash = createHash('sha256').update(bytesOf(id)).digest();
    const shard = hash.readUIntBE(8, 6) % this.#shards;
    return { keys: this.#keysOf(shard), bucketMs: this.bucketMs, digest: String(hash.readBigInt64BE(0)) };
  }

  #keysOf(shard: number): string[] {
    const shardKey = this.slot === undefined ? `{${shard}}:${this.#path}` : `{${this.slot}}:${this.#path}:${shard}`;
    return Array.from({ length: this.#ring }, (_, bucket) => `${shardKey}:${bucket}`);
  }
}

/** No two ids have the same bytes. FE and FF occur in no UTF-8; a text with lone surrogates has none. */
function bytesOf(id: string | Buffer): string | Buffer {
  if (typeof id !== 'string') return Buffer.concat([Buffer.of(0xfe), id]);
  return id.isWellFormed() ? id : Buffer.concat([Buffer.of(0xff), Buffer.from(id, 'utf16le')]);
}
