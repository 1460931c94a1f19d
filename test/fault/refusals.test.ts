/** Servers that refuse: for want of memory or disk, while they load, and while a foreign script holds them. */
import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Dedup, Effects, SeenSet } from '../../src/index.js';
import { connect, expectCode, heldHandler, holdByScript, makeDedup, ownServer, until } from '../support/index.js';

/** The codes of the scripts that the server has refused as a whole on this connection. */
function refusalsOn(redis: Redis): string[] {
  const codes: string[] = [];
  const scripting = redis as unknown as { evalshaBuffer: (...args: unknown[]) => Promise<unknown> };
  const send = scripting.evalshaBuffer.bind(redis);
  scripting.evalshaBuffer = (...args) => {
    const reply = send(...args);
    reply.catch(({ message }: Error) => {
      const [code] = message.split(' ') as [string];
      // Not a refusal: the script has yet to be loaded.
      if (code !== 'NOSCRIPT') codes.push(code);
    });
    return reply;
  };
  return codes;
}

/** What a Dedup tells of exchanges that failed: `commit OOM`. */
function storeErrorsOf(dedup: Dedup): string[] {
  const told: string[] = [];
  dedup.on('storeError', ({ operation, code }) => told.push(`${operation} ${code}`));
  return told;
}

const neverRuns = () => expect.fail('the handler must not run');

