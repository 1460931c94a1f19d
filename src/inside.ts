/** What the package's own entry points see of a Dedup, and of a handler's context. */
import { InvalidOptionError } from './errors.js';
import { given } from './given.js';
import type { OnceContext } from './outcome.js';

/**
 * They may be bundled apart from it, hence a registered symbol.
 *
 * @internal
 */
export const INSIDE: unique symbol = Symbol.for('redis-once.inside');

/** What they see of a handler's context. */
export function insideOf(context: OnceContext): { discardWrites(): void } {
  return (context as unknown as { readonly [INSIDE]: { discardWrites(): void } })[INSIDE];
}

/** @throws InvalidOptionError where the value is no Dedup, nor a view of one */
export function checkDedup(value: unknown): void {
  if (typeof value === 'object' && value !== null && INSIDE in value) return;
  throw new InvalidOptionError(`Expected a Dedup, got ${given(value)}`);
}
