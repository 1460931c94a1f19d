/** What becomes of one entry: its call, and what is done with the entry after it. */
import { Delivery } from '../call/delivery.js';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { isDedupError } from '../errors.js';
import { unlessAborted } from '../signals.js';
import type { StreamMessage } from './message.js';
import type { ConsumerSettings } from './options.js';

export type Ending =
  /** Its effects, record and acknowledgement are made; by this call, or (`replayed`) the first two by another before. */
  | { readonly as: 'processed'; readonly status: 'executed' | 'replayed'; readonly attempt: number }
  /** It is handed out again, as if it had not been; `unavailable`: no other would have fared better. */
  | { readonly as: 'postponed'; readonly error: unknown; readonly inMs: number; readonly unavailable: boolean }
  /** It is handed out again, or, where `final` or often enough, a dead letter. */
  | { readonly as: 'failed'; readonly error: unknown; readonly final: boolean };

/** When an entry whose attempt came to nothing here is looked at again, in ms. */
const LOOK_AGAIN_MS = 1_000;

class TooManyDeliveries extends Error {
  override name = 'TooManyDeliveries';
}

/**
 * @param dedup whose calls give up at once where the key is in progress
 * @param signal aborts when the consumer waits no longer
 */
export async function handle(
  dedup: Dedup<Codec>,
  settings: ConsumerSettings,
  message: StreamMessage,
  signal: AbortSignal,
): Promise<Ending> {
  const { stream, group, handler } = settings;
  const isOver = message.deliveries > settings.maxDeliveries;
  const delivery = new Delivery();
  try {
    const key = settings.key ? settings.key(message) : message.id;
    const run = delivery.watch(async (context) => {
      // Not to be tried again. That it has the claim says that no earlier attempt can complete the key any more.
      if (isOver) throw new TooManyDeliveries(`Not completed in ${settings.maxDeliveries} deliveries`);
      const result = await unlessAborted(signal, handler(message, context));
      context.tx.xack(stream, group, message.id);
      return result;
    });
    const fingerprint = settings.fingerprint?.(message);
    const onError = isOver ? ({ onError: 'release' } as const) : {};
    const { status, attempt } = await dedup.run(key, run, { signal, fingerprint, ...onError });
    return { as: 'processed', status: status === 'replayed' ? status : 'executed', attempt };
  } catch (error) {
    // Whatever had become of its lease by then.
    const isStopped = signal.aborted && error === signal.reason;
    const meaning = isStopped ? 'waits' : delivery.meaningOf(error);
    if (meaning === 'failed' || meaning === 'final') {
      return { as: 'failed', error, final: meaning === 'final' || error instanceof TooManyDeliveries };
    }
    const inMs = Math.min(waitMsOf(error), settings.claimIdle);
    return { as: 'postponed', error, inMs, unavailable: meaning === 'unavailable' };
  }
}

/** What another holds is free when its lease ends, at the latest; what was cut off here, by `stop`, at once. */
function waitMsOf(error: unknown): number {
  if (isDedupError(error, 'IN_PROGRESS')) return error.retryAfterMs;
  return isDedupError(error, 'CLOSED') ? 0 : LOOK_AGAIN_MS;
}
