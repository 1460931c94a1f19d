/** Owner tokens: 128 random bits, one per attempt. */
import { randomFillSync } from 'node:crypto';

const TOKEN_BYTES = 16;
const POOL_BYTES = 256 * TOKEN_BYTES;
let pool = Buffer.alloc(0);
let used = 0;

/** A fresh token. Random bytes are drawn for many tokens at once, and used once: tokens are parts of their pool. */
export function newToken(): Buffer {
  if (used === pool.length) {
    pool = randomFillSync(Buffer.allocUnsafeSlow(POOL_BYTES));
    used = 0;
  }
  used += TOKEN_BYTES;
  return pool.subarray(used - TOKEN_BYTES, used);
}
