/** `instrument`: a Dedup whose calls are told to OpenTelemetry. */
import { type Meter, metrics, type Span, type Tracer, trace } from '@opentelemetry/api';
import manifest from '../../package.json' with { type: 'json' };
import { monotonicMs } from '../clock.js';
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';
import { checkDedup, INSIDE } from '../inside.js';
import type { CallFacts, ObservedCall, Observer } from '../observer.js';
import { oneOf, type Rule } from '../rules.js';
import { readMethodOptions } from '../settings.js';
import { errorTypeOf } from './error-type.js';
import { Measures } from './measures.js';
import { Spans } from './spans.js';

/** How a Dedup is instrumented. */
export interface InstrumentOptions {
  /** Default: `redis-once` of the global tracer provider, whenever that is registered. */
  tracer?: Tracer | undefined;
  /** Default: `redis-once` of the global meter provider, which must be registered before. */
  meter?: Meter | undefined;
  /** `'hash'` adds `redis_once.key.hash` to spans: the `keyHash` of events. Default `'none'`. Never the key itself. */
  keys?: 'none' | 'hash' | undefined;
}

const { name, version } = manifest;

const RULES = {
  tracer: made<Tracer>('a Tracer', 'startSpan'),
  meter: made<Meter>('a Meter', 'createHistogram'),
  keys: oneOf('none', 'hash'),
};

/**
 * Has every call of a Dedup make a span and be counted by metrics: those of all its views, of those made before as well. The
 * span is active while the handler runs. Neither holds a key, a payload, a result or an error's message.
 *
 * A tracer or instrument that throws never affects a call; a meter that cannot make its instruments throws here. A Dedup is instrumented once: a second time takes the place of the
 * first.
 *
 * @param dedup a Dedup; a view stands for the one that it came from
 * @returns the same
 * @throws InvalidOptionError naming the option that is wrong
 * @example
 * ```ts
 * import { instrument } from 'redis-once/otel';
 *
 * const dedup = instrument(new Dedup(new Redis(), { namespace: 'orders' }));
 * ```
 */
export function instrument<C extends Codec>(dedup: Dedup<C>, options: InstrumentOptions = {}): Dedup<C> {
  checkDedup(dedup);
  const {
    tracer = trace.getTracer(name, version),
    meter = metrics.getMeter(name, version),
    keys,
  } = readMethodOptions(options, RULES);
  const { parts } = dedup[INSIDE];
  const measures = new Measures(meter);
  parts.observer?.end();
  const unlisten = [
    dedup.on('leaseLost', (event) => measures.leaseLost(event)),
    dedup.on('storeError', (event) => measures.storeError(event)),
  ];
  parts.observer = new CallObserver(new Spans(tracer, keys === 'hash'), measures, () => {
    for (const end of unlisten) end();
  });
  return dedup;
}

class CallObserver implements Observer {
  constructor(
    private readonly spans: Spans,
    private readonly measures: Measures,
    readonly end: () => void,
  ) {}

  async around<R>(call: ObservedCall, live: (facts: CallFacts) => Promise<R>): Promise<R> {
    const facts: CallFacts = {};
    const startedAt = monotonicMs();
    const span = quietly(() => this.spans.begin(call));
    let errorType: string | undefined;
    try {
      return await this.#within(span, () => live(facts));
    } catch (error) {
      errorType = errorTypeOf(error);
      throw error;
    } finally {
      const tookMs = monotonicMs() - startedAt;
      if (span) quietly(() => this.spans.end(span, facts, errorType));
      quietly(() => this.measures.call(call, tookMs, facts, errorType));
    }
  }

  #within<R>(span: Span | undefined, live: () => Promise<R>): Promise<R> {
    let living: Promise<R> | undefined;
    if (span) {
      quietly(() =>
        this.spans.within(span, () => {
          living ??= live();
        }),
      );
    }
    return living ?? live();
  }
}

/** What goes wrong with telemetry is no failure of the call. */
function quietly<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** What is used of it is there: another version of the API, or another's implementation, will do. */
function made<T>(what: string, method: keyof T & string): Rule<T> {
  return (option, value) => {
    if (typeof (value as Record<string, unknown> | null)?.[method] === 'function') return value as T;
    throw new InvalidOptionError(`Expected \`${option}\` to be ${what}, got ${given(value)}`);
  };
}
