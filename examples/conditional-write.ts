/** A transfer between accounts: read, decide, and write only if nothing has changed meanwhile. */
import type { Redis } from 'ioredis';
import type { Dedup } from 'redis-once';

export interface Transfer {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly cents: number;
}

export type Receipt = { readonly moved: number; readonly left: number } | { readonly refused: 'too little' };

/** Retried, a transfer gets its first receipt again, the one of a refusal as well. */
export async function transfer(redis: Redis, dedup: Dedup, { id, from, to, cents }: Transfer): Promise<Receipt> {
  if (!Number.isSafeInteger(cents) || cents <= 0) throw new RangeError('Expected `cents` to be a whole number above 0');
  return dedup.scope('transfers').once(
    id,
    async ({ tx }): Promise<Receipt> => {
      const stored = await redis.get(`balance-${from}`);
      const left = Number(stored) - cents;
      if (stored === null || left < 0) return { refused: 'too little' };
      // Where another transfer came between, nothing is written, and the handler looks again.
      tx.require.equals(`balance-${from}`, stored);
      tx.set(`balance-${from}`, left).incrby(`balance-${to}`, cents);
      return { moved: cents, left };
    },
    { fingerprint: { from, to, cents }, conflictRetries: 20 },
  );
}
