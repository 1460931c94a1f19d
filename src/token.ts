/** Owner tokens: 112 random bits, one per attempt. */
import { randomFillSync } from 'node:crypto';

const TOKEN_BYTES = 16;
const POOL_BYTES = 256 * TOKEN_BYTES;
const pool = Buffer.allocUnsafeSlow(POOL_BYTES);
let used = POOL_BYTES;

/**
 * A fresh token: 16 characters of 7 random bits, each of which is one byte. Texts and not bytes, since one Buffer among its
 * arguments makes a command twice as dear for ioredis. Random bytes are drawn for many tokens at once, and used once.
 */
export function newToken(): string {
  if (used === POOL_BYTES) {
    randomFillSync(pool);
    used = 0;
  }
  used += TOKEN_BYTES;
  return pool.toString('ascii', used - TOKEN_BYTES, used);
}
