/** The life of a call on ioredis 5: the other tests run on ioredis 6. */
import { Redis } from 'ioredis5';
import { expect, inject, onTestFinished, test } from 'vitest';
import { Dedup } from '../../src/index.js';
import { connect, expectCode, expectRanOnce, freshNamespace, heldHandler } from '../support/index.js';

function dedupOn5(namespace: string, keyPrefix = ''): Dedup {
  const redis = new Redis(inject('redisUrl'), { keyPrefix });
  const dedup = new Dedup(redis, { namespace });
  onTestFinished(async () => {
    await dedup.close({ drain: 0 });
    redis.disconnect();
  });
  return dedup;
}

test.each(['', 'app:', '{app}:'])(
  'with keyPrefix `%s`, calls on two connections run once, wait and take over',
  async (keyPrefix) => {
    const namespace = freshNamespace();
    const [one, two] = [dedupOn5(namespace, keyPrefix), dedupOn5(namespace, keyPrefix)];
    const { handler, started, release } = heldHandler('value');
    const first = one.run('k', handler);
    await started;
    const second = two.run('k', () => 'never');
    release();
    expectRanOnce(await Promise.all([first, second]));
    await one.once('f', () => Promise.reject(new Error('fails'))).catch(() => {});
    expect(await two.run('f', ({ attempt }) => attempt)).toMatchObject({ status: 'executed', value: 2 });
  },
);

test.each(['', 'app:', '{app}:'])(
  'with keyPrefix `%s`, effects of `once` and `apply` land under it, and a record is refused as their key',
  async (keyPrefix) => {
    const namespace = freshNamespace();
    const dedup = dedupOn5(namespace, keyPrefix);
    const data = `${namespace}-data`;
    await expectCode(
      dedup.once('once', ({ tx }) => void tx.rpush(data, 'once').require.exists(data)),
      'CONDITION_FAILED',
    );
    await dedup.once('once', ({ tx }) => void tx.rpush(data, 'once'));
    const apply = () => dedup.apply('apply', (tx) => void tx.require.exists(data).rpush(data, 'apply'));
    expect(await apply()).toEqual({ status: 'executed', replies: [2], attempt: 1 });
    expect(await apply()).toEqual({ status: 'replayed', replies: [2], attempt: 1 });
    expect(await connect().lrange(`${keyPrefix}${data}`, 0, -1)).toEqual(['once', 'apply']);
    await expectCode(
      dedup.apply('k', (tx) => void tx.set(`${namespace}:once`, 'x')),
      'INVALID_KEY',
    );
  },
);
