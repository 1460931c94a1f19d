/** docs/telemetry.md tells what is: its tables are those of the types and of what the SDK receives, its example was received. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { context, metrics, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { DataPointType } from '@opentelemetry/sdk-metrics';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { instrument } from '../../src/otel/index.js';
import { claimsOf, connect, freshNamespace, gate, makeDedup, until } from '../support/index.js';
import { type Sdk, startSdk } from '../support/telemetry.js';

const ROOT = join(import.meta.dirname, '..', '..');
const PAGE = join(ROOT, 'docs/telemetry.md');
/** There is one. */
const RECEIVED = /(?<=\n```json\n)[\s\S]*?(?=\n```\n)/;
const HOW_TO_ACCEPT = 'To write it anew: UPDATE_TELEMETRY=1 npx vitest run test/package/telemetry.test.ts';

beforeAll(() => void context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable()));
afterAll(() => context.disable());

/** The rows of the table under a heading: of each cell the words in backticks. */
function tableUnder(heading: string): string[][][] {
  const page = readFileSync(PAGE, 'utf8');
  const section = page.slice(page.indexOf(`\n## ${heading}\n`) + 1).split('\n## ')[0] ?? '';
  // The first.
  const [table = ''] = /(?:^\|.*\n)+/m.exec(section) ?? [];
  const rows = table.split('\n').filter((line) => /^\| `/.test(line));
  return rows.map((row) =>
    row
      .slice(1, -1)
      .split(' | ')
      .map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word)),
  );
}

/** What each event carries, by src/events.ts, beside what all events about a key do. */
function fieldsByType(): Map<string, string[]> {
  const source = ts.createSourceFile('events.ts', readFileSync(join(ROOT, 'src/events.ts'), 'utf8'), 99, true);
  const events = source.statements.find((node) => ts.isInterfaceDeclaration(node) && node.name.text === 'DedupEvents');
  const namesIn = (type: ts.TypeNode | undefined): string[] => {
    if (type && ts.isIntersectionTypeNode(type)) return type.types.flatMap(namesIn);
    if (type && ts.isTypeLiteralNode(type)) return type.members.map((member) => member.name?.getText() ?? '');
    return [];
  };
  return new Map(
    (events as ts.InterfaceDeclaration).members.map((member) => [
      member.name?.getText() ?? '',
      namesIn((member as ts.PropertySignature).type),
    ]),
  );
}

/** A call that waited for a holder, which failed, and then ran: within a span of its caller's, around one of its handler's. */
async function oneCall(sdk: Sdk): Promise<void> {
  trace.setGlobalTracerProvider(sdk.tracerProvider);
  metrics.setGlobalMeterProvider(sdk.meterProvider);
  onTestFinished(() => {
    trace.disable();
    metrics.disable();
  });
  const redis = connect();
  const shared = { namespace: 'orders', hints: 'poll' } as const;
  const scope = freshNamespace();
  const holder = makeDedup(shared);
  const dedup = instrument(makeDedup(shared, redis), { keys: 'hash' }).scope(scope);
  const [started, hold] = [gate(), gate()];
  const held = holder.scope(scope).once('order-17', () => {
    started.open();
    return hold.opened;
  });
  await started.opened;
  const claims = claimsOf(redis);
  const call = sdk.tracer.startActiveSpan('consume', async (consume) => {
    await dedup.once('order-17', async ({ tx }) => {
      sdk.tracer.startActiveSpan('charge', (charge) => charge.end());
      tx.incrby(`${scope}-total`, 1_999).rpush(`${scope}-ledger`, 'order-17');
    });
    consume.end();
  });
  await until(() => claims() >= 2);
  hold.fail(new Error('the holder fails'));
  await held.catch(() => {});
  await call;
  await redis.del(`${scope}-total`, `${scope}-ledger`);
  await dedup.forget('order-17');
}

/** What was received, as the page shows it. */
async function received(sdk: Sdk): Promise<string> {
  const nameOf = (id: string | undefined) => sdk.spans().find((span) => span.spanContext().spanId === id)?.name;
  const spans = sdk.spans().map((span) => ({
    span: span.name,
    scope: [span.instrumentationScope.name, span.instrumentationScope.version ?? []].flat().join(' '),
    kind: SpanKind[span.kind],
    parent: nameOf(span.parentSpanContext?.spanId),
    status: SpanStatusCode[span.status.code],
    ms: span.duration[0] * 1e3 + span.duration[1] / 1e6,
    attributes: span.attributes,
  }));
  const points = (await sdk.metrics()).flatMap(({ descriptor, dataPointType, dataPoints }) =>
    dataPoints.map(({ attributes, value }) => ({
      metric: descriptor.name,
      kind: DataPointType[dataPointType],
      unit: descriptor.unit,
      attributes,
      value: typeof value === 'number' ? value : { count: value.count, sum: value.sum },
    })),
  );
  const rounded = (_name: string, value: unknown) => (typeof value === 'number' ? Number(value.toFixed(6)) : value);
  return JSON.stringify([...spans, ...points], rounded, 2);
}

/** Without what differs from run to run, or from release to release: times, the hash of the key, the version. */
function masked(text: string): string {
  return text
    .replace(/("ms"|"sum"|"redis_once.waited_ms"): [^\n,]+/g, '$1: …')
    .replace(/"[0-9a-f]{16}"/g, '…')
    .replace(/redis-once \d[^"]*/g, 'redis-once …');
}

describe('docs/telemetry.md', () => {
  test('shows one call as the SDK receives it', async () => {
    const sdk = startSdk();
    await oneCall(sdk);
    const text = await received(sdk);
    if (process.env.UPDATE_TELEMETRY)
      writeFileSync(
        PAGE,
        readFileSync(PAGE, 'utf8').replace(RECEIVED, () => text),
      );
    expect(masked(RECEIVED.exec(readFileSync(PAGE, 'utf8'))?.[0] ?? ''), HOW_TO_ACCEPT).toBe(masked(text));
  });

  test('has every event with its fields', () => {
    const told = tableUnder('Events').map(([event, , fields]) => [event?.[0], fields]);
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(fieldsByType()));
  });

  test('has every attribute of a span, and every metric with its kind, unit and attributes', async () => {
    const sdk = startSdk();
    const how = { tracer: sdk.tracer, meter: sdk.meter };
    await oneCall(sdk);
    const dedup = instrument(makeDedup(), how);
    await dedup.once('lost', () => dedup.forget('lost', { force: true })).catch(() => {});
    await dedup.seen('set').add('id');
    const away = connect({ lazyConnect: true }, 'redis://127.0.0.1:1');
    const cut = instrument(makeDedup({ redisTimeout: 20 }, away), how);
    await cut.once('k', () => 1).catch(() => {});

    const calls = sdk.spans().filter(({ attributes }) => 'redis_once.outcome' in attributes);
    const attributes = new Set(calls.flatMap((span) => Object.keys(span.attributes)));
    expect(tableUnder('Spans').map(([name]) => name?.[0])).toEqual(expect.arrayContaining([...attributes]));
    expect(tableUnder('Spans')).toHaveLength(attributes.size);

    const known = new Map<string, { kind: string; unit: string; attributes: Set<string> }>();
    for (const { descriptor, dataPointType, dataPoints } of await sdk.metrics()) {
      const kind = dataPointType === DataPointType.SUM ? 'counter' : 'histogram';
      const metric = known.get(descriptor.name) ?? { kind, unit: descriptor.unit, attributes: new Set() };
      for (const point of dataPoints) for (const name of Object.keys(point.attributes)) metric.attributes.add(name);
      known.set(descriptor.name, metric);
    }
    const told = tableUnder('Metrics').map(([name, kind, unit, , attributes]) => [
      name?.[0],
      { kind: kind?.[0], unit: unit?.[0], attributes: new Set(attributes) },
    ]);
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(known));
  });
});
