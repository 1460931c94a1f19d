/** Marks in the scripts themselves: what a claim, a commit and an apply make of them, whatever copies come when. */
import { randomBytes, randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { bucketPlan, recordMarkWords } from '../../src/effects/mark.js';
import { effectsOf, Recorder } from '../../src/effects/recorder.js';
import type { Effects } from '../../src/index.js';
import { Connection } from '../../src/redis/connection.js';
import { type EffectList, type ScriptArgs, Scripts } from '../../src/redis/scripts.js';
import { SeenLayout } from '../../src/seen/layout.js';
import { CHANNEL, LEASE_MS, RETENTION_MS, STATES, Stage, type State, TTL_MS } from './stage.js';

const KEPT_MS = 70_000;

class SeenStage extends Stage {
  readonly data = `data-${randomUUID()}`;
  readonly layout = new SeenLayout('once', randomUUID(), undefined, { windowMs: 10_000, capacity: 1, buckets: 2 });
  readonly mark = this.layout.markOf('id');
  readonly #ofSet = new Scripts(Connection.of(this.redis), 5_000);
  readonly #record = {
    mark: this.mark,
    keptMs: KEPT_MS,
    effects: {
      keys: this.mark.keys,
      plan: bucketPlan(this.mark),
      words: recordMarkWords(1, this.mark, KEPT_MS),
      alone: false,
    },
    agree: async () => {},
  };

  list(write: (tx: Effects, data: string) => unknown = () => {}): EffectList {
    const terms = { key: 'k', redisKey: this.key, namespace: 'once', keyPrefix: '', isCluster: false, connection: {} };
    const recorder = new Recorder({ ...terms, mark: this.#record });
    write(effectsOf(recorder), this.data);
    return recorder.effects;
  }

  ask(token: Buffer, changed: Partial<ScriptArgs<'claim'>> = {}) {
    const times = { lease_ms: LEASE_MS, ttl_ms: TTL_MS, retention_ms: RETENTION_MS };
    const args = { token, fingerprint: '', ...times, max_attempts: 0, waits: '0', ...changed };
    return this.call('claim', args, this.#record.effects);
  }

  commitWith(effects: EffectList) {
    const { token, fence, born } = this.a;
    return this.call(
      'commit',
      { token, fence, born, run: 0, retention_ms: KEPT_MS, channel: CHANNEL, result: '' },
      effects,
    );
  }

  apply(token: Buffer, effects: EffectList, max_attempts = 0) {
    const args = { token, fingerprint: '', ttl_ms: TTL_MS, retention_ms: RETENTION_MS, max_attempts };
    return this.call('apply', args, effects);
  }

  async add(): Promise<void> {
    expect(await this.tell('add', this.mark.digest)).toBe('0');
  }

  async isMarked(): Promise<boolean> {
    return (await this.tell('has', this.mark.digest)) === '1';
  }

  async tell(task: 'add' | 'has', ...digests: string[]): Promise<string> {
    const [first, ...keys] = this.mark.keys as [string, ...string[]];
    const effects = { keys, plan: '1'.repeat(keys.length), words: digests, alone: false };
    const args = { task, bucket_ms: this.layout.bucketMs };
    const { status, fields } = await this.#ofSet.call('seen', first, args, { effects });
    expect(status).toBe('told');
    return String(fields[0]);
  }

  async expire(): Promise<void> {
    expect(await this.redis.unlink(this.key)).toBe(1);
  }
}

async function staged(state: State): Promise<SeenStage> {
  const stage = new SeenStage();
  await STATES[state](stage);
  return stage;
}

const told = ({ status, fields }: { status: string; fields: readonly (Buffer | number)[] }) => [
  status,
  ...fields.map(String),
];

describe('claim of a key whose mark stands', () => {
  test.each<[State, string]>([
    ['none', 'seen'],
    ['held by A', 'busy'],
    ["A's lease has run out", 'seen'],
    ['B took over from A', 'busy'],
    ['B took over from A and its lease has run out', 'seen'],
    ['released by A', 'seen'],
    ['released by A and by B', 'seen'],
    ['completed by A', 'completed'],
    ['failed by A', 'failed'],
    ['exhausted after A', 'exhausted'],
    ['broken by A', 'broken'],
    ['forgotten, then held by B', 'busy'],
    ['another layout', 'unreadable'],
    ['no record at all', 'unreadable'],
  ])('and whose record is %s: %s, and nothing changes', async (state, answer) => {
    const stage = await staged(state);
    await stage.add();
    const before = await stage.bytes();
    expect((await stage.ask(randomBytes(16))).status).toBe(answer);
    expect((await stage.ask(randomBytes(16), { max_attempts: 1 })).status).toBe(answer);
    expect(await stage.bytes()).toEqual(before);
  });

  test.each<[State, string]>([
    ['held by A', 'owned'],
    ['B took over from A and its lease has run out', 'stale'],
    ['released by A', 'stale'],
  ])('by A again, %s: %s', async (state, answer) => {
    const stage = await staged(state);
    await stage.add();
    expect((await stage.ask(stage.a.token)).status).toBe(answer);
  });

  test.each<[State]>([['none'], ["A's lease has run out"], ['released by A']])(
    'is owned where the mark of another id stands, and where none is asked for: %s',
    async (state) => {
      const stage = await staged(state);
      await stage.tell('add', '1', '-1', '0');
      expect((await stage.ask(randomBytes(16))).status).toBe('owned');
      const unmarked = await staged(state);
      await unmarked.add();
      expect((await unmarked.claim(randomBytes(16))).status).toBe('owned');
    },
  );
});

describe('a commit with the mark of its record', () => {
  test('leaves both, keeps the record as told, and late copies change nothing after it has expired', async () => {
    const stage = await staged('held by A');
    const effects = stage.list((tx, data) => tx.incr(data));
    for (let copy = 0; copy < 3; copy += 1) expect(told(await stage.commitWith(effects))).toEqual(['done']);
    expect(await stage.isMarked()).toBe(true);
    expect(await stage.redis.pttl(stage.key)).toBeLessThanOrEqual(KEPT_MS);
    expect((await stage.ask(randomBytes(16))).status).toBe('completed');
    await stage.expire();
    expect((await stage.ask(stage.a.token)).status).toBe('seen');
    expect((await stage.ask(randomBytes(16))).status).toBe('seen');
    expect(told(await stage.commitWith(effects))).toEqual(['gone']);
    expect((await stage.settle(stage.a)).status).toBe('gone');
    expect((await stage.renew(stage.a)).status).toBe('lost');
    expect(await stage.redis.exists(stage.key)).toBe(0);
    expect(await stage.redis.get(stage.data)).toBe('1');
  });

  test.each<State>(['B took over from A', 'released by A', 'failed by A', 'broken by A', 'none'])(
    'that is refused, %s, leaves no mark',
    async (state) => {
      const stage = await staged(state);
      expect((await stage.commitWith(stage.list())).status).not.toBe('done');
      expect(await stage.isMarked()).toBe(false);
    },
  );

  test('that breaks off has not made it: forgotten, the key can be claimed', async () => {
    const stage = await staged('held by A');
    await stage.redis.set(stage.data, 'text');
    const { words, ...rest } = stage.list((tx, data) => tx.set(`${data}:2`, 1).rpush(data, 'x'));
    // What the recorder never makes: a write whose type is not looked at.
    const effects = { ...rest, words: words.map((word) => (word === 'list' ? 'none' : word)) };
    expect(told(await stage.commitWith(effects))).toEqual(['broken']);
    expect(await stage.isMarked()).toBe(false);
    expect((await stage.ask(randomBytes(16))).status).toBe('broken');
    await stage.call('forget', { force: '0' });
    expect((await stage.ask(randomBytes(16))).status).toBe('owned');
  });

  test('of an id that is marked already is done, and marks nothing twice', async () => {
    // In whatever bucket: at most one of them is that of now.
    for (const bucket of [0, 1, 2, 3]) {
      const stage = await staged('held by A');
      await stage.redis.sadd(stage.mark.keys[bucket] as string, stage.mark.digest);
      expect(told(await stage.commitWith(stage.list()))).toEqual(['done']);
      const sizes = await Promise.all(stage.mark.keys.map((key) => stage.redis.scard(key)));
      expect(sizes.reduce((sum, size) => sum + size)).toBe(1);
    }
  });
});

describe('an apply with the mark of its record', () => {
  test('writes once, and neither a late copy nor another call writes after the record has expired', async () => {
    const stage = await staged('none');
    const token = randomBytes(16);
    const effects = stage.list((tx, data) => tx.incr(data));
    for (let copy = 0; copy < 3; copy += 1)
      expect(told(await stage.apply(token, effects))).toEqual(['applied', '1', '']);
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['completed', '1', '']);
    expect(await stage.redis.pttl(stage.key)).toBeLessThanOrEqual(KEPT_MS);
    await stage.expire();
    for (const late of [token, randomBytes(16)]) expect(told(await stage.apply(late, effects))).toEqual(['seen']);
    expect(await stage.redis.get(stage.data)).toBe('1');
    expect(await stage.redis.exists(stage.key)).toBe(0);
  });

  test('that was rejected leaves no mark; once it stands, a released key is not tried again', async () => {
    const stage = await staged('none');
    const token = randomBytes(16);
    await stage.redis.set(stage.data, 'text');
    const effects = stage.list((tx, data) => tx.incr(data));
    expect(told(await stage.apply(token, effects))).toEqual(['rejected', '1', 'not_an_integer', '1']);
    expect(await stage.isMarked()).toBe(false);
    await stage.add();
    const before = await stage.bytes();
    expect(told(await stage.apply(token, effects))).toEqual(['stale']);
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['seen']);
    expect(told(await stage.apply(randomBytes(16), effects, 1))).toEqual(['seen']);
    expect(await stage.bytes()).toEqual(before);
  });

  test('and without it keeps its replies', async () => {
    const stage = await staged('none');
    const { words, ...rest } = stage.list((tx, data) => tx.incr(data));
    const effects = { ...rest, words: words.slice(recordMarkWords(1, stage.mark, KEPT_MS).length) };
    expect(told(await stage.apply(randomBytes(16), effects))).toEqual(['applied', '1', ':1\r\n']);
    expect(await stage.redis.pttl(stage.key)).toBeGreaterThan(KEPT_MS);
  });
});

describe('seen', () => {
  test('tells each digest of an entry by a letter, and marks those that are new', async () => {
    const stage = new SeenStage();
    expect(await stage.tell('has', '5', '6')).toBe('00');
    expect(await stage.redis.exists(...stage.mark.keys)).toBe(0);
    expect(await stage.tell('add', '5', '6')).toBe('00');
    expect(await stage.tell('add', '7', '6', '8', '5')).toBe('0101');
    expect(await stage.tell('has', '8', '9', '5')).toBe('101');
    expect(await stage.tell('add', '8', '5')).toBe('11');
  });

  test('keeps 64-bit digests to their last digit', async () => {
    const stage = new SeenStage();
    const [most, least] = ['9223372036854775807', '-9223372036854775808'];
    expect(await stage.tell('add', most, least)).toBe('00');
    expect(await stage.tell('has', '9223372036854775806', '-9223372036854775807', most, least)).toBe('0011');
    const [there] = (await Promise.all(stage.mark.keys.map((key) => stage.redis.smembers(key)))).filter(
      ({ length }) => length > 0,
    );
    expect(there?.sort()).toEqual([least, most].sort());
  });

  test('finds a mark in any bucket, and never shortens the life of one', async () => {
    const stage = new SeenStage();
    for (const [at, key] of stage.mark.keys.entries()) {
      await stage.redis.sadd(key, String(at));
      await stage.redis.pexpire(key, 1_000_000);
    }
    expect(await stage.tell('add', '0', '1', '2', '3', '4')).toBe('11110');
    for (const key of stage.mark.keys) expect(await stage.redis.pttl(key)).toBeGreaterThan(900_000);
  });

  test('gives a bucket that had no expiry its own', async () => {
    const stage = new SeenStage();
    for (const key of stage.mark.keys) await stage.redis.sadd(key, '1');
    await stage.tell('add', '2');
    const left = await Promise.all(stage.mark.keys.map((key) => stage.redis.pttl(key)));
    expect(left.filter((ms) => ms === -1)).toHaveLength(3);
    expect(left.filter((ms) => ms > 9_000 && ms <= 15_000)).toHaveLength(1);
  });
});

describe('agree', () => {
  test('keeps the first layout and answers it to those with another; the time is renewed by those who agree', async () => {
    const stage = new Stage();
    expect(told(await stage.call('agree', { layout: 'one', ttl_ms: 50_000 }))).toEqual(['agreed']);
    expect(await stage.redis.pttl(stage.key)).toBeLessThanOrEqual(50_000);
    expect(told(await stage.call('agree', { layout: 'two', ttl_ms: 90_000 }))).toEqual(['differs', 'one']);
    expect(await stage.redis.pttl(stage.key)).toBeLessThanOrEqual(50_000);
    expect(told(await stage.call('agree', { layout: 'one', ttl_ms: 90_000 }))).toEqual(['agreed']);
    expect(await stage.redis.pttl(stage.key)).toBeGreaterThan(50_000);
    expect(await stage.redis.get(stage.key)).toBe('one');
  });
});
