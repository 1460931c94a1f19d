/** Time as the library measures it: monotonic, so that a stepped wall clock moves no lease and no deadline. */

/** Milliseconds that only ever go forward, also while the process is stopped. */
export function monotonicMs(): number {
  return performance.now();
}
