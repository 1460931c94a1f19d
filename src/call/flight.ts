/**
 * Callers of one key in one process: one of them, the leader, speaks with Redis and runs the handler; the others follow
 * and get what it came to. When the leader leaves without an answer for all, the next in line leads.
 */

/** What a leader leaves to those who follow. */
export type Verdict<A> = { readonly kind: 'answer'; readonly answer: A } | { readonly kind: 'lead' };

/** A follower's place in the line. */
export interface Seat<A> {
  readonly verdict: Promise<Verdict<A>>;
  /** Leaves the line. */
  leave(): void;
}

export class Flight<A> {
  /** Made for the first that follows: most calls have nobody behind them. */
  #line: Set<(verdict: Verdict<A>) => void> | undefined;
  /** When the key may be free at the latest, if its holder dies now; on the monotonic clock. */
  retryAt: () => number = () => 0;

  follow(): Seat<A> {
    let settle!: (verdict: Verdict<A>) => void;
    const verdict = new Promise<Verdict<A>>((resolve) => {
      settle = resolve;
    });
    this.#line ??= new Set();
    this.#line.add(settle);
    return { verdict, leave: () => this.#line?.delete(settle) };
  }

  /** Gives all followers the answer. */
  land(answer: A): void {
    for (const settle of this.#line ?? []) settle({ kind: 'answer', answer });
    this.#line?.clear();
  }

  /** Lets the first in line lead; false where nobody follows. */
  pass(): boolean {
    for (const settle of this.#line ?? []) {
      this.#line?.delete(settle);
      settle({ kind: 'lead' });
      return true;
    }
    return false;
  }
}

export class Flights<A> {
  readonly #flights = new Map<string, Flight<A>>();

  /** The flight that is under way for an id. */
  get(id: string): Flight<A> | undefined {
    return this.#flights.get(id);
  }

  open(id: string): Flight<A> {
    const flight = new Flight<A>();
    this.#flights.set(id, flight);
    return flight;
  }

  /** The leader leaves: with an answer for all, or the next one leads. */
  close(id: string, flight: Flight<A>, answer: A | undefined): void {
    if (answer === undefined && flight.pass()) return;
    this.#flights.delete(id);
    if (answer !== undefined) flight.land(answer);
  }
}
