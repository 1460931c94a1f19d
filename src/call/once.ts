/** The life of one call: claim and run, or replay, wait, take over, reject. */
import { monotonicMs } from '../clock.js';
import { ClosedError, InvalidOptionError, StoredFailureError } from '../errors.js';
import type { CallFacts } from '../observer.js';
import type { Outcome } from '../outcome.js';
import { ExchangeError } from '../redis/exchange.js';
import type { ScriptReply } from '../redis/scripts.js';
import { waitMsOf } from '../settings.js';
import { onAbort } from '../signals.js';
import { newToken } from '../token.js';
import { Attempt, type AttemptTerms } from './attempt.js';
import { bypass } from './bypass.js';
import type { Call } from './call.js';
import { claim, giveBack, ownerTerms } from './claim.js';
import { execute } from './execute.js';
import { confirm } from './finish.js';
import type { Flight } from './flight.js';
import type { Answer, Parts } from './parts.js';
import { decodeFailure, decodeResult } from './result.js';
import {
  attemptsExhausted,
  brokenRecord,
  fingerprintMismatch,
  inProgress,
  storeUnavailable,
  unreadable,
} from './verdicts.js';
import { Wait } from './wait.js';

const NO_RESULT = Buffer.alloc(0);
/**
 * Runs the handler once per key, or tells what another call came to.
 *
 * @throws at once InProgressError for a call from inside the key's own handler, the signal's reason, ClosedError
 */
export function runOnce(parts: Parts, call: Call): Promise<Outcome<unknown>> {
  if (!parts.observer) return begin(parts, call);
  const live = async (facts: CallFacts) => begin(parts, { ...call, facts });
  return parts.observer.around(parts.observed('once', call.redisKey), live);
}

function begin(parts: Parts, call: Call): Promise<Outcome<unknown>> {
  parts.refuseReentry(call.key, call.redisKey);
  call.settings.signal?.throwIfAborted();
  parts.enter(call.key);
  return new Life(parts, call).live();
}

class Life {
  /** What the key stands at, once it is known: given to those who follow. */
  #answer: Answer | undefined;
  #wait: Wait | undefined;
  #waitStartedAt: number | undefined;
  #waitedMs = 0;

  constructor(
    private readonly parts: Parts,
    private readonly call: Call,
  ) {}

  /** Of few promises on purpose: each layer of them costs a call about a tenth of its time. */
  async live(): Promise<Outcome<unknown>> {
    const { parts } = this;
    const { settings, redisKey, fingerprint } = this.call;
    // Callers with another fingerprint make a flight of their own: the record decides which of them is right.
    const id = fingerprint === '' ? redisKey : `${redisKey}\0${fingerprint.toString('latin1')}`;
    let flight: Flight<Answer> | undefined;
    try {
      if (settings.onInProgress === 'wait') {
        const ahead = parts.flights.get(id);
        if (ahead) this.#answer = await this.#follow(ahead);
        if (!this.#answer) flight = ahead ?? parts.flights.open(id);
      }
      const outcome = this.#answer ? undefined : await this.#lead(flight);
      if (flight) parts.flights.close(id, flight, this.#answer);
      flight = undefined;
      return outcome ?? (await this.#replay(this.#answer as Answer));
    } finally {
      if (flight) parts.flights.close(id, flight, this.#answer);
      this.#endWait();
      parts.leave();
    }
  }

  /** The leader's answer; nothing where this call is to lead now. */
  async #follow(flight: Flight<Answer>): Promise<Answer | undefined> {
    const { key, settings } = this.call;
    const deadline = this.#waitDeadline();
    const seat = flight.follow();
    const undo: (() => void)[] = [seat.leave];
    try {
      const gaveUp = new Promise<never>((_, reject) => {
        const timer = setTimeout(() => reject(inProgress(key, flight.retryAt())), deadline - monotonicMs());
        undo.push(() => clearTimeout(timer), onAbort(settings.signal, reject));
      });
      const verdict = await Promise.race([seat.verdict, gaveUp]);
      return verdict.kind === 'answer' ? verdict.answer : undefined;
    } finally {
      for (const step of undo) step();
    }
  }

  /** Speaks with Redis until the key is ours, and runs the handler, or until the key's answer is known. */
  async #lead(flight: Flight<Answer> | undefined): Promise<Outcome<unknown> | undefined> {
    const { parts, call } = this;
    let token = newToken();
    for (;;) {
      this.#throwIfUnwanted();
      let reply: ScriptReply<'claim'>;
      try {
        reply = await claim(parts, call, token);
      } catch (error) {
        if (!(error instanceof ExchangeError)) throw error;
        if (error.failure === 'unknown') void giveBack(parts, call, token);
        parts.storeError(call, 'claim', error);
        this.#answer = { status: 'unavailable', error };
        return undefined;
      }
      const { status, fields } = reply;
      switch (status) {
        case 'owned': {
          if (String(fields[3]) === 'lapsed') {
            parts.events.tell.takenOver?.(parts.about(call, { attempt: Number(fields[0]) }));
          }
          const attempt = this.#begin(ownerTerms(call, token, reply), flight);
          const result = await execute(parts, call, attempt, (answer) => {
            this.#answer = answer;
          });
          const number = attempt.terms.attempt;
          const waitedMs = this.#waitedMs;
          parts.events.tell.executed?.(parts.about(call, { attempt: number, waitedMs, ranMs: attempt.ranMs }));
          if (parts.durability) await confirm(parts, call, result.bytes);
          return this.#outcome('executed', number, result.value);
        }
        case 'completed':
          this.#answer = { status, attempt: Number(fields[0]), result: fields[1] as Buffer };
          return undefined;
        case 'seen':
          this.#answer = { status: 'completed', attempt: 0, result: NO_RESULT };
          return undefined;
        case 'failed':
          this.#answer = { status, attempt: Number(fields[0]), failure: fields[1] as Buffer };
          return undefined;
        case 'exhausted':
          this.#answer = { status, failures: Number(fields[0]) };
          if (String(fields[1]) === 'now') {
            parts.events.tell.failed?.(parts.about(call, { attempt: Number(fields[2]), ranMs: 0 }));
          }
          return undefined;
        case 'broken':
          this.#answer = { status };
          return undefined;
        case 'busy':
          await this.#waitForOther(monotonicMs() + Number(fields[0]), flight);
          break;
        case 'stale':
          token = newToken();
          break;
        case 'mismatch':
          throw fingerprintMismatch(call.key);
        case 'other_kind':
          throw new InvalidOptionError('Expected the key to be one of `once`, got one that `apply` has used', {
            key: call.key,
          });
        case 'unreadable':
          throw unreadable(call.key);
      }
    }
  }

  /** @throws the signal's reason, or ClosedError: no handler is to begin */
  #throwIfUnwanted(): void {
    this.call.settings.signal?.throwIfAborted();
    if (this.parts.closing.aborted) throw new ClosedError('The Dedup is closing', { key: this.call.key });
  }

  async #waitForOther(leaseEndsAt: number, flight: Flight<Answer> | undefined): Promise<void> {
    const { parts, call } = this;
    const { key, redisKey, settings } = call;
    if (flight) flight.retryAt = () => leaseEndsAt;
    const deadline = settings.onInProgress === 'throw' ? 0 : this.#waitDeadline();
    if (monotonicMs() >= deadline) throw inProgress(key, leaseEndsAt);
    this.#wait ??= new Wait(parts.hints, redisKey);
    await this.#wait.pause(leaseEndsAt - monotonicMs(), deadline, [settings.signal, parts.closing]);
  }

