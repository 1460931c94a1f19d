/** Owner tokens: 128 random bits, one per attempt. */
import { randomFillSync } from 'node:crypto';

const TOKEN_BYTES = 16;
const pool = Buffer.alloc(256 * TOKEN_BYTES);
let used = pool.length;

/** A fresh token. Random bytes are drawn for many tokens at once. */
export function newToken(): Buffer {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += TOKEN_BYTES;
  return Buffer.from(pool.subarray(used - TOKEN_BYTES, used));
}
