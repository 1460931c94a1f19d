/** The test kit's scenarios: what each does to a message is what it says, and shows a handler that does not bear it. */
import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { DedupOptions, Handler, RecordInfo } from '../../../src/index.js';
import {
  crashAfterCommit,
  crashBeforeCommit,
  deliverTwice,
  loseReply,
  type Scenario,
  type ScenarioReport,
} from '../../../src/testing/index.js';
import { connect, expectCode, freshNamespace, gate, makeDedup, until } from '../../support/index.js';
import { Worker } from '../../support/processes.js';
import { startProxied } from '../../support/proxy.js';

const SCENARIOS: [string, Scenario, { ends: string[]; runs: number[] }][] = [
  ['deliverTwice', deliverTwice, { ends: ['returned', 'returned', 'returned'], runs: [0, 0, 1] }],
  ['crashBeforeCommit', crashBeforeCommit, { ends: ['crashed', 'returned'], runs: [1, 1] }],
  ['crashAfterCommit', crashAfterCommit, { ends: ['crashed', 'returned'], runs: [0, 1] }],
  ['loseReply', loseReply, { ends: ['returned', 'returned'], runs: [0, 1] }],
];

function stage(options: DedupOptions = {}) {
  const redis = connect();
  // No test waits for a lease.
  const dedup = makeDedup({ lease: '1h', ...options }, redis);
  return { redis, dedup, total: freshNamespace() };
}

/** A Redis behind a proxy that notes the library's scripts in the order in which they come. */
async function stageWithLog() {
  const { server, proxy } = await startProxied();
  const redis = new Redis(proxy.url);
  const dedup = makeDedup({ lease: '1h' }, redis);
  const scripts: string[] = [];
  proxy.fate = ({ script }) => {
    scripts.push(String(script));
    return 'pass';
  };
  onTestFinished(async () => {
    redis.disconnect();
    await proxy.stop();
    await server.stop();
  });
  return { dedup, scripts, proxy };
}

function shapeOf({ deliveries }: ScenarioReport<unknown>) {
  return { ends: deliveries.map(({ end }) => end), runs: deliveries.map(({ runs }) => runs).sort() };
}

describe.each(SCENARIOS)('%s', (name, scenario, shape) => {
  test('refuses what is no Dedup, no key and no function', async () => {
    const { dedup } = stage();
    const play = scenario as (...args: unknown[]) => Promise<unknown>;
    await expectCode(
      play({}, 'k', () => 1),
      'INVALID_OPTION',
    );
    await expectCode(play(), 'INVALID_OPTION');
    await expectCode(play(dedup), 'INVALID_OPTION');
    await expectCode(play(dedup, 'k'), 'INVALID_OPTION');
    await expectCode(
      play(dedup, undefined, () => 1),
      'INVALID_KEY',
    );
  });

  test('leaves the data of a handler that writes to `tx` as after one delivery, and tells how often it ran', async () => {
    const { redis, dedup, total } = stage();
    const report = await scenario(dedup, 'k', ({ tx, attempt }) => {
      tx.incrby(total, 5);
      return { attempt };
    });
    expect(await redis.get(total)).toBe('5');
    expect(shapeOf(report)).toEqual(shape);
    expect(report.value).toEqual({ attempt: name === 'crashBeforeCommit' ? 2 : 1 });
    expect(report.runs).toBe(shape.runs.reduce((sum, runs) => sum + runs));
  });

  test('takes a function that delivers by the Dedup that it is given: views, `apply`, many at once', async () => {
    const { redis, dedup, total } = stage();
    const view = dedup.scope('payments').with({ retention: '2h' });
    const { value } = await scenario(view, (given) => given.apply('k', (tx) => tx.incrby(total, 5)));
    expect(value).toMatchObject({ replies: [5] });
    await scenario(view, (given) =>
      given.onceMany(['a', 'b', 'c'], {
        key: (item) => item,
        handler: (item, { tx }) => {
          tx.incrby(`${total}-${item}`, 1);
        },
      }),
    );
    expect(await redis.mget(total, `${total}-a`, `${total}-b`, `${total}-c`)).toEqual(['5', '1', '1', '1']);
    expect(await view.inspect('a')).toMatchObject({ state: 'completed' });
  });

  test('bears sets of the Dedup’s own connection: `tx.seen` and `record`', async () => {
    const { redis, dedup, total } = stage();
    const [seen, done] = [dedup.seen('seen'), dedup.seen('done')];
    const handler: Handler<void> = ({ tx }) => {
      tx.incrby(total, 5).seen(seen, 'id');
    };
    await scenario(dedup, (given) => given.once('k', handler, { record: done }));
    expect(await redis.get(total)).toBe('5');
    expect([await seen.has('id'), await done.has('k')]).toEqual([true, true]);
  });

  test('fails where the deliveries take another key each time', async () => {
    const { dedup } = stage();
    const keys = ['k1', 'k2', 'k3'];
    const call = scenario(dedup, (given) => given.once(String(keys.shift()), () => 1));
    await expect(call).rejects.toThrow(
      /^Expected each delivery to ask for the same key, got `.*:k[12]` and then `.*:k[12]`/,
    );
    await expect(call).rejects.toMatchObject({ code: 'ERR_ASSERTION' });
  });

  test('fails where a delivery does not use the Dedup that it is given', async () => {
    const { dedup } = stage();
    await expect(scenario(dedup, () => dedup.once('k', () => 1))).rejects.toThrow(/got one that asked for no key/);
  });

  test('fails with what the handler throws', async () => {
    const { dedup } = stage();
    const error = new Error('out of stock');
    const call = scenario(dedup, 'k', () => {
      throw error;
    });
    await expect(call).rejects.toBe(error);
  });

  test('leaves no connection, no timer and no claim behind', async () => {
    const connectionName = freshNamespace();
    const redis = connect({ connectionName });
    const dedup = makeDedup({ lease: '1h' }, redis);
    await scenario(dedup, 'k', () => 1);
    await until(async () => (await clientsNamed(redis, connectionName)) === 1);
    expect(await dedup.inspect('k')).toMatchObject({ state: 'completed' });
  });
});

