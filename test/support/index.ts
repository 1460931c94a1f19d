/** The test vocabulary: connections and Dedups that clean up after themselves, and sentences to expect with. */
import { randomUUID } from 'node:crypto';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { beforeAll, describe, expect, inject, onTestFinished, vi } from 'vitest';
import { Dedup, type DedupErrorCode, type DedupOptions, isDedupError, type Outcome } from '../../src/index.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { type RedisServer, type ServerVersion, startRedis } from './redis/index.js';

const AT_HAND = ['the server at hand', undefined] as const;
/** Who asks for a server by `TEST_REDIS` gets that one alone. */
const EACH_SERVER: readonly (readonly [on: string, version: ServerVersion | undefined])[] = process.env.TEST_REDIS
  ? [AT_HAND]
  : [AT_HAND, ['Redis 8.0', 'redis-8.0'], ['Valkey 8.1', 'valkey-8.1']];

const FETCH_MS = 300_000;

/** What may differ between versions, shown on the server at hand and on newer ones. */
export function describeOnEachServer(what: string, tests: (version: ServerVersion | undefined, on: string) => void) {
  describe.each(EACH_SERVER)(`${what}, on %s,`, (on, version) => {
    // A machine's first start of a version fetches it, which may take longer than a test has.
    beforeAll(async () => (await startRedis([], version)).stop(), FETCH_MS);
    tests(version, on);
  });
}

/** A server of the test's own, to be configured or killed; stopped with the test. */
export async function ownServer(...args: string[]): Promise<RedisServer> {
  const server = await startRedis(args);
  onTestFinished(() => server.stop());
  return server;
}

/** The URL of a Redis of the test's own, as of `startRedis`; ended with the test. */
export async function ownRedis(args: readonly string[] = [], version?: ServerVersion): Promise<string> {
  const server = await startRedis(args, version);
  onTestFinished(() => server.stop());
  return server.url;
}

/** A connection to the plain Redis, or to `url`; ended with the test. */
export function connect(options: Omit<RedisOptions, 'replyMapping'> = {}, url: string = inject('redisUrl')): Redis {
  const redis = new Redis(url, options);
  redis.on('error', () => {});
  onTestFinished(() => redis.disconnect());
  return redis;
}

export type ClusterOptions = ConstructorParameters<typeof Cluster>[1];

/** A connection to a Cluster; ended with the test. */
export function connectCluster(nodes: { host: string; port: number }[], options: ClusterOptions = {}): Cluster {
  const cluster = new Cluster(nodes, options);
  cluster.on('error', () => {});
  onTestFinished(() => cluster.disconnect());
  return cluster;
}

/** A namespace that no other test has. */
export function freshNamespace(): string {
  return `test-${randomUUID()}`;
}

/** A Dedup in a namespace of its own; closed with the test, running handlers cut off. */
export function makeDedup(options: DedupOptions = {}, redis: Redis | Cluster = connect()): Dedup {
  const dedup = new Dedup(redis, { namespace: freshNamespace(), ...options });
  onTestFinished(() => dedup.close({ drain: 0 }));
  return dedup as Dedup;
}

/** How many keys each script call had that was sent on this connection. */
export function sizesOn(redis: Redis): number[] {
  const sizes: number[] = [];
  const scripting = redis as unknown as { evalshaBuffer: (...args: unknown[]) => Promise<unknown> };
  const send = scripting.evalshaBuffer.bind(redis);
  scripting.evalshaBuffer = (...args) => {
    sizes.push(Number(args[1]));
    return send(...args);
  };
  return sizes;
}

/** A promise to settle by hand: holds a handler where the test wants it. */
export interface Gate<T = void> {
  readonly opened: Promise<T>;
  open(value: T): void;
  fail(error: unknown): void;
}

export function gate<T = void>(): Gate<T> {
  let open!: (value: T) => void;
  let fail!: (error: unknown) => void;
  const opened = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  opened.catch(() => {});
  return { opened, open, fail };
}

/** Polls until the condition holds; the test's own time limit ends a vain wait. */
export async function until(condition: () => unknown): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** A handler that is held until the test lets it go, and says when it has started. */
export function heldHandler<T>(result: T): {
  handler: () => Promise<T>;
  started: Promise<void>;
  release: () => void;
  runs: () => number;
} {
  const [started, hold] = [gate(), gate()];
  let runs = 0;
  const handler = async () => {
    runs += 1;
    started.open();
    await hold.opened;
    return result;
  };
  return { handler, started: started.opened, release: () => hold.open(), runs: () => runs };
}

/** The call rejects with the library's error of that code. Returns it. */
export async function expectCode<C extends DedupErrorCode>(call: Promise<unknown>, code: C) {
  const error = await call.then(
    (value) => expect.fail(`Expected ${code}, got a value: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  if (!isDedupError(error, code)) throw error;
  return error;
}

/** Exactly one of the outcomes ran the handler; all have the same value. */
export function expectRanOnce(outcomes: readonly Outcome<unknown>[]): void {
  expect(outcomes.filter(({ status }) => status === 'executed')).toHaveLength(1);
  expect(outcomes.filter(({ status }) => status === 'replayed')).toHaveLength(outcomes.length - 1);
  for (const { value } of outcomes) expect(value).toEqual(outcomes[0]?.value);
}

/**
 * Holds a server with a script that does not end, until it answers BUSY: set its `lua-time-limit` low. Returns what kills
 * the script.
 */
export async function holdByScript(url: string): Promise<() => Promise<void>> {
  const [admin, hog] = [connect({}, url), connect({}, url)];
  const ended = hog.eval('while true do end', 0).catch(() => {});
  await until(() =>
    admin.ping().then(
      () => false,
      ({ message }: Error) => message.startsWith('BUSY'),
    ),
  );
  return async () => {
    await admin.script('KILL');
    await ended;
  };
}

/** Where docs/protocol.md has the end of the lease in a record. */
const LEASE_OFFSET = 30;

/** Sets the end of a record's lease, as if its time had passed. Returns it in ms since 1970. */
export async function endLeaseIn(redis: Redis, redisKey: string, ms: number): Promise<number> {
  const [seconds, micros] = (await redis.time()).map(Number) as [number, number];
  const end = Math.floor(seconds * 1_000 + micros / 1_000) + ms;
  const bytes = Buffer.alloc(6);
  bytes.writeUIntBE(end, 0, 6);
  await redis.setrange(redisKey, LEASE_OFFSET, bytes);
  return end;
}

/** Every key in a namespace, as Redis has it. */
export async function keysOf(redis: Redis, namespace: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const page of redis.scanStream({ match: `*${namespace}:*`, count: 1_000 }))
    keys.push(...(page as string[]));
  return keys.sort();
}

/** Counts the claims that are sent from now on. */
export function claimsOf(redis: Redis): () => number {
  const scripting = redis as unknown as { evalshaBuffer(...args: unknown[]): Promise<unknown> };
  const sent = vi.spyOn(scripting, 'evalshaBuffer');
  return () => sent.mock.calls.filter(([sha1]) => sha1 === SCRIPTS.claim.sha1).length;
}
