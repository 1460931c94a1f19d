/** Who listens to which event. Nothing is made for an event without a listener, and a listener's failure is its own. */
import { InvalidOptionError } from './errors.js';
import { given } from './given.js';

type Listener<P> = (payload: P) => void;

/** @typeParam E the events by name, each with what it tells */
export class Listeners<E extends object> {
  /**
   * What tells an event, there where somebody listens to it. Called as `tell.done?.({ … })`: where nobody listens, what it
   * would be told is not made.
   */
  readonly tell: { [K in keyof E]?: Listener<E[K]> | undefined };
  readonly #listeners = new Map<keyof E, Set<Listener<never>>>();

  /** @param names of all events that there are */
  constructor(private readonly names: { readonly [K in keyof E]: true }) {
    this.tell = Object.fromEntries(Object.keys(names).map((name) => [name, undefined])) as typeof this.tell;
  }

  /**
   * Returns what ends the listening.
   *
   * @throws InvalidOptionError for an unknown event, or a listener that is no function
   */
  on<K extends keyof E>(event: K, listener: Listener<E[K]>): () => void {
    if (!Object.hasOwn(this.names, event)) {
      throw new InvalidOptionError(`Expected an event of ${Object.keys(this.names).join(', ')}, got ${given(event)}`);
    }
    if (typeof listener !== 'function') {
      throw new InvalidOptionError(`Expected the listener to be a function, got ${given(listener)}`);
    }
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners);
    // Its own closure: the same function may listen twice, and each is taken away by itself.
    const entry: Listener<E[K]> = (payload) => listener(payload);
    listeners.add(entry as Listener<never>);
    this.tell[event] = (payload) => tellAll(listeners as Set<Listener<E[K]>>, payload);
    return () => {
      listeners.delete(entry as Listener<never>);
      if (listeners.size === 0) this.tell[event] = undefined;
    };
  }
}

function tellAll<P>(listeners: ReadonlySet<Listener<P>>, payload: P): void {
  for (const listener of [...listeners]) {
    try {
      // A listener that throws, now or later, never affects a call.
      const returned = listener(payload) as unknown;
      if (returned instanceof Promise) returned.catch(() => {});
    } catch {}
  }
}
