/** Is the server fit to remember? Asked once a connection, before anything is sent that relies on it. */
import { UnsafeServerError } from '../errors.js';
import { ExchangeError } from '../redis/exchange.js';
import { fitnessOf, lossBetween } from '../redis/server.js';
import { NEEDED_SERVER } from '../redis/version.js';
import type { Parts } from './parts.js';

/** Is there nothing to ask of the server? It is asked once per connection, and again after a reconnect. */
export function isChecked(parts: Parts): boolean {
  return parts.settings.allowEviction || parts.checkedEpoch === parts.connection.epoch;
}

/** @throws UnsafeServerError; ExchangeError, `unsent` */
export async function checkServer(parts: Parts, key: string): Promise<void> {
  const { epoch } = parts.connection;
  const { tooOld, evicts, policy, history, isWhole } = await fitnessOf(
    parts.connection,
    parts.scripts.deadline(),
  ).catch((error: unknown) => {
    // Whatever became of the question, no key was claimed by it.
    throw error instanceof ExchangeError ? error.as('unsent') : error;
  });
  if (tooOld !== undefined) {
    throw new UnsafeServerError(
      `Expected ${NEEDED_SERVER}, got ${tooOld}, which may make a part of a call's writes and fail at the next one: ` +
        'upgrade the server, or connect to another',
      { key },
    );
  }
  if (parts.checkedEpoch === epoch) return;
  if (history) {
    const loss = parts.history && lossBetween(parts.history, history);
    if (loss) parts.events.tell.historyLost?.({ namespace: parts.settings.namespace, loss });
    parts.history = history;
  }
  if (evicts || policy === null) parts.events.tell.unsafeServer?.({ namespace: parts.settings.namespace, policy });
  if (evicts) {
    throw new UnsafeServerError(
      `The server may evict records (maxmemory-policy ${policy}), and what is evicted runs again: ` +
        'set maxmemory-policy to noeviction, or accept the risk with `allowEviction: true`',
      { key },
    );
  }
  if (isWhole) parts.checkedEpoch = epoch;
}