describe('a handler that writes beside `tx`', () => {
  test.each(SCENARIOS)('is seen to by %s where its attempt is repeated', async (name, scenario) => {
    const { redis, dedup, total } = stage();
    await scenario(dedup, 'k', async () => void (await redis.incrby(total, 5)));
    expect(await redis.get(total)).toBe(name === 'crashBeforeCommit' ? '10' : '5');
  });
});

describe('crashBeforeCommit', () => {
  test('leaves the record as a process leaves it that was killed, but for the time that has passed', async () => {
    const { redis, dedup } = stage();
    const real = await killedHolder();
    const seen: Buffer[] = [];
    let info: RecordInfo | undefined;
    await crashBeforeCommit(dedup, async (given) => {
      // The second delivery finds what the first has left.
      const found = await given.inspect('k');
      if (found) {
        info = found;
        seen.push((await redis.getBuffer(found.redisKey)) as Buffer);
      }
      return given.once('k', () => 1);
    });
    expect(seen).toHaveLength(1);
    expect(withoutTokenFenceAndLease(seen[0] as Buffer)).toEqual(withoutTokenFenceAndLease(real.bytes));
    const { state, attempt, leaseRemainingMs, resultBytes } = info as RecordInfo;
    expect({ state, attempt, leaseRemainingMs, resultBytes }).toEqual({
      state: 'in_progress',
      attempt: 1,
      leaseRemainingMs: 0,
      resultBytes: null,
    });
    expect(Math.abs((info?.expiresInMs as number) - real.info.expiresInMs)).toBeLessThan(60_000);
  });

  /** A holder in a process of its own, killed while its handler runs, whose lease has ended. */
  async function killedHolder(): Promise<{ bytes: Buffer; info: RecordInfo }> {
    const redis = connect();
    const namespace = freshNamespace();
    const dedup = makeDedup({ namespace, lease: 100 }, redis);
    const holder = new Worker('holder', { url: urlOf(redis), namespace, options: { lease: 100, retention: '24h' } });
    await holder.next();
    holder.kill('SIGKILL');
    await holder.exited;
    await until(async () => (await dedup.inspect('k'))?.leaseRemainingMs === 0);
    const info = (await dedup.inspect('k')) as RecordInfo;
    return { bytes: (await redis.getBuffer(info.redisKey)) as Buffer, info };
  }

  test('counts as a crash: a higher fence, and a failure of `maxAttempts`', async () => {
    const { dedup } = stage();
    const fences: number[] = [];
    await crashBeforeCommit(dedup, 'k', ({ fence }) => void fences.push(fence));
    expect(fences[1]).toBeGreaterThan(fences[0] as number);
    await expectCode(
      crashBeforeCommit(dedup.with({ maxAttempts: 1 }), 'other', () => 1),
      'ATTEMPTS_EXHAUSTED',
    );
  });

  test('ends the code around the call as well: what it would do next, or in a catch, is not done', async () => {
    const { dedup } = stage();
    const done: string[] = [];
    await crashBeforeCommit(dedup, async (given) => {
      try {
        await given.once('k', ({ attempt }) => done.push(`run ${attempt}`));
        done.push('acknowledged');
      } catch {
        done.push('caught');
      } finally {
        done.push('finally');
      }
    });
    expect(done).toEqual(['run 1', 'run 2', 'acknowledged', 'finally']);
  });

  test('leaves code that the process had begun and not awaited without an answer from Redis, and without effect on it', async () => {
    const { dedup } = stage();
    const dead = gate();
    const told: string[] = [];
    let copies = 0;
    await crashBeforeCommit(dedup, async (given) => {
      copies += 1;
      if (copies === 1) {
        const late = dead.opened.then(() => given.once('late', () => told.push('ran')));
        late.finally(() => told.push('settled')).catch(() => {});
      }
      return given.once('k', () => 1);
    });
    dead.open();
    // Whatever it sent, or was told, would be there before this.
    await crashBeforeCommit(dedup, 'another', () => 1);
    expect(await dedup.inspect('late')).toBeNull();
    expect(told).toEqual([]);
  });

  test('ends the leases of all that the process held', async () => {
    const { redis, dedup, total } = stage();
    const runs: string[] = [];
    await crashBeforeCommit(dedup, (given) =>
      given.once('outer', async ({ attempt, tx }) => {
        runs.push(`outer ${attempt}`);
        await given.scope('inner').once('k', ({ attempt, tx }) => {
          runs.push(`inner ${attempt}`);
          tx.incr(total);
        });
        tx.incr(total);
      }),
    );
    expect(runs).toEqual(['outer 1', 'inner 1', 'outer 2', 'inner 2']);
    expect(await redis.get(total)).toBe('2');
  });

  test.each<[string, Scenario]>(SCENARIOS.slice(1).map(([name, scenario]) => [name, scenario]))(
    '%s fails where the key was completed before: there is nothing to cut off',
    async (_, scenario) => {
      const { dedup } = stage();
      await dedup.once('k', () => 1);
      await expect(scenario(dedup, 'k', () => 1)).rejects.toThrow(/was the key completed before\?$/);
    },
  );
});

