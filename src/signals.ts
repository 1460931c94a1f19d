/**
 * Listening to a caller's AbortSignal: one listener a signal, however many calls share it, and none when they are done.
 * Node warns at more than ten.
 */

const hubs = new WeakMap<AbortSignal, Set<(reason: unknown) => void>>();

/** Calls back with the reason when the signal aborts, at once where it has. Returns what takes the listener away. */
export function onAbort(signal: AbortSignal | undefined, listener: (reason: unknown) => void): () => void {
  if (!signal) return () => {};
  if (signal.aborted) {
    listener(signal.reason);
    return () => {};
  }
  const listeners = hubs.get(signal) ?? open(signal);
  // Its own closure, so that two calls may share a function.
  const entry = (reason: unknown) => listener(reason);
  listeners.add(entry);
  return () => {
    listeners.delete(entry);
    if (listeners.size > 0 || hubs.get(signal) !== listeners) return;
    hubs.delete(signal);
    signal.removeEventListener('abort', tell);
  };
}

function open(signal: AbortSignal): Set<(reason: unknown) => void> {
  const listeners = new Set<(reason: unknown) => void>();
  hubs.set(signal, listeners);
  signal.addEventListener('abort', tell, { once: true });
  return listeners;
}

function tell(this: AbortSignal): void {
  const listeners = hubs.get(this);
  hubs.delete(this);
  for (const listener of listeners ?? []) listener(this.reason);
}

/** What the work comes to, or, where the signal aborts before, its reason: the work is then waited for no more. */
export async function unlessAborted<T>(signal: AbortSignal, work: T | PromiseLike<T>): Promise<T> {
  let unlisten = () => {};
  const aborted = new Promise<never>((_, reject) => {
    unlisten = onAbort(signal, reject);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    unlisten();
  }
}

/** Did what was told of the signal end by it? What Node's own functions throw is an AbortError, and the reason its cause. */
export function isEndedBy({ aborted, reason }: AbortSignal, error: unknown): boolean {
  return aborted && (error === reason || (error instanceof Error && error.cause === reason));
}
