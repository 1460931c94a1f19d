/** A handler without dedup: Redis was not reached, and surely nothing was claimed. */
import { monotonicMs } from '../clock.js';
import { onAbort } from '../signals.js';
import { newToken } from '../token.js';
import { Attempt, HandlerRun } from './attempt.js';
import type { Call } from './call.js';
import type { Parts } from './parts.js';
import { decodeResult, encodeResult } from './result.js';

/**
 * Runs the handler as the first attempt, with fence 0 and a closed `tx`.
 *
 * @returns the decoded form of what it came to
 * @throws the handler's own error; CodecError, ResultTooLargeError
 */
export async function bypass(parts: Parts, call: Call): Promise<unknown> {
  const { settings, key, redisKey } = call;
  const { leaseMs, maxRunTimeMs } = settings;
  const terms = { key, redisKey, token: newToken(), fence: 0, born: 0, attempt: 1, ttlMs: 0 };
  const times = { claimedAt: monotonicMs(), leaseMs: maxRunTimeMs + leaseMs, maxRunTimeMs };
  const attempt = new Attempt({ ...terms, ...times }, () => {});
  const unlisten = onAbort(settings.signal, (reason) => attempt.interrupt(reason));
  parts.begin(attempt);
  try {
    const run = new HandlerRun(attempt, call, parts.recorder);
    run.close('bypassed');
    return decodeResult(call, encodeResult(parts, call, await parts.callHandler(run, call.handler)));
  } finally {
    parts.end(attempt);
    unlisten();
  }
}
