/** Lists of calls that fail as a whole: their entries are sought one by one where that can help, and not where it cannot. */
import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Connection } from '../../src/redis/connection.js';
import { ExchangeError } from '../../src/redis/exchange.js';
import { type ScriptCall, type ScriptReply, Scripts } from '../../src/redis/scripts.js';
import { newToken } from '../../src/token.js';
import {
  connect,
  freshNamespace,
  heldHandler,
  holdByScript,
  makeDedup,
  ownServer,
  sizesOn,
  until,
} from '../support/index.js';
import { type Fate, FaultProxy } from '../support/proxy.js';

const TERMS = { lease_ms: 60_000, ttl_ms: 120_000 };

/** Renewals of attempts that have just claimed these keys. */
async function claimAll(redis: Redis, keys: string[]): Promise<ScriptCall<'renew'>[]> {
  const claims = keys.map((redisKey) => ({
    redisKey,
    args: { ...TERMS, token: newToken(), fingerprint: '', retention_ms: 60_000, max_attempts: 0, waits: '0' },
  }));
  const replies = await new Scripts(Connection.of(redis), 5_000).callMany('claim', claims);
  return claims.map(({ redisKey, args: { token } }, i) => {
    const { fields } = replies[i] as ScriptReply<'claim'>;
    return { redisKey, args: { ...TERMS, token, fence: String(fields[1]) } };
  });
}

/** `renewed`, or of what failed what is known and why. */
function toldOf(replies: readonly (ScriptReply<'renew'> | ExchangeError)[]): string[] {
  return replies.map((reply) => (reply instanceof ExchangeError ? `${reply.failure} ${reply.code}` : reply.status));
}

/** A server with a user `app` of these key patterns, who may do everything with them. */
async function serverForApp() {
  const { url } = await ownServer('--lua-time-limit', '10');
  const admin = connect({}, url);
  const allow = (...keys: string[]) =>
    admin.call('ACL', 'SETUSER', 'app', 'on', 'nopass', '&*', '+@all', 'resetkeys', ...keys.map((key) => `~${key}`));
  await allow('*');
  return { url, admin, allow, app: connect({ username: 'app', password: 'x' }, url) };
}

describe('a list of renewals', () => {
  test('of which one key is forbidden renews the others, in order, and tells of that one', async () => {
    const { admin, allow, app } = await serverForApp();
    const renewals = await claimAll(admin, ['a', 'b', 'c', 'd']);
    await allow('a', 'b', 'd');
    const sizes = sizesOn(app);
    const replies = await new Scripts(Connection.of(app), 5_000).callMany('renew', renewals);
    expect(toldOf(replies)).toEqual(['renewed', 'renewed', 'refused NOPERM', 'renewed']);
    expect(sizes).toEqual([4, 1, 1, 1, 1]);
  });

  test('whose keys hold nothing, or no record, is one list', async () => {
    const { admin } = await serverForApp();
    const renewals = await claimAll(admin, ['a', 'b', 'c']);
    const scripts = new Scripts(Connection.of(admin), 5_000);
    const sizes = sizesOn(admin);
    const foreign = async (key: string) => {
      await admin.unlink(key);
      await admin.lpush(key, 'no string');
    };
    await foreign('b');
    await admin.unlink('c');
    expect(toldOf(await scripts.callMany('renew', renewals))).toEqual(['renewed', 'lost', 'lost']);
    for (const key of ['a', 'c']) await foreign(key);
    expect(new Set(toldOf(await scripts.callMany('renew', renewals)))).toEqual(new Set(['lost']));
    expect(sizes).toEqual([3, 3]);
  });

  test('that is long goes in parts, each answer in its place', async () => {
    const { admin } = await serverForApp();
    const renewals = await claimAll(
      admin,
      Array.from({ length: 300 }, (_, i) => `k${i}`),
    );
    await admin.unlink('k0', 'k128', 'k299');
    const sizes = sizesOn(admin);
    const told = toldOf(await new Scripts(Connection.of(admin), 5_000).callMany('renew', renewals));
    expect(told.flatMap((status, i) => (status === 'lost' ? [i] : []))).toEqual([0, 128, 299]);
    expect(sizes).toEqual([128, 128, 44]);
  });

  test.each<[Fate]>([['cut before'], ['cut after'], ['lose reply']])(
    'without an answer (%s) is not sought singly',
    async (fate) => {
      const server = await ownServer();
      const proxy = await FaultProxy.start(server.port);
      onTestFinished(() => proxy.stop());
      const redis = connect({ autoResendUnfulfilledCommands: false, retryStrategy: () => 5 }, proxy.url);
      const scripts = new Scripts(Connection.of(redis), 300);
      const renewals = await claimAll(redis, ['a', 'b', 'c']);
      expect(toldOf(await scripts.callMany('renew', renewals))).toEqual(['renewed', 'renewed', 'renewed']);
      const sizes = sizesOn(redis);
      proxy.fate = () => fate;
      expect(toldOf(await scripts.callMany('renew', renewals))).toEqual([
        'unknown null',
        'unknown null',
        'unknown null',
      ]);
      expect(sizes).toEqual([3]);
    },
  );

  test('that a busy server refuses is not sought singly', async () => {
    const { url, admin } = await serverForApp();
    const renewals = await claimAll(admin, ['a', 'b', 'c']);
    const free = await holdByScript(url);
    const sizes = sizesOn(admin);
    const replies = await new Scripts(Connection.of(admin), 5_000).callMany('renew', renewals);
    await free();
    expect(toldOf(replies)).toEqual(['refused BUSY', 'refused BUSY', 'refused BUSY']);
    expect(sizes).toEqual([3]);
  });
});

test('a heartbeat of which one key is forbidden renews the other attempts, and tells of that one', async () => {
  const { allow, app } = await serverForApp();
  const [namespace, leaseMs] = [freshNamespace(), 1_000];
  const dedup = makeDedup({ namespace, lease: leaseMs }, app);
  const errors: string[] = [];
  dedup.on('storeError', ({ key, operation, code }) => errors.push(`${operation} ${key} ${code}`));
  const keys = ['a', 'forbidden', 'c'];
  const held = keys.map(() => heldHandler('value'));
  const calls = keys.map((key, i) => dedup.run(key, held[i]?.handler as () => Promise<string>));
  await Promise.all(held.map(({ started }) => started));
  await allow(`${namespace}:a`, `${namespace}:c`);
  const sizes = sizesOn(app);
  // No beat meanwhile: then all are due at once, in one list.
  const end = performance.now() + leaseMs / 2;
  while (performance.now() < end);
  await until(() => errors.length > 0);
  expect(sizes.filter((size) => size > 1)[0]).toBe(3);
  for (const key of ['a', 'c']) {
    let left = 0;
    await until(async () => {
      const before = left;
      left = (await dedup.inspect(key))?.leaseRemainingMs as number;
      return before > 0 && left > before;
    });
  }
  expect(new Set(errors)).toEqual(new Set(['renew forbidden NOPERM']));
  await allow('*');
  for (const { release } of held) release();
  expect((await Promise.all(calls)).map(({ status, attempt }) => [status, attempt])).toEqual(
    keys.map(() => ['executed', 1]),
  );
});
