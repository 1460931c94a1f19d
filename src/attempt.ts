/** One attempt at a key: what its handler is given, and how it is told to stop. */
import { createHash } from 'node:crypto';
import { monotonicMs } from './clock.js';
import type { Effects } from './effects/effects.js';
import { effectsOf, type Recorder } from './effects/recorder.js';
import { LeaseLostError } from './errors.js';
import type { LeaseLostReason } from './events.js';
import { Lease, type LeaseTerms } from './lease.js';
import type { Handler, OnceContext } from './outcome.js';

const LOST: Record<LeaseLostReason, string> = {
  taken_over: 'Another attempt took over, or the record is gone',
  no_heartbeat: 'The lease was not renewed in time: another attempt may take over',
  max_run_time: 'The handler ran longer than `maxRunTime`: another attempt may take over',
};

export interface AttemptTerms extends LeaseTerms {
  readonly attempt: number;
  readonly born: number;
}

export class Attempt {
  readonly lease: Lease;
  readonly startedAt = monotonicMs();
  /** The caller or the Dedup asked for the end: it is no failure of the handler's. */
  interrupted = false;
  /** Between its start and its end, commit or settlement included. */
  running = false;
  /** The handler is waited for no more. */
  cut = false;
  #aborted: { reason: unknown } | undefined;
  #controller: AbortController | undefined;
  readonly #whenCut: Promise<never>;
  #cutOff!: (reason: unknown) => void;

  /** @param onLeaseLost told once */
  constructor(
    readonly terms: AttemptTerms,
    onLeaseLost: (reason: LeaseLostReason, ranMs: number) => void,
  ) {
    const { key } = terms;
    this.#whenCut = new Promise((_, reject) => {
      this.#cutOff = (reason) => {
        this.cut = true;
        reject(reason);
      };
    });
    this.#whenCut.catch(() => {});
    this.lease = new Lease(terms, {
      leaseLost: (reason) => {
        onLeaseLost(reason, this.ranMs);
        this.abort(new LeaseLostError(LOST[reason], { key }));
      },
      overrun: () => this.#cutOff(new LeaseLostError(LOST.max_run_time, { key })),
    });
  }

  get ranMs(): number {
    return monotonicMs() - this.startedAt;
  }

  /** Made when a handler first asks. The clock is read: after a blocked event loop no timer has fired yet. */
  get signal(): AbortSignal {
    this.lease.check();
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }

  /** Tells the handler to stop; what it returns or throws still counts. The first reason stays. */
  abort(reason: unknown): void {
    if (this.#aborted) return;
    this.#aborted = { reason };
    this.#controller?.abort(reason);
  }

  /** Was the handler told to stop? */
  get isToEnd(): boolean {
    return this.#aborted !== undefined;
  }

  /** The caller or the Dedup wants no more of it. */
  interrupt(reason: unknown): void {
    this.interrupted = true;
    this.abort(reason);
  }

  /** Stops waiting for the handler: what it does from now on is ignored. */
  cutOff(reason: unknown): void {
    this.interrupt(reason);
    this.#cutOff(reason);
  }

  /** What the handler came to, or the reason of a cut. Its `tx` takes nothing from then on. */
  async run<T>(handler: Handler<T>, recorder: Recorder): Promise<T> {
    try {
      return await Promise.race([this.#whenCut, handler(new Context(this, effectsOf(recorder)))]);
    } finally {
      recorder.close('settled');
    }
  }
}

class Context implements OnceContext {
  readonly key: string;
  readonly attempt: number;
  readonly fence: number;
  readonly #attempt: Attempt;

  constructor(
    attempt: Attempt,
    readonly tx: Effects,
  ) {
    this.#attempt = attempt;
    this.key = attempt.terms.key;
    this.attempt = attempt.terms.attempt;
    this.fence = attempt.terms.fence;
  }

  get signal(): AbortSignal {
    return this.#attempt.signal;
  }

  /** Bound: handlers take their context apart. */
  readonly idempotencyKey = (step: string): string => idempotencyKey(this.#attempt.terms.redisKey, step);
}

/** Of the Redis key, so that namespaces, scopes and slots never share one. */
function idempotencyKey(redisKey: string, step: string): string {
  return createHash('sha256').update(redisKey).update('\0').update(String(step)).digest('base64url');
}