  /** When this call gives up waiting, counted from the first time that it asks. */
  #waitDeadline(): number {
    this.#waitStartedAt ??= monotonicMs();
    return this.#waitStartedAt + waitMsOf(this.call.settings);
  }

  #endWait(): void {
    if (this.#waitStartedAt === undefined || this.#waitedMs > 0) return;
    this.#waitedMs = monotonicMs() - this.#waitStartedAt;
    this.#wait?.end();
    this.parts.events.tell.waited?.(this.parts.about(this.call, { waitedMs: this.#waitedMs }));
    if (this.call.facts) this.call.facts.waitedMs = this.#waitedMs;
  }

  #begin(terms: AttemptTerms, flight: Flight<Answer> | undefined): Attempt {
    this.#endWait();
    const attempt = new Attempt(terms, this.parts.leaseLost);
    if (this.call.facts) this.call.facts.attempt = terms.attempt;
    if (flight) flight.retryAt = () => monotonicMs() + attempt.lease.remainingMs;
    return attempt;
  }

  #outcome(status: Outcome<unknown>['status'], attempt: number, value: unknown): Outcome<unknown> {
    const { facts } = this.call;
    if (facts) {
      facts.outcome = status;
      facts.attempt = attempt;
    }
    return { status, value, attempt, waitedMs: this.#waitedMs };
  }

  /** What an answer is to this call. */
  async #replay(answer: Answer): Promise<Outcome<unknown>> {
    const { parts, call } = this;
    const { key } = call;
    this.#endWait();
    switch (answer.status) {
      case 'completed': {
        const { attempt, result } = answer;
        if (parts.durability) await confirm(parts, call, result);
        const outcome = this.#outcome('replayed', attempt, decodeResult(call, result));
        parts.events.tell.replayed?.(parts.about(call, { attempt, waitedMs: this.#waitedMs }));
        return outcome;
      }
      case 'failed': {
        if (call.facts) call.facts.attempt = answer.attempt;
        const failure = decodeFailure(key, answer.failure);
        throw new StoredFailureError('The handler failed, and its failure was stored (see `failure`)', {
          key,
          failure,
        });
      }
      case 'exhausted':
        throw attemptsExhausted(key, answer.failures);
      case 'broken':
        throw brokenRecord(key);
      case 'unavailable': {
        // A claim without an answer may stand: then another handler may run, and this one must not.
        const { onStoreFailure = parts.settings.onStoreFailure } = call.settings;
        if (onStoreFailure === 'proceed' && answer.error.failure !== 'unknown') {
          this.#throwIfUnwanted();
          return this.#outcome('bypassed', 1, await bypass(parts, call));
        }
        throw storeUnavailable(key, answer.error, 'the handler did not run');
      }
    }
  }
}
