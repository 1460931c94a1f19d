/** One claim: is the server fit, what is asked, what an owner is given, and giving back what had no answer. */
import { monotonicMs } from '../clock.js';
import type { ExchangeError } from '../redis/exchange.js';
import type { ScriptReply } from '../redis/scripts.js';
import { ttlMsOf } from '../settings.js';
import type { AttemptTerms } from './attempt.js';
import type { Call } from './call.js';
import { settle, untilAnswered } from './finish.js';
import type { Parts } from './parts.js';
import { checkServer, isChecked } from './server-check.js';

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
  return { key, redisKey, token, attempt, fence, born, leaseMs, maxRunTimeMs, claimedAt, ttlMs: ttlMsOf(settings) };
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
    ttl_ms: ttlMsOf(settings),
    retention_ms: retentionMs,
    max_attempts: maxAttempts,
    waits: waits ? '1' : '0',
  };
  return parts.scripts.call('claim', call.redisKey, args, call.mark ? { effects: call.mark.effects } : {});
}
