/** One claim: is the server fit, what is asked, what an owner is given, and giving back what had no answer. */
import type { AttemptTerms } from './attempt.js';
import { monotonicMs } from './clock.js';
import { UnsafeServerError } from './errors.js';
import { settle, untilAnswered } from './finish.js';
import type { Call } from './once.js';
import type { Parts } from './parts.js';
import { ExchangeError } from './redis/exchange.js';
import type { ScriptReply } from './redis/scripts.js';
import { fitnessOf, lossBetween } from './redis/server.js';
import { NEEDED_SERVER } from './redis/version.js';
import type { CallSettings } from './settings.js';

/** A record that is not completed outlives its lease and a slow redelivery. */
const SHORTEST_TTL_MS = 60_000;

/** @throws UnsafeServerError; InvalidOptionError of a set, or a server that cannot confirm; ExchangeError, `unknown` only where the claim may stand */
export function claim(parts: Parts, call: Call, token: string): Promise<ScriptReply<'claim'>> {
  const ask = () => askToClaim(parts, call, token, call.settings.onInProgress === 'wait' && parts.hints.channel !== '');
  return isChecked(parts) && !call.mark && !parts.durability ? ask() : prepare(parts, call).then(ask);
}

/** Asks what is to be known before the first claim on a connection, in a set, or of a result that must be confirmed. */
async function prepare(parts: Parts, { key, mark }: Pick<Call, 'key' | 'mark'>): Promise<void> {
  if (!isChecked(parts)) await checkServer(parts, key);
  await parts.durability?.check(key);
  await mark?.agree();
}

/** What the owner of a claim knows of its attempt, by the fields of an `owned` answer. */
export function ownerTerms(call: Call, token: string, { fields, sentAt }: ScriptReply<'claim'>): AttemptTerms {
  const { key, redisKey, settings } = call;
  const { leaseMs, maxRunTimeMs } = settings;
  const [attempt, fence, born] = [Number(fields[0]), Number(fields[1]), Number(fields[2])];
  const claimedAt = sentAt;
  return { key, redisKey, token, attempt, fence, born, leaseMs, maxRunTimeMs, claimedAt, ttlMs: ttlMs(settings) };
}

/**
 * A claim without an answer may stand, or may still come: it is asked for again until it answers, and given back, so
 * that every later copy is stale. Where the server refuses to claim, none stands.
 */
export async function giveBack(parts: Parts, call: Call, token: string): Promise<void> {
  await untilAnswered(parts, monotonicMs() + call.settings.leaseMs, async () => {
    const reply = await askToClaim(parts, call, token, false).catch((error: ExchangeError) => {
      parts.storeError(call, 'claim', error);
      throw error;
    });
    if (reply.status !== 'owned') return;
    const terms = ownerTerms(call, token, reply);
    await settle(parts, terms, { as: 'released', ended: 'unstarted', ttlMs: terms.ttlMs });
  });
}

function askToClaim(parts: Parts, call: Call, token: string, waits: boolean): Promise<ScriptReply<'claim'>> {
  const { fingerprint, settings } = call;
  const { leaseMs, retentionMs, maxAttempts } = settings;
  const args = {
    token,
    fingerprint,
    lease_ms: leaseMs,
    ttl_ms: ttlMs(settings),
    retention_ms: retentionMs,
    max_attempts: maxAttempts,
    waits: waits ? '1' : '0',
  };
  return parts.scripts.call('claim', call.redisKey, args, call.mark ? { effects: call.mark.effects } : {});
}

/** How long a record that is not completed lives, from each write. */
export function ttlMs({ retentionMs, leaseMs }: CallSettings): number {
  return Math.max(retentionMs, 2 * leaseMs, SHORTEST_TTL_MS);
}

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
