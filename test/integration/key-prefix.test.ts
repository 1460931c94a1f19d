/** A `keyPrefix` of the caller's connection: records lie under it, and everything else is as without it. */
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Dedup, Effects } from '../../src/index.js';
import {
  connect,
  expectCode,
  expectRanOnce,
  freshNamespace,
  heldHandler,
  keysOf,
  makeDedup,
} from '../support/index.js';

/** From here on no timer of this process fires, so that nobody polls: who waits is woken by a hint, or not at all. */
function stopTimers(): () => void {
  vi.useFakeTimers({ toFake: ['setTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  return () => vi.useRealTimers();
}

/** As `until`, without timers. */
async function untilUntimed(condition: () => unknown): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

test.each(['', 'app:', '{app}:', 'a{b}c{d}:'])(
  'with keyPrefix `%s`, records lie under it, hints wake who waits, and inspect and forget find them',
  async (keyPrefix) => {
    const namespace = freshNamespace();
    const [holding, waiting, plain] = [connect({ keyPrefix }), connect({ keyPrefix }), connect()];
    const [one, two] = [holding, waiting].map((redis) => makeDedup({ namespace }, redis)) as [Dedup, Dedup];
    const { handler, started, release } = heldHandler('value');
    const held = one.run('k', handler);
    await started;
    expect(await keysOf(plain, namespace)).toEqual([`${keyPrefix}${namespace}:k`]);
    const claims = vi.spyOn(waiting as unknown as { evalshaBuffer: () => Promise<unknown> }, 'evalshaBuffer');
    const goOn = stopTimers();
    const replayed = two.run('k', () => 'never');
    // It asks, subscribes, asks again, and then sleeps.
    await untilUntimed(() => claims.mock.settledResults.filter(({ type }) => type === 'fulfilled').length === 2);
    release();
    expectRanOnce(await Promise.all([held, replayed]));
    goOn();
    expect(await two.inspect('k')).toMatchObject({ state: 'completed', redisKey: `${namespace}:k` });
    await one.once('f', () => Promise.reject(new Error('fails'))).catch(() => {});
    expect(await two.run('f', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
    expect([await two.forget('k'), await two.forget('f'), await two.forget('f')]).toEqual([true, true, false]);
    expect(await keysOf(plain, namespace)).toEqual([]);
  },
);

test('Dedups of one namespace whose connections have different keyPrefixes never meet', async () => {
  const namespace = freshNamespace();
  const dedups = ['', 'a:', 'b:'].map((keyPrefix) => makeDedup({ namespace }, connect({ keyPrefix })));
  const outcomes = await Promise.all(dedups.map((dedup, i) => dedup.run('k', () => i)));
  expect(outcomes.map(({ status, value }) => [status, value])).toEqual([0, 1, 2].map((i) => ['executed', i]));
});

test.each(['a{b', 'a}b', '{}:', '{a}{:', '{{a}}'])(
  'a keyPrefix `%s` would steer the slots, and is refused',
  (keyPrefix) => {
    const redis = connect({ lazyConnect: true, keyPrefix });
    expect(() => makeDedup({}, redis)).toThrow(/balanced braces with something in them/);
  },
);

test.each(['', 'app:', '{app}:', 'a{b}c{d}:'])('with keyPrefix `%s`, effects land under it', async (keyPrefix) => {
  const namespace = freshNamespace();
  const [redis, plain] = [connect({ keyPrefix }), connect()];
  const dedup = makeDedup({ namespace }, redis);
  const data = `${namespace}-data`;
  const write = (tx: Effects) => {
    tx.require
      .equals(`${data}-word`, 'old')
      .set(`${data}-word`, 'new')
      .rpush(`${data}-list`, 1)
      .del(`${data}-gone`, data);
  };
  for (const run of ['once', 'apply'] as const) {
    await plain.mset({
      [`${keyPrefix}${data}-word`]: 'old',
      [`${keyPrefix}${data}-gone`]: 1,
      [`${keyPrefix}${data}`]: 1,
    });
    if (run === 'once') await dedup.once(run, ({ tx }) => write(tx));
    else await dedup.apply(run, write);
    expect(await plain.get(`${keyPrefix}${data}-word`)).toBe('new');
    expect(await plain.exists(`${keyPrefix}${data}-gone`, `${keyPrefix}${data}`)).toBe(0);
    expect(await redis.exists(`${data}-list`)).toBe(1);
  }
  expect(await plain.lrange(`${keyPrefix}${data}-list`, 0, -1)).toEqual(['1', '1']);
  expect((await plain.keys(`*${namespace}*`)).sort()).toEqual(
    [`${data}-list`, `${data}-word`, `${namespace}:apply`, `${namespace}:once`].map((key) => keyPrefix + key).sort(),
  );
});

test.each(['', 'app:'])(
  'with keyPrefix `%s`, a key of a record is refused by `tx`, and nothing is written',
  async (keyPrefix) => {
    const namespace = freshNamespace();
    const dedup = makeDedup({ namespace }, connect({ keyPrefix }));
    const plain = connect();
    await dedup.once('other', () => 'value');
    const before = await plain.dumpBuffer(`${keyPrefix}${namespace}:other`);
    for (const key of [`${namespace}:other`, `{slot}:${namespace}:other`, Buffer.from(`${namespace}:none`)]) {
      const write = (tx: Effects) => void tx.incr(`${namespace}-data`).set(key, 'x');
      await expectCode(
        dedup.once('k', ({ tx }) => write(tx)),
        'INVALID_KEY',
      );
      await expectCode(dedup.apply('a', write), 'INVALID_KEY');
      await expectCode(
        dedup.apply('a', (tx) => void tx.del('fine', key)),
        'INVALID_KEY',
      );
      await expectCode(
        dedup.apply('a', (tx) => void tx.require.absent(key)),
        'INVALID_KEY',
      );
    }
    expect(await plain.exists(`${keyPrefix}${namespace}-data`)).toBe(0);
    expect(await plain.dumpBuffer(`${keyPrefix}${namespace}:other`)).toEqual(before);
  },
);
