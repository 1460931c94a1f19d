/** Libraries that callers pass in: redis-once imports none of them. */
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';

/** @throws InvalidOptionError where the value has not the library's two functions */
export function checkLibrary(library: unknown, name: string, ...methods: [string, string]): void {
  const has = (method: string) =>
    typeof (library as Record<string, unknown> | null | undefined)?.[method] === 'function';
  if (methods.every(has)) return;
  throw new InvalidOptionError(
    `Expected ${name}: something with \`${methods[0]}\` and \`${methods[1]}\`, got ${given(library)}`,
  );
}
