/** One attempt at a key: what its handler is given, and how it is told to stop. */
import { createHash } from 'node:crypto';
import { monotonicMs } from '../clock.js';
import type { Effects } from '../effects/effects.js';
import { type EffectOrigin, effectsOf, type Recorder, type RecorderSubject } from '../effects/recorder.js';
import { InvalidOptionError, LeaseLostError } from '../errors.js';
import type { LeaseLostReason } from '../events.js';
import { given } from '../given.js';
import { INSIDE } from '../inside.js';
import type { Handler, OnceContext } from '../outcome.js';
import { type EffectList, NO_EFFECTS } from '../redis/scripts.js';
import { Lease, type LeaseHolder, type LeaseTerms } from './lease.js';

const LOST: Record<LeaseLostReason, string> = {
  taken_over: 'Another attempt took over, or the record is gone',
  no_heartbeat: 'The lease was not renewed in time: another attempt may take over',
  max_run_time: 'The handler ran longer than `maxRunTime`: another attempt may take over',
};

export interface AttemptTerms extends LeaseTerms {
  readonly attempt: number;
  readonly born: number;
}

export class Attempt implements LeaseHolder {
  readonly lease: Lease;
  /** The caller or the Dedup asked for the end: it is no failure of the handler's. */
  interrupted = false;
  /** Between its start and its end, commit or settlement included. */
  running = false;
  #aborted: { reason: unknown } | undefined;
  #controller: AbortController | undefined;
  #cut: { reason: unknown } | undefined;
  #whenCut: ((reason: unknown) => void) | undefined;

  /** @param onLeaseLost told once */
  constructor(
    readonly terms: AttemptTerms,
    private readonly onLeaseLost: (attempt: Attempt, reason: LeaseLostReason) => void,
  ) {
    this.lease = new Lease(terms, this);
  }

  leaseLost(reason: LeaseLostReason): void {
    this.onLeaseLost(this, reason);
    this.abort(new LeaseLostError(LOST[reason], { key: this.terms.key }));
  }

  overrun(): void {
    this.#cutOff(new LeaseLostError(LOST.max_run_time, { key: this.terms.key }));
  }

  /** From its claim until now. */
  get ranMs(): number {
    return monotonicMs() - this.terms.claimedAt;
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

  /** Is the handler waited for no more? */
  get cut(): boolean {
    return this.#cut !== undefined;
  }

  /** Stops waiting for the handler: what it does from now on is ignored. */
  cutOff(reason: unknown): void {
    this.interrupt(reason);
    this.#cutOff(reason);
  }

  #cutOff(reason: unknown): void {
    this.#cut ??= { reason };
    this.#whenCut?.(reason);
  }

  /**
   * What comes of the handler's promise, or the reason of a cut.
   *
   * @param settled called before, at once
   */
  unlessCut<T>(returned: PromiseLike<T>, settled: () => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (reason: unknown) => {
        settled();
        reject(reason);
      };
      this.#whenCut = fail;
      Promise.resolve(returned).then((value) => {
        settled();
        resolve(value);
      }, fail);
      if (this.#cut) fail(this.#cut.reason);
    });
  }
}

/** One run of an attempt's handler, and what it writes. */
export class HandlerRun {
  #recorder: Recorder | undefined;
  #closed: 'settled' | 'bypassed' | undefined;

  /** @param makeRecorder called when the handler first asks for its `tx`: many write nothing */
  constructor(
    readonly attempt: Attempt,
    private readonly subject: RecorderSubject,
    private readonly makeRecorder: (subject: RecorderSubject) => Recorder,
  ) {}

  get tx(): Effects {
    return effectsOf(this.#recording());
  }

  /** How many commands the handler wrote. */
  get commands(): number {
    return this.#recorder?.commands ?? 0;
  }

  get effects(): EffectList {
    return this.#recorder?.effects ?? this.subject.mark?.effects ?? NO_EFFECTS;
  }

  /** Asks whether the sets that it marks are used as others use them; undefined where it marks none. */
  get agree(): (() => Promise<void>) | undefined {
    const recorder = this.#recorder;
    const marking = recorder?.marks === false ? undefined : (recorder ?? this.subject.mark);
    return marking && (() => marking.agree());
  }

  /** Which of the caller's commands or conditions an effect is, by the number that the script tells. */
  origin(number: number): EffectOrigin {
    return this.#recording().origin(number);
  }

  #recording(): Recorder {
    if (!this.#recorder) {
      this.#recorder = this.makeRecorder(this.subject);
      if (this.#closed) this.#recorder.close(this.#closed);
    }
    return this.#recorder;
  }

  /** Its `tx` takes nothing from now on. */
  close(why: 'settled' | 'bypassed'): void {
    this.#closed ??= why;
    this.#recorder?.close(why);
  }

  /** Whatever was written is not made, and nothing more is taken. */
  discard(): void {
    this.close('settled');
    this.#recorder = undefined;
  }

  /** What the handler came to, or the reason of a cut. Nothing is awaited of a handler that returns at once. */
  call<T>(handler: Handler<T>): T | Promise<T> {
    let returned: T | PromiseLike<T>;
    try {
      returned = handler(new Context(this));
    } catch (error) {
      this.close('settled');
      throw error;
    }
    if (isPromiseLike(returned)) return this.attempt.unlessCut(returned, () => this.close('settled'));
    this.close('settled');
    return returned;
  }
}

class Context implements OnceContext {
  readonly #run: HandlerRun;

  constructor(run: HandlerRun) {
    this.#run = run;
  }

  /** For the package's own entry points: the call may still complete, with a result alone. */
  get [INSIDE]() {
    return { discardWrites: () => this.#run.discard() };
  }

  get key(): string {
    return this.#run.attempt.terms.key;
  }

  get attempt(): number {
    return this.#run.attempt.terms.attempt;
  }

  get fence(): number {
    return this.#run.attempt.terms.fence;
  }

  get signal(): AbortSignal {
    return this.#run.attempt.signal;
  }

  get tx(): Effects {
    return this.#run.tx;
  }

  /** Bound: handlers take their context apart. */
  get idempotencyKey(): (step: string) => string {
    const { key, redisKey } = this.#run.attempt.terms;
    return (step) => {
      if (typeof step === 'string' && step !== '') return idempotencyKey(redisKey, step);
      // Two steps whose names are misspelt would have one key, and a service would drop the second.
      throw new InvalidOptionError(`Expected the step to be a non-empty string, got ${given(step)}`, { key });
    };
  }
}

export function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}

/** Of the Redis key, so that namespaces, scopes and slots never share one. */
function idempotencyKey(redisKey: string, step: string): string {
  return createHash('sha256').update(redisKey).update('\0').update(step).digest('base64url');
}
