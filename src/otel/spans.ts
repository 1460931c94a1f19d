/** One span a call: begun with what is known before, ended with what the call came to. */
import { type Attributes, context, type Span, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api';
import { keyHashOf } from '../events.js';
import type { CallFacts, ObservedCall } from '../observer.js';

export class Spans {
  constructor(
    private readonly tracer: Tracer,
    private readonly withKeyHash: boolean,
  ) {}

  begin({ operation, namespace, redisKey }: ObservedCall): Span {
    const attributes: Attributes = { 'redis_once.operation': operation, 'redis_once.namespace': namespace };
    if (this.withKeyHash) attributes['redis_once.key.hash'] = keyHashOf(redisKey);
    return this.tracer.startSpan(`${operation} ${namespace}`, { attributes });
  }

  /** Calls it with the span active: what begins a span in it makes a child. */
  within(span: Span, work: () => void): void {
    context.with(trace.setSpan(context.active(), span), work);
  }

  /** @param errorType where the call failed */
  end(span: Span, facts: CallFacts, errorType: string | undefined): void {
    // What is undefined is no attribute.
    span.setAttributes({
      'redis_once.outcome': facts.outcome ?? 'failed',
      'redis_once.attempt': facts.attempt,
      'redis_once.waited_ms': facts.waitedMs ?? 0,
      'redis_once.effects': facts.effects,
      'redis_once.ids': facts.ids,
      'redis_once.new_ids': facts.newIds,
      'error.type': errorType,
    });
    // Without a message: that of a handler's error may hold a payload.
    if (errorType) span.setStatus({ code: SpanStatusCode.ERROR });
    span.end();
  }
}
