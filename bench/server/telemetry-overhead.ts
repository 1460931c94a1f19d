/**
 * What `instrument` adds to a call: of a Dedup as it is, of one that is instrumented where no SDK is registered, and of one
 * whose spans and metrics an SDK takes in. In one process, turns one after another in each round. `npm run bench:telemetry`
 */
import { context, type Meter, type Tracer } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { AlwaysOffSampler, BasicTracerProvider, BatchSpanProcessor, type Sampler } from '@opentelemetry/sdk-trace-base';
import Table from 'cli-table3';
import { Redis } from 'ioredis';
import { Dedup } from '../../src/index.js';
import { instrument } from '../../src/otel/index.js';
import { startRedis } from '../../test/support/redis/index.js';
import { ratios, spread, told } from '../measure/statistics.js';
import { circumstances, writeResults } from './server-time.js';

const ROUNDS = 25;
const NAMESPACE = 'bench-telemetry';

const closing: (() => unknown)[] = [];

/** An SDK whose spans and metrics go nowhere: what an exporter costs is its own. */
function sdk(sampler?: Sampler): { tracer: Tracer; meter: Meter } {
  const exporter = {
    export: (_: unknown, done: (result: { code: number }) => void) => done({ code: 0 }),
    shutdown: async () => {},
  };
  const spanProcessors = [new BatchSpanProcessor(exporter, { maxQueueSize: 100_000 })];
  const tracers = new BasicTracerProvider(sampler ? { spanProcessors, sampler } : { spanProcessors });
  const reader = new PeriodicExportingMetricReader({
    exporter: new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE),
  });
  const meters = new MeterProvider({ readers: [reader] });
  closing.push(
    () => tracers.shutdown(),
    () => meters.shutdown(),
  );
  return { tracer: tracers.getTracer('bench'), meter: meters.getMeter('bench') };
}

const server = await startRedis();
const redis = new Redis(server.url);
const make = () => new Dedup(redis, { namespace: NAMESPACE });
const WAYS = {
  'as it is': make(),
  'instrumented, no SDK': instrument(make()),
  'an SDK, no span sampled': instrument(make(), sdk(new AlwaysOffSampler())),
  'an SDK, every span': instrument(make(), sdk()),
};
type Way = keyof typeof WAYS;
const CALLS = 2_000;
const LOADS = { 'one call at a time': 1, '64 calls at once': 64 };

let keys = 0;

/** Microseconds a call, first calls with a handler that returns at once. */
async function turn(dedup: Dedup, atOnce: number): Promise<number> {
  const startedAt = performance.now();
  let left = CALLS;
  const lanes = Array.from({ length: atOnce }, async () => {
    while (left > 0) {
      left -= 1;
      keys += 1;
      await dedup.once(`k${keys}`, () => 'result');
    }
  });
  await Promise.all(lanes);
  return ((performance.now() - startedAt) * 1_000) / CALLS;
}

try {
  // As an SDK for Node registers it: with it, the active span is kept through every await of the process.
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const rows = [];
  for (const [load, atOnce] of Object.entries(LOADS)) {
    const ways = Object.keys(WAYS) as Way[];
    const micros = new Map<Way, number[]>(ways.map((way) => [way, []]));
    // The first rounds warm up and are not counted.
    for (let round = -3; round < ROUNDS; round += 1) {
      // Each round begins with another, so that none always comes after the same.
      for (let index = 0; index < ways.length; index += 1) {
        const way = ways[(index + round + ways.length) % ways.length] as Way;
        const taken = await turn(WAYS[way] as Dedup, atOnce);
        if (round >= 0) micros.get(way)?.push(taken);
      }
      await redis.flushall();
    }
    const plain = micros.get('as it is') as number[];
    for (const [way, taken] of micros) {
      rows.push({ load, way, micros: spread(taken), ratio: spread(ratios(taken, plain)) });
    }
  }
  const table = new Table({ head: ['', '', 'µs a call', 'times the time as it is'], style: { head: [] } });
  for (const { load, way, micros, ratio } of rows) table.push([load, way, told(micros), told(ratio, 2)]);
  console.log(table.toString());
  writeResults('telemetry-overhead', {
    ...(await circumstances(redis)),
    command: 'npm run bench:telemetry',
    rounds: ROUNDS,
    calls: CALLS,
    rows,
  });
} finally {
  for (const close of closing) await close();
  redis.disconnect();
  await server.stop();
}