describe('what reaches Redis', () => {
  test('of deliverTwice: both copies have asked before one is committed', async () => {
    const { dedup, scripts } = await stageWithLog();
    const ran = gate();
    let copies = 0;
    await deliverTwice(dedup, async (given) => {
      copies += 1;
      if (copies === 2) {
        // It comes late, and is waited for: time enough for the commit of the first, if that were not held.
        await ran.opened;
        for (let asked = 0; asked < 2; asked += 1) await given.inspect('other');
      }
      return given.once('k', () => ran.open());
    });
    scripts.splice(0, scripts.length, ...scripts.filter((name) => name !== 'inspect'));
    expect(scripts.slice(0, scripts.indexOf('commit')).filter((name) => name === 'claim').length).toBeGreaterThan(1);
    expect(scripts.filter((name) => name === 'commit')).toHaveLength(1);
  });

  test('of crashBeforeCommit: one commit, and no settlement of the dead', async () => {
    const { dedup, scripts } = await stageWithLog();
    await crashBeforeCommit(dedup, 'k', () => 1);
    expect(scripts).toEqual(['claim', 'renew', 'claim', 'commit']);
  });

  test('of crashAfterCommit: one commit', async () => {
    const { dedup, scripts } = await stageWithLog();
    await crashAfterCommit(dedup, 'k', () => 1);
    expect(scripts).toEqual(['claim', 'commit', 'renew', 'claim']);
  });

  test('of loseReply: the same commit twice, the second on a new connection', async () => {
    const { dedup, scripts } = await stageWithLog();
    await loseReply(dedup, 'k', () => 1);
    expect(scripts).toEqual(['claim', 'commit', 'commit', 'claim']);
  });
});

test('deliverTwice takes a copy that is refused while the first runs for one that comes again', async () => {
  const { dedup } = stage();
  const report = await deliverTwice(dedup.with({ onInProgress: 'throw' }), 'k', () => 'value');
  expect(report.deliveries.map(({ end }) => end).sort()).toEqual(['inProgress', 'returned', 'returned']);
  expect([report.runs, report.value]).toEqual([1, 'value']);
});

test('deliverTwice does not wait for ever where the caller’s own code lets one at a time go on', async () => {
  const { dedup } = stage();
  let line: Promise<unknown> = Promise.resolve();
  const { runs } = await deliverTwice(dedup, (given) => {
    const turn = line.then(() => given.once('k', () => 1));
    line = turn.catch(() => {});
    return turn;
  });
  expect(runs).toBe(1);
});

test('a call of the handler’s own key, by the Dedup of the test, is refused at once, as it would be', async () => {
  const { dedup } = stage();
  await expectCode(
    deliverTwice(dedup, 'k', () => dedup.once('k', () => 1)),
    'IN_PROGRESS',
  );
});

function urlOf(redis: Redis): string {
  return `redis://${redis.options.host}:${redis.options.port}`;
}

async function clientsNamed(redis: Redis, name: string): Promise<number> {
  return String(await redis.client('LIST')).split(`name=${name} `).length - 1;
}

/** Fence, token, end and length of the lease differ from attempt to attempt: docs/protocol.md has where they are. */
function withoutTokenFenceAndLease(record: Buffer): Buffer {
  return Buffer.from(record).fill(0, 7, 40);
}
