/** Effects in the scripts themselves: what a commit or apply leaves, whatever copies come when. */
import { randomBytes, randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { effectsOf, Recorder } from '../../src/effects/recorder.js';
import type { Effects } from '../../src/index.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import type { EffectList, ScriptReply } from '../../src/redis/scripts.js';
import { CHANNEL, RETENTION_MS, STATES, Stage, TTL_MS } from './stage.js';

class EffectStage extends Stage {
  readonly data = `data-${randomUUID()}`;

  list(write: (tx: Effects, data: string) => unknown): EffectList {
    const terms = { key: 'k', redisKey: this.key, namespace: 'once', keyPrefix: '', isCluster: false, connection: {} };
    const recorder = new Recorder(terms);
    write(effectsOf(recorder), this.data);
    return recorder.effects;
  }

  commitWith(effects: EffectList, run = 0): Promise<ScriptReply<'commit'>> {
    const { token, fence, born } = this.a;
    const args = { token, fence, born, run, retention_ms: RETENTION_MS, channel: CHANNEL, result: `of run ${run}` };
    return this.call('commit', args, effects);
  }

  apply(token: Buffer, effects: EffectList, changed: { fingerprint?: Buffer; max_attempts?: number } = {}) {
    const args = { token, fingerprint: '', ttl_ms: TTL_MS, retention_ms: RETENTION_MS, max_attempts: 0, ...changed };
    return this.call('apply', args, effects);
  }
}

async function held(): Promise<EffectStage> {
  const stage = new EffectStage();
  await STATES['held by A'](stage);
  return stage;
}

const told = ({ status, fields }: { status: string; fields: readonly unknown[] }) => [status, ...fields.map(String)];

/** What the recorder never makes: a write whose type is not looked at. */
function unchecked(effects: EffectList): EffectList {
  const words = effects.words.map((word) => (['list', 'hash'].includes(String(word)) ? 'none' : word));
  return { ...effects, words };
}

describe('commit', () => {
  test('makes its writes once, however often it comes', async () => {
    const stage = await held();
    const effects = stage.list((tx, data) => tx.incr(data));
    for (let copy = 0; copy < 3; copy += 1) expect(told(await stage.commitWith(effects))).toEqual(['done']);
    expect(await stage.redis.get(stage.data)).toBe('1');
  });

  test.each([
    'B took over from A',
    'released by A',
    'completed by B after A',
    'failed by A',
    'broken by A',
    'none',
  ] as const)('of a record that is %s writes nothing', async (state) => {
    const stage = new EffectStage();
    await STATES[state](stage);
    const { status } = await stage.commitWith(stage.list((tx, data) => tx.incr(data)));
    expect(status).not.toBe('done');
    expect(await stage.redis.exists(stage.data)).toBe(0);
  });

  test('whose condition does not hold leaves the record in progress, and a late copy of that run is never made', async () => {
    const stage = await held();
    const effects = stage.list((tx, data) => tx.set(`${data}:2`, 1).require.absent(`${data}:2`).require.exists(data));
    expect(told(await stage.commitWith(effects))).toEqual(['conflict', '3']);
    expect(await stage.state()).toBe('in_progress');
    await stage.redis.set(stage.data, 'there now');
    // Which of its conditions it was is not known any more: the first is named.
    expect(told(await stage.commitWith(effects))).toEqual(['conflict', '2']);
    expect(await stage.redis.exists(`${stage.data}:2`)).toBe(0);
    expect(told(await stage.commitWith(effects, 1))).toEqual(['done']);
    expect(told(await stage.commitWith(effects, 0))).toEqual(['done']);
    expect((await stage.call('inspect', {})).status).toBe('completed');
  });

  test('whose write cannot succeed leaves the record as it is', async () => {
    const stage = await held();
    await stage.redis.set(stage.data, 'text');
    const before = await stage.bytes();
    const effects = stage.list((tx, data) => tx.set(`${data}:2`, 1).incr(data));
    expect(told(await stage.commitWith(effects))).toEqual(['rejected', '2', 'not_an_integer']);
    expect(await stage.bytes()).toEqual(before);
    expect(await stage.redis.exists(`${stage.data}:2`)).toBe(0);
  });

  test('that breaks off after a write leaves the record broken, without expiry, and tells so to all', async () => {
    const stage = await held();
    await stage.redis.set(stage.data, 'text');
    const effects = unchecked(stage.list((tx, data) => tx.set(`${data}:2`, 1).rpush(data, 'x')));
    expect(told(await stage.commitWith(effects))).toEqual(['broken']);
    expect(await stage.state()).toBe('broken');
    expect(await stage.redis.pttl(stage.key)).toBe(-1);
    expect(told(await stage.commitWith(effects))).toEqual(['broken']);
    expect((await stage.settle(stage.a)).status).toBe('broken');
    expect((await stage.claim(randomBytes(16))).status).toBe('broken');
    expect((await stage.call('forget', { force: '0' })).status).toBe('forgotten');
  });

  test('makes no write that others must follow where the server cannot be asked what the user may do', async () => {
    const stage = await held();
    // As before Redis 7.0, which has no such function.
    const scripting = stage.redis as unknown as { [command: string]: (...args: unknown[]) => Promise<unknown> };
    const source = SCRIPTS.commit.source.replaceAll('redis.acl_check_cmd', 'redis.of_a_later_version');
    expect(source).not.toBe(SCRIPTS.commit.source);
    scripting.evalshaBuffer = (_sha1, ...rest) => (scripting.evalBuffer as (typeof scripting)[string])(source, ...rest);
    const two = stage.list((tx, data) => tx.incr(data).rpush(`${data}:2`, 'x'));
    expect(told(await stage.commitWith(two))).toEqual(['rejected', '1', 'unknown_command']);
    expect(await stage.redis.exists(stage.data, `${stage.data}:2`)).toBe(0);
    expect(told(await stage.commitWith(stage.list((tx, data) => tx.incr(data))))).toEqual(['done']);
    expect(await stage.redis.get(stage.data)).toBe('1');
  });

  test('whose first write fails against expectation has made none: it is rejected', async () => {
    const stage = await held();
    await stage.redis.set(stage.data, 'text');
    const effects = unchecked(stage.list((tx, data) => tx.rpush(data, 'x').set(`${data}:2`, 1)));
    expect(told(await stage.commitWith(effects))).toEqual(['rejected', '1', 'WRONGTYPE']);
    expect(await stage.state()).toBe('in_progress');
    expect(await stage.redis.exists(`${stage.data}:2`)).toBe(0);
  });
});

describe('apply', () => {
  const one = (stage: EffectStage) => stage.list((tx, data) => tx.incr(data));

  test('is answered alike for every copy, and replayed to others', async () => {
    const stage = new EffectStage();
    const [token, effects] = [randomBytes(16), one(stage)];
    for (let copy = 0; copy < 2; copy += 1) {
      expect(told(await stage.apply(token, effects))).toEqual(['applied', '1', ':1\r\n']);
    }
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['completed', '1', ':1\r\n']);
    expect(await stage.redis.get(stage.data)).toBe('1');
    expect(await stage.redis.pttl(stage.key)).toBeGreaterThan(RETENTION_MS - 60_000);
  });

  test('keeps integers beyond 2^53 to their last digit', async () => {
    const stage = new EffectStage();
    const effects = stage.list((tx, data) =>
      tx
        .incrby(data, '9007199254740993')
        .decrby(data, '18014398509481987')
        .hincrby(`${data}:h`, 'f', '-9007199254740993'),
    );
    const replies = ':9007199254740993\r\n:-9007199254740994\r\n:-9007199254740993\r\n';
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['applied', '1', replies]);
  });

  test('removes several keys by one command, and tells how many there were', async () => {
    const stage = new EffectStage();
    const keys = [1, 2, 3, 4].map((number) => `${stage.data}:${number}`) as [string, string, string, string];
    await stage.redis.mset(keys[0], 'a', keys[2], 'b', keys[3], 'c');
    const [one, two, three] = keys;
    const effects = stage.list((tx) => tx.del(one, two, three).rpush(one, 'x').rpush(three, 'y'));
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['applied', '1', ':2\r\n:1\r\n:1\r\n']);
    expect(await stage.redis.exists(...keys)).toBe(3);
  });

  test('that was rejected, or met a conflict, leaves its token stale, and the next one is another attempt', async () => {
    const stage = new EffectStage();
    await stage.redis.set(stage.data, 'text');
    const [first, second] = [randomBytes(16), randomBytes(16)];
    expect(told(await stage.apply(first, one(stage)))).toEqual(['rejected', '1', 'not_an_integer', '1']);
    const conflict = stage.list((tx, data) => tx.require.absent(data).set(`${data}:2`, 1));
    expect(told(await stage.apply(second, conflict))).toEqual(['conflict', '1', '2']);
    await stage.redis.del(stage.data);
    for (const token of [first, second]) {
      expect(told(await stage.apply(token, one(stage)))).toEqual(['stale']);
      expect(told(await stage.apply(token, conflict))).toEqual(['stale']);
    }
    expect(await stage.redis.exists(stage.data, `${stage.data}:2`)).toBe(0);
    expect(told(await stage.apply(randomBytes(16), one(stage)))).toEqual(['applied', '3', ':1\r\n']);
  });

  test('counts rejections towards max_attempts, and conflicts not', async () => {
    const stage = new EffectStage();
    await stage.redis.set(stage.data, 'text');
    const conflict = stage.list((tx, data) => tx.require.absent(data));
    const limit = { max_attempts: 1 };
    expect((await stage.apply(randomBytes(16), conflict, limit)).status).toBe('conflict');
    expect((await stage.apply(randomBytes(16), one(stage), limit)).status).toBe('rejected');
    expect(told(await stage.apply(randomBytes(16), one(stage), limit))).toEqual(['exhausted', '1', 'now', '2']);
    expect(told(await stage.apply(randomBytes(16), one(stage), limit))).toEqual(['exhausted', '1', 'before']);
  });

  test('keeps its fingerprint through a rejection', async () => {
    const stage = new EffectStage();
    await stage.redis.set(stage.data, 'text');
    const fingerprint = randomBytes(16);
    expect((await stage.apply(randomBytes(16), one(stage), { fingerprint })).status).toBe('rejected');
    expect((await stage.apply(randomBytes(16), one(stage))).status).toBe('mismatch');
    expect((await stage.apply(randomBytes(16), one(stage), { fingerprint: randomBytes(16) })).status).toBe('mismatch');
    await stage.redis.del(stage.data);
    expect((await stage.apply(randomBytes(16), one(stage), { fingerprint })).status).toBe('applied');
  });

  test('that breaks off after a write leaves the record broken', async () => {
    const stage = new EffectStage();
    await stage.redis.set(stage.data, 'text');
    const effects = unchecked(stage.list((tx, data) => tx.set(`${data}:2`, 1).rpush(data, 'x')));
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['broken']);
    expect(await stage.state()).toBe('broken');
    expect(await stage.redis.pttl(stage.key)).toBe(-1);
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['broken']);
  });

  test('whose first write fails against expectation is rejected', async () => {
    const stage = new EffectStage();
    await stage.redis.set(stage.data, 'text');
    const effects = unchecked(stage.list((tx, data) => tx.rpush(data, 'x')));
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['rejected', '1', 'WRONGTYPE', '1']);
    expect(await stage.state()).toBe('released');
  });

  test.each([
    ['held by A', 'busy'],
    ["A's lease has run out", 'other_kind'],
    ['released by A', 'other_kind'],
    ['completed by A', 'other_kind'],
    ['failed by A', 'other_kind'],
    ['another layout', 'unreadable'],
  ] as const)('on a record of once that is %s: %s', async (state, answer) => {
    const stage = new EffectStage();
    await STATES[state](stage);
    expect((await stage.apply(randomBytes(16), one(stage))).status).toBe(answer);
    expect(await stage.redis.exists(stage.data)).toBe(0);
  });

  test.each(['completed', 'released'] as const)('leaves a record that is %s, and is none of once', async (state) => {
    const stage = new EffectStage();
    if (state === 'released') await stage.redis.set(stage.data, 'text');
    await stage.apply(randomBytes(16), one(stage));
    expect(await stage.state()).toBe(state);
    expect((await stage.claim(randomBytes(16))).status).toBe('other_kind');
  });
});
