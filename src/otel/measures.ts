/** The metrics: what calls come to and how long they take, and what goes wrong beside them. */
import type { Attributes, Meter } from '@opentelemetry/api';
import type { DedupEvents } from '../events.js';
import type { CallFacts, ObservedCall } from '../observer.js';

/** In s: as the conventions have it for database clients, and on to what a handler may take. */
const DURATIONS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300];
/** A `tx` holds 1,000 commands at most. */
const COUNTS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

export class Measures {
  readonly #calls;
  readonly #callDuration;
  readonly #waitDuration;
  readonly #effects;
  readonly #lostLeases;
  readonly #storeErrors;

  constructor(meter: Meter) {
    const seconds = { unit: 's', advice: { explicitBucketBoundaries: DURATIONS } };
    this.#calls = meter.createCounter('redis_once.calls', { unit: '{call}', description: 'Calls that ended.' });
    this.#callDuration = meter.createHistogram('redis_once.call.duration', {
      ...seconds,
      description: 'How long calls took, waits and handlers included.',
    });
    this.#waitDuration = meter.createHistogram('redis_once.wait.duration', {
      ...seconds,
      description: 'How long calls waited for another attempt at their key, those that did.',
    });
    this.#effects = meter.createHistogram('redis_once.commit.effects', {
      unit: '{effect}',
      description: 'Writes on `tx` per commit.',
      advice: { explicitBucketBoundaries: COUNTS },
    });
    this.#lostLeases = meter.createCounter('redis_once.lease.losses', {
      unit: '{loss}',
      description: 'Running attempts that lost their lease.',
    });
    this.#storeErrors = meter.createCounter('redis_once.store.errors', {
      unit: '{error}',
      description: 'Exchanges with Redis that failed.',
    });
  }

  call({ operation, namespace }: ObservedCall, tookMs: number, facts: CallFacts, errorType: string | undefined): void {
    const { outcome = 'failed', waitedMs, effects } = facts;
    const call: Attributes = { 'redis_once.operation': operation, 'redis_once.namespace': namespace };
    const ended: Attributes = { ...call, 'redis_once.outcome': outcome };
    if (errorType) ended['error.type'] = errorType;
    this.#calls.add(1, ended);
    this.#callDuration.record(tookMs / 1_000, ended);
    if (waitedMs) this.#waitDuration.record(waitedMs / 1_000, call);
    if (effects !== undefined) this.#effects.record(effects, call);
  }

  leaseLost({ namespace, reason }: DedupEvents['leaseLost']): void {
    this.#lostLeases.add(1, { 'redis_once.namespace': namespace, 'redis_once.reason': reason });
  }

  storeError({ namespace, operation, code }: DedupEvents['storeError']): void {
    this.#storeErrors.add(1, {
      'redis_once.namespace': namespace,
      'redis_once.exchange': operation,
      'error.type': code ?? 'no_answer',
    });
  }
}
