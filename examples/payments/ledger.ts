/** What a payment writes, whatever framework it came by: all of it with the record of its key, or nothing. */
import type { OnceContext } from 'redis-once';

export interface Payment {
  readonly to: string;
  readonly cents: number;
}

/** Moves money from the account of the caller. */
export function pay({ tx }: OnceContext, from: string, { to, cents }: Payment): { paid: number } {
  tx.hincrby('balances', from, -cents).hincrby('balances', to, cents);
  tx.xadd('ledger', '*', 'from', from, 'to', to, 'cents', cents);
  return { paid: cents };
}

/**
 * Renames an account, where it still is what the caller has seen: `If-Match` has the version. Where it is not, the commit
 * is refused, and the answer is a 412.
 *
 * @returns the new ETag
 */
export function rename({ tx }: OnceContext, account: string, name: string, ifMatch: string | undefined): string {
  const version = Number(/^"(\d+)"$/.exec(ifMatch ?? '')?.[1] ?? -1);
  tx.require.version(`account:${account}`, 'version', version).hset(`account:${account}`, { name });
  return `"${version + 1}"`;
}
