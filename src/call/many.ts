/** Many calls at once. Each is a call like any other; those of one tick share their script calls. */
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';
import type { BatchOutcome, BatchSpec, Handler, Outcome } from '../outcome.js';
import { wholeNumber } from '../rules.js';
import type { Limit } from './limit.js';

const MOST_AT_A_TIME = wholeNumber(1, 1_000_000);

/** What one item came to; a failure of its own is no other item's. */
export async function outcomeOf<I, T>(
  item: I,
  spec: BatchSpec<I, unknown>,
  limit: Limit,
  run: (key: string, handler: Handler<unknown>, own: { fingerprint?: unknown; slot?: string }) => Promise<Outcome<T>>,
): Promise<BatchOutcome<I, T>> {
  let key = '';
  try {
    key = spec.key(item);
    const own: { fingerprint?: unknown; slot?: string } = {};
    if (spec.fingerprint) own.fingerprint = spec.fingerprint(item);
    if (spec.slot) own.slot = spec.slot(item);
    // All are claimed at once; the handlers wait for their turn, their leases being renewed.
    const handler: Handler<unknown> = (context) => limit.run(context.signal, () => spec.handler(item, context));
    return { item, key, ...(await run(key, handler, own)) };
  } catch (error) {
    return { item, key, status: 'failed', error };
  }
}

/**
 * @returns how many handlers may run at a time
 * @throws InvalidOptionError
 */
export function checkBatch(items: unknown, spec: unknown): number {
  if (!Array.isArray(items)) throw new InvalidOptionError(`Expected the items to be an array, got ${given(items)}`);
  const { key, handler, fingerprint, slot, concurrency, ...others } = (spec ?? {}) as Record<string, unknown>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) {
    throw new InvalidOptionError(
      `\`${unknown}\` is not part of a spec. There is: key, handler, fingerprint, slot, concurrency`,
    );
  }
  for (const [name, value] of Object.entries({ key, handler, fingerprint: fingerprint ?? key, slot: slot ?? key })) {
    if (typeof value !== 'function') {
      throw new InvalidOptionError(`Expected \`${name}\` to be a function, got ${given(value)}`);
    }
  }
  return concurrency === undefined ? Number.POSITIVE_INFINITY : MOST_AT_A_TIME('concurrency', concurrency);
}

/** @throws InvalidOptionError */
export function checkEntries(entries: unknown): void {
  if (!Array.isArray(entries))
    throw new InvalidOptionError(`Expected the entries to be an array, got ${given(entries)}`);
  for (const entry of entries) {
    if (typeof entry !== 'object' || entry === null) {
      throw new InvalidOptionError(
        `Expected each entry to be an object with \`key\` and \`write\`, got ${given(entry)}`,
      );
    }
  }
}
