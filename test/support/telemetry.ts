/** OpenTelemetry's own SDK with exporters in memory: what a test reads is what a backend would be sent. */
import type { Attributes } from '@opentelemetry/api';
import {
  AggregationTemporality,
  type Histogram,
  InMemoryMetricExporter,
  MeterProvider,
  type MetricData,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { onTestFinished } from 'vitest';

/** Exported when a test asks, not by the clock. */
const NEVER_MS = 2 ** 31 - 1;

export interface Point {
  readonly attributes: Attributes;
  /** Of a counter its sum; of a histogram how many were recorded, and their sum. */
  readonly value: number | { readonly count: number; readonly sum: number };
}

/** An SDK of the test's own; shut down with it. */
export function startSdk() {
  const spanExporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spanExporter)] });
  const metricExporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter: metricExporter, exportIntervalMillis: NEVER_MS });
  const meterProvider = new MeterProvider({ readers: [reader] });
  onTestFinished(async () => {
    await tracerProvider.shutdown();
    await meterProvider.shutdown();
  });

  /** All metrics, as they were last exported. */
  const metrics = async (): Promise<MetricData[]> => {
    await meterProvider.forceFlush();
    return (
      metricExporter
        .getMetrics()
        .at(-1)
        ?.scopeMetrics.flatMap((scope) => scope.metrics) ?? []
    );
  };

  return {
    tracerProvider,
    meterProvider,
    tracer: tracerProvider.getTracer('test'),
    meter: meterProvider.getMeter('test'),
    /** The spans that have ended, in that order. */
    spans: (): ReadableSpan[] => spanExporter.getFinishedSpans(),
    metrics,
    /** The points of one metric; none where nothing was recorded. */
    points: async (name: string): Promise<Point[]> => {
      const metric = (await metrics()).find(({ descriptor }) => descriptor.name === name);
      return (metric?.dataPoints ?? []).map(({ attributes, value }) => {
        if (typeof value === 'number') return { attributes, value };
        const { count, sum = Number.NaN } = value as Histogram;
        return { attributes, value: { count, sum } };
      });
    },
    /** All that was exported, as text. */
    text: async (): Promise<string> => {
      const spans = spanExporter.getFinishedSpans().map(({ name, attributes, status, events, links }) => {
        return { name, attributes, status, events, links };
      });
      return JSON.stringify([spans, await metrics()]);
    },
  };
}

export type Sdk = ReturnType<typeof startSdk>;