describe('a server without memory', () => {
  async function stage() {
    const { url } = await ownServer();
    const [redis, admin] = [connect({}, url), connect({}, url)];
    const setFull = (full: boolean) => admin.config('SET', 'maxmemory', full ? '1' : '0');
    return { redis, admin, dedup: makeDedup({ lease: '1s' }, redis), setFull };
  }

  test('refuses an `apply` whose writes it would take by themselves, and makes none of them', async () => {
    const { admin, dedup, setFull } = await stage();
    await admin.hset('hash', 'field', 'value');
    await setFull(true);
    await expectCode(
      dedup.apply('k', (tx) => void tx.hdel('hash', 'field')),
      'STORE_UNAVAILABLE',
    );
    expect(await admin.hget('hash', 'field')).toBe('value');
    expect(await admin.dbsize()).toBe(1);
  });

  test('refuses new work: its handler does not run, nothing is written; what is completed is still replayed', async () => {
    const { admin, dedup, setFull } = await stage();
    const told = storeErrorsOf(dedup);
    await dedup.once('completed', () => 'value');
    await dedup.once('released', () => Promise.reject(new Error('fails'))).catch(() => {});
    const { redisKey, ...before } = (await dedup.inspect('released')) as { redisKey: string };
    await setFull(true);
    for (const key of ['new', 'released']) {
      const error = await expectCode(dedup.once(key, neverRuns), 'STORE_UNAVAILABLE');
      expect(error.message).toMatch(/out of memory .*: the handler did not run/);
    }
    expect(told).toEqual(['claim OOM', 'claim OOM']);
    expect(await admin.dbsize()).toBe(2);
    expect(await dedup.inspect('released')).toEqual({ ...before, redisKey, expiresInMs: expect.any(Number) });
    expect(await dedup.run('completed', neverRuns)).toMatchObject({ status: 'replayed', value: 'value' });
    await setFull(false);
    expect(await dedup.run('new', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 1 });
    expect(await dedup.run('released', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  });

  test.each<[string, (tx: Effects, set: SeenSet) => Effects, string[]]>([
    ['a message', (tx) => tx.publish('channel', 'message'), ['message']],
    ['the mark of an id that has one', (tx, set) => tx.seen(set, 'id'), []],
  ])(
    'takes finished work that begins with %s, which is no write to it, and makes all of it once',
    async (_, begin, messages) => {
      const { admin, redis, dedup } = await stage();
      const set = dedup.seen('set');
      await set.add('id');
      const heard: string[] = [];
      await admin.subscribe('channel');
      admin.on('message', (_channel, message) => heard.push(message));
      const { handler, started, release } = heldHandler('value');
      const held = dedup.run('k', ({ tx }) => {
        begin(tx, set).incr('number').rpush('list', 'element');
        return handler();
      });
      held.catch(() => {});
      await started;
      await redis.config('SET', 'maxmemory', '1');
      release();
      expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
      expect([await redis.get('number'), await redis.lrange('list', 0, -1)]).toEqual(['1', ['element']]);
      await redis.publish('channel', 'end');
      await until(() => heard.at(-1) === 'end');
      expect(heard.slice(0, -1)).toEqual(messages);
    },
  );

  test('still renews, commits, releases and fails what was claimed before', async () => {
    const { dedup, setFull } = await stage();
    const told = storeErrorsOf(dedup);
    const [works, fails, failsForGood] = [heldHandler('value'), heldHandler(''), heldHandler('')];
    const failing = (handler: () => Promise<string>) => async () => {
      await handler();
      throw new Error('its own');
    };
    const calls = [
      dedup.run('works', works.handler),
      dedup.once('fails', failing(fails.handler)),
      dedup.once('fails for good', failing(failsForGood.handler), { onError: 'store' }),
    ] as const;
    for (const call of calls) call.catch(() => {});
    await Promise.all([works.started, fails.started, failsForGood.started]);
    await setFull(true);
    let left = Number.POSITIVE_INFINITY;
    await until(async () => {
      const before = left;
      left = (await dedup.inspect('works'))?.leaseRemainingMs as number;
      return left > before;
    });
    for (const { release } of [works, fails, failsForGood]) release();
    expect(await calls[0]).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
    await expect(calls[1]).rejects.toThrow('its own');
    await expect(calls[2]).rejects.toThrow('its own');
    const states = ['works', 'fails', 'fails for good'].map(async (key) => (await dedup.inspect(key))?.state);
    expect(await Promise.all(states)).toEqual(['completed', 'released', 'failed']);
    expect(told).toEqual([]);
  });
});

describe('a server that cannot persist its data', () => {
  async function refuse(admin: Redis) {
    // No file can be given this name: every snapshot fails.
    await admin.config('SET', 'dbfilename', '.');
    await admin.config('SET', 'save', '3600 1');
    await admin.bgsave();
    await until(async () => /rdb_last_bgsave_status:err/.test(await admin.info('persistence')));
  }
  const relent = (admin: Redis) => admin.config('SET', 'stop-writes-on-bgsave-error', 'no');

  test('refuses new and finished work, surely: told at once, and the keys are usable when it relents', async () => {
    const { url } = await ownServer('--enable-protected-configs', 'yes');
    const admin = connect({}, url);
    const dedup = makeDedup({ lease: '1s' }, connect({}, url));
    await dedup.once('completed', () => 'value');
    const [works, fails] = [heldHandler('first'), heldHandler('')];
    const working = dedup.once('works', ({ tx }) => {
      tx.incr('works');
      return works.handler();
    });
    const failing = dedup.once('fails', () => fails.handler().then(() => Promise.reject(new Error('its own'))));
    for (const call of [working, failing]) call.catch(() => {});
    await Promise.all([works.started, fails.started]);
    const told = storeErrorsOf(dedup);
    await refuse(admin);
    const refused = await expectCode(dedup.once('new', neverRuns), 'STORE_UNAVAILABLE');
    expect(refused.message).toMatch(/cannot persist/);
    expect(refused.message).toMatch(/the handler did not run/);
    expect(await dedup.inspect('new')).toBeNull();
    expect(await dedup.run('completed', neverRuns)).toMatchObject({ status: 'replayed', value: 'value' });
    for (const { release } of [works, fails]) release();
    const lost = await expectCode(working, 'STORE_UNAVAILABLE');
    expect(lost.message).toMatch(/cannot persist/);
    expect(lost.message).toMatch(/the handler ran, its result was not stored/);
    await expect(failing).rejects.toThrow('its own');
    // Such a refusal does not pass by itself: what it meets is told at once.
    for (const asked of ['claim', 'commit']) expect(told.filter((line) => line === `${asked} MISCONF`)).toHaveLength(1);
    expect(told.filter((line) => !line.endsWith(' MISCONF'))).toEqual([]);
    const states = ['works', 'fails'].map(async (key) => (await dedup.inspect(key))?.state);
    expect(await Promise.all(states)).toEqual(['in_progress', 'in_progress']);
    expect(await admin.exists('works')).toBe(0);
    await relent(admin);
    expect(await dedup.run('new', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 1 });
    for (const key of ['works', 'fails']) {
      expect(await dedup.run(key, ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
      expect(await dedup.run(key, neverRuns)).toMatchObject({ status: 'replayed', value: 2 });
    }
  });

  test('that relents before the handler is done loses nothing', async () => {
    const { url } = await ownServer('--enable-protected-configs', 'yes');
    const admin = connect({}, url);
    const dedup = makeDedup({ lease: '300ms' }, connect({}, url));
    const told = storeErrorsOf(dedup);
    const { handler, started, release } = heldHandler('value');
    const held = dedup.run('k', handler);
    await started;
    await refuse(admin);
    await until(() => told.includes('renew MISCONF'));
    await relent(admin);
    release();
    expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
  });
});

describe('a server held by a foreign script', () => {
  async function stage(options: Parameters<typeof makeDedup>[0]) {
    const { url } = await ownServer('--lua-time-limit', '10');
    const redis = connect({}, url);
    return { url, redis, dedup: makeDedup(options, redis), hold: () => holdByScript(url) };
  }

  test('is asked again until the script has ended: claims and commits succeed, and nobody but us killed it', async () => {
    const { url, redis, dedup, hold } = await stage({ redisTimeout: '20s' });
    const fresh = connect({}, url);
    await until(() => fresh.status === 'ready');
    // A server that is busy for a moment is reached: this one must not run its handler without dedup.
    const firstOnItsConnection = makeDedup({ redisTimeout: '20s', onStoreFailure: 'proceed' }, fresh);
    const { handler, started, release } = heldHandler('value');
    const held = dedup.run('held', handler);
    await started;
    const free = await hold();
    const refusals = refusalsOn(redis);
    const calls = [dedup.run('new', () => 'new'), firstOnItsConnection.run('new', () => 'first')];
    for (const call of calls) call.catch(() => {});
    // The claim and the commit, each of them more than once.
    await until(() => refusals.length > 3);
    release();
    const before = refusals.length;
    await until(() => refusals.length > before + 4);
    await free();
    expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
    expect(await Promise.all(calls)).toMatchObject([
      { status: 'executed', value: 'new', attempt: 1 },
      { status: 'executed', value: 'first', attempt: 1 },
    ]);
    expect(new Set(refusals)).toEqual(new Set(['BUSY']));
    expect(await redis.info('commandstats')).toMatch(/cmdstat_script(\|kill)?:calls=1,.*rejected_calls=0/);
  });

  test('beyond the deadline has surely stored nothing: told by name, and the keys are usable when it has ended', async () => {
    const { dedup, hold } = await stage({ redisTimeout: 300, lease: '1s' });
    const told = storeErrorsOf(dedup);
    const { handler, started, release } = heldHandler('first');
    const held = dedup.once('held', handler);
    held.catch(() => {});
    await started;
    const free = await hold();
    const refused = await expectCode(dedup.once('new', neverRuns), 'STORE_UNAVAILABLE');
    release();
    const lost = await held.catch((error: unknown) => error);
    const kept = await dedup.forget('held', { force: true }).catch((error: unknown) => error);
    await free();
    // A server this busy may leave the last question unanswered: then only that is known.
    const answered = (operation: string) => !told.includes(`${operation} null`);
    if (answered('claim')) expect(refused.message).toMatch(/busy with a script: the handler did not run/);
    expect(lost).toMatchObject(
      answered('commit')
        ? {
            code: 'STORE_UNAVAILABLE',
            message: expect.stringMatching(/busy with a script: .* its result was not stored/),
          }
        : { code: 'OUTCOME_UNKNOWN' },
    );
    expect(kept).toMatchObject({ code: answered('forget') ? 'STORE_UNAVAILABLE' : 'OUTCOME_UNKNOWN' });
    expect(await dedup.run('new', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 1 });
    const after = await dedup.run('held', ({ attempt }) => attempt);
    if (answered('forget')) expect(after).toMatchObject({ status: 'executed', value: 2 });
  });

  test('that does not even answer leaves a commit unknown, and a claim that did not run its handler', async () => {
    const { url } = await ownServer('--lua-time-limit', '0');
    const redis = connect({}, url);
    const dedup = makeDedup({ redisTimeout: 200 }, redis);
    const { handler, started, release } = heldHandler('first');
    const held = dedup.once('held', handler);
    held.catch(() => {});
    await started;
    // On the same connection, so that the server surely has it before what comes next.
    redis.eval('while true do end', 0).catch(() => {});
    release();
    const [refused] = await Promise.all([
      expectCode(dedup.once('new', neverRuns), 'STORE_UNAVAILABLE'),
      expectCode(held, 'OUTCOME_UNKNOWN'),
      expectCode(dedup.forget('other'), 'OUTCOME_UNKNOWN'),
    ]);
    expect(refused.message).toMatch(/did not answer in time: the handler did not run/);
  });
});

test('a server that loads its data is asked again until it has: running and new work succeed', async () => {
  const slowToLoad = ['--key-load-delay', '20000', '--loading-process-events-interval-bytes', '1024'];
  const server = await ownServer('--rdbcompression', 'no', ...slowToLoad);
  const atOnce = connect({ enableReadyCheck: false, retryStrategy: () => 10 }, server.url);
  const whenLoaded = connect({ retryStrategy: () => 10 }, server.url);
  const [dedup, other] = [atOnce, whenLoaded].map((redis) => makeDedup({ redisTimeout: '20s' }, redis)) as [
    Dedup,
    Dedup,
  ];
  const { handler, started, release } = heldHandler('value');
  const held = dedup.run('held', handler);
  await started;
  for (let i = 0; i < 80; i += 1) await atOnce.set(`ballast-${i}`, 'x'.repeat(2_000));
  await atOnce.save();
  const refusals = refusalsOn(atOnce);
  await server.kill();
  const restarted = server.restart();
  onTestFinished(() => restarted);
  release();
  const calls = [dedup.run('new', () => 'at once'), other.run('new', () => 'when loaded')];
  await until(() => refusals.includes('LOADING'));
  expect(await held).toMatchObject({ status: 'executed', value: 'value', attempt: 1 });
  expect(await Promise.all(calls)).toMatchObject([
    { status: 'executed', value: 'at once', attempt: 1 },
    { status: 'executed', value: 'when loaded', attempt: 1 },
  ]);
  await restarted;
});
