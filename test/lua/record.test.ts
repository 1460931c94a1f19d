/** What the record keeps through its transitions: fence, born, attempts, failures, given-up tokens, fingerprint, TTL. */
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { connect, until } from '../support/index.js';
import { CHANNEL, LEASE_MS, RETENTION_MS, STATES, Stage, TTL_MS } from './stage.js';

async function staged(state: keyof typeof STATES): Promise<Stage> {
  const stage = new Stage();
  await STATES[state](stage);
  return stage;
}

async function inspected(stage: Stage) {
  const { status, fields } = await stage.call('inspect', {});
  const [attempt, fence, leaseLeft, expiresIn, resultBytes] = fields.map((field) => Number(String(field)));
  return { status, attempt, fence, leaseLeft, expiresIn, resultBytes, fingerprint: fields[5] };
}

describe('the fence', () => {
  test('is the server time in microseconds for a first attempt', async () => {
    const stage = await staged('held by A');
    const [seconds, micros] = await stage.redis.time();
    const nowUs = Number(seconds) * 1_000_000 + Number(micros);
    expect(stage.a.fence).toBeLessThanOrEqual(nowUs);
    expect(stage.a.fence).toBeGreaterThan(nowUs - 60_000_000);
    expect(stage.a.born).toBe(stage.a.fence);
  });

  test('rises with every attempt, and born stays', async () => {
    const stage = await staged('released by A, held by B');
    expect(stage.b.fence).toBeGreaterThan(stage.a.fence);
    expect(stage.b.born).toBe(stage.a.born);
  });

  test('rises by one where the server clock has gone back', async () => {
    const stage = await staged('released by A');
    const future = (BigInt(stage.a.fence) + 3_600_000_000n).toString(16).padStart(14, '0');
    await stage.redis.setrange(stage.key, 7, Buffer.from(future, 'hex') as unknown as string);
    const taken = await stage.own(randomBytes(16));
    expect(taken.fence).toBe(stage.a.fence + 3_600_000_000 + 1);
  });
});

describe('attempts', () => {
  test('count up with every take, from whatever the last one left', async () => {
    const stage = await staged('B took over from A and its lease has run out');
    await stage.own(randomBytes(16));
    expect(await inspected(stage)).toMatchObject({ attempt: 3 });
  });

  test('that no handler began are given back', async () => {
    const stage = await staged('held by A');
    await stage.settle(stage.a, { ended: 'unstarted' });
    expect(await inspected(stage)).toMatchObject({ status: 'released', attempt: 0 });
    const { fields } = await stage.claim(randomBytes(16));
    expect(String(fields[0])).toBe('1');
  });

  test.each([
    ['failed', 'exhausted', '1'],
    ['interrupted', 'owned', '2'],
    ['unstarted', 'owned', '1'],
  ])('that ended %s leave the next claim under max_attempts 1 %s, told %s', async (ended, next, told) => {
    const stage = await staged('held by A');
    await stage.settle(stage.a, { ended });
    const { status, fields } = await stage.claim(randomBytes(16), { max_attempts: 1 });
    expect([status, String(fields[0])]).toEqual([next, told]);
  });

  test('that lost their lease count', async () => {
    const stage = await staged("A's lease has run out");
    const { status, fields } = await stage.claim(randomBytes(16), { max_attempts: 1 });
    expect([status, String(fields[0])]).toEqual(['exhausted', '1']);
    expect((await inspected(stage)).expiresIn).toBeGreaterThan(RETENTION_MS - 30_000);
    expect((await inspected(stage)).expiresIn).toBeLessThanOrEqual(RETENTION_MS);
  });

  test('below max_attempts are taken, the last of them included', async () => {
    const stage = await staged('released by A');
    stage.b = await stage.own(stage.b.token, { max_attempts: 2 });
    await stage.settle(stage.b);
    expect((await stage.claim(randomBytes(16), { max_attempts: 2 })).status).toBe('exhausted');
  });

  test('count twice where one lapsed and one was released', async () => {
    const stage = await staged('B took over from A');
    await stage.settle(stage.b);
    const { status, fields } = await stage.claim(randomBytes(16), { max_attempts: 2 });
    expect([status, String(fields[0])]).toEqual(['exhausted', '2']);
  });
});

describe('a claim tells where it took the key from', () => {
  test.each([
    ['none', 'nothing'],
    ['released by A', 'released'],
    ["A's lease has run out", 'lapsed'],
  ] as const)('%s → %s', async (state, from) => {
    const stage = await staged(state);
    expect(String((await stage.claim(randomBytes(16))).fields[3])).toBe(from);
  });

  test('its own resend, with the same attempt, fence and born', async () => {
    const stage = await staged('B took over from A');
    const { fields } = await stage.claim(stage.b.token);
    expect(fields.map(String)).toEqual(['2', String(stage.b.fence), String(stage.b.born), 'resend']);
  });
});

describe('given-up tokens', () => {
  test('the last eight are remembered, and a ninth is forgotten', async () => {
    const stage = new Stage();
    const tokens = Array.from({ length: 10 }, () => randomBytes(16));
    for (const token of tokens) await stage.settle(await stage.own(token));
    // The newest is the released record's own; eight more are kept; the first has been pushed out.
    for (const token of tokens.slice(1)) expect((await stage.claim(token)).status).toBe('stale');
    expect((await stage.claim(tokens[0] as Buffer)).status).toBe('owned');
  });

  test('are compared as whole halves, not at any place', async () => {
    const stage = new Stage();
    const [first, second] = [randomBytes(16), randomBytes(16)];
    await stage.settle(await stage.own(first));
    await stage.settle(await stage.own(second));
    const across = Buffer.concat([second.subarray(4, 8), first.subarray(0, 4), randomBytes(8)]);
    expect((await stage.claim(across)).status).toBe('owned');
  });
});

describe('the lease', () => {
  test('of a busy key is told in ms', async () => {
    const stage = await staged('held by A');
    const left = Number(String((await stage.claim(randomBytes(16))).fields[0]));
    expect(left).toBeGreaterThan(LEASE_MS - 30_000);
    expect(left).toBeLessThanOrEqual(LEASE_MS);
  });

  test('is extended by renew, and the TTL with it', async () => {
    const stage = await staged("A's lease has run out");
    await stage.redis.pexpire(stage.key, 30_000);
    await stage.renew(stage.a);
    const { leaseLeft, expiresIn } = await inspected(stage);
    expect(leaseLeft).toBeGreaterThan(LEASE_MS - 30_000);
    expect(expiresIn).toBeGreaterThan(TTL_MS - 30_000);
  });

  test('that ends further away than it is long is counted again from now: the clock has gone back', async () => {
    const stage = await staged('held by A');
    const hourAhead = (BigInt(Date.now()) + 3_600_000n).toString(16).padStart(12, '0');
    await stage.redis.setrange(stage.key, 30, Buffer.from(hourAhead, 'hex') as unknown as string);
    const { status, fields } = await stage.claim(randomBytes(16));
    expect([status, String(fields[0])]).toEqual(['busy', String(LEASE_MS)]);
    const raw = (await stage.redis.getBuffer(stage.key)) as Buffer;
    expect(raw.readUIntBE(30, 6)).toBeLessThanOrEqual(Date.now() + LEASE_MS);
    expect(raw.readUIntBE(30, 6)).toBeGreaterThan(Date.now());
  });

  test('is never told longer than it is, though the clock has gone back', async () => {
    const stage = await staged('held by A');
    const hourAhead = (BigInt(Date.now()) + 3_600_000n).toString(16).padStart(12, '0');
    await stage.redis.setrange(stage.key, 30, Buffer.from(hourAhead, 'hex') as unknown as string);
    expect((await inspected(stage)).leaseLeft).toBe(LEASE_MS);
    expect(String((await stage.call('forget', { force: '0' })).fields[0])).toBe(String(LEASE_MS));
  });
});

test.each([
  '',
  '\x01',
  '\x01C',
  `\x01C\x02${'x'.repeat(19)}`,
  `\x01R\x00${'x'.repeat(19)}`,
  `\x01Z\x00${'x'.repeat(60)}`,
])('bytes that end too soon, or of no known state, are no record (%j)', async (bytes) => {
  const stage = new Stage();
  await stage.redis.set(stage.key, bytes, 'EX', 100);
  const before = await stage.bytes();
  expect((await stage.claim(randomBytes(16))).status).toBe('unreadable');
  expect((await stage.commit(stage.a)).status).toBe('gone');
  expect((await stage.call('inspect', {})).status).toBe('unreadable');
  expect(await stage.bytes()).toEqual(before);
});

describe('the fingerprint', () => {
  const [mine, other] = [randomBytes(16), randomBytes(16)];
  const finish: Record<string, (stage: Stage) => Promise<unknown>> = {
    'in progress': async () => {},
    released: (stage) => stage.settle(stage.a),
    completed: (stage) => stage.commit(stage.a),
    failed: (stage) => stage.settle(stage.a, { as: 'failed', failure: 'failure' }),
    broken: (stage) => stage.redis.setrange(stage.key, 1, 'B'),
  };

  test.each(Object.keys(finish))('of a record %s refuses another and none, and accepts its own', async (state) => {
    const stage = new Stage();
    stage.a = await stage.own(stage.a.token, { fingerprint: mine });
    await finish[state]?.(stage);
    const before = await stage.bytes();
    expect((await stage.claim(randomBytes(16), { fingerprint: other })).status).toBe('mismatch');
    expect((await stage.claim(randomBytes(16))).status).toBe('mismatch');
    expect(await stage.bytes()).toEqual(before);
    expect((await inspected(stage)).fingerprint).toEqual(mine);
    expect((await stage.claim(randomBytes(16), { fingerprint: mine })).status).not.toBe('mismatch');
  });

  test('of a caller is not compared with a record that has none, and is kept by the one who takes it', async () => {
    const stage = await staged('released by A');
    stage.b = await stage.own(stage.b.token, { fingerprint: mine });
    expect((await stage.claim(randomBytes(16), { fingerprint: other })).status).toBe('mismatch');
  });

  test('survives takeover, given-up tokens and completion together', async () => {
    const stage = new Stage();
    stage.a = await stage.lapse(stage.a.token, { fingerprint: mine });
    stage.b = await stage.own(stage.b.token, { fingerprint: mine });
    await stage.commit(stage.b, 'the result');
    expect(await inspected(stage)).toMatchObject({
      status: 'completed',
      attempt: 2,
      fence: stage.b.fence,
      resultBytes: 10,
    });
    const { fields } = await stage.claim(randomBytes(16), { fingerprint: mine });
    expect(fields.map(String)).toEqual(['2', 'the result']);
    expect((await stage.commit(stage.b)).status).toBe('done');
    expect((await stage.commit(stage.a)).status).toBe('lost');
  });
});

describe('results and failures', () => {
  test.each([0, 1, 8, 22, 65_536])('of %i bytes come back as they are', async (size) => {
    const stage = await staged('held by A');
    const result = randomBytes(size);
    await stage.commit(stage.a, result);
    expect((await stage.claim(randomBytes(16))).fields[1]).toEqual(result);
    expect((await stage.settle(stage.a)).fields[1]).toEqual(result);
  });

  test('a failure comes back as it is', async () => {
    const stage = await staged('failed by A');
    expect((await stage.claim(randomBytes(16))).fields.map(String)).toEqual(['1', 'failure']);
  });
});

describe('the TTL', () => {
  test.each([
    ['held by A', TTL_MS],
    ['released by A', TTL_MS],
    ['completed by A', RETENTION_MS],
    ['exhausted after A', RETENTION_MS],
  ] as const)('of a key %s is at most %i ms, and there is one', async (state, ms) => {
    const stage = await staged(state);
    const { expiresIn } = await inspected(stage);
    expect(expiresIn).toBeLessThanOrEqual(ms);
    expect(expiresIn).toBeGreaterThan(ms - 30_000);
  });
});

describe('hints', () => {
  test.each([
    ['commit', 'completed', (stage: Stage) => stage.commit(stage.a)],
    ['release', 'released', (stage: Stage) => stage.settle(stage.a)],
    ['failure', 'failed', (stage: Stage) => stage.settle(stage.a, { as: 'failed' })],
  ] as const)('a %s tells %s where somebody waits, with a hash and no result', async (_name, word, finish) => {
    const stage = await staged('held by A');
    const messages: string[] = [];
    const subscriber = connect();
    subscriber.on('message', (_channel, message) => messages.push(message));
    await subscriber.subscribe(CHANNEL);
    await stage.claim(randomBytes(16), { waits: '1' });
    await stage.claim(randomBytes(16), { waits: '1' });
    await finish(stage);
    await until(() => messages.some((message) => message.endsWith(word)));
    expect(messages.every((message) => /^[0-9a-f]{40} \w+$/.test(message))).toBe(true);
  });

  test('nothing is published where nobody waits', async () => {
    const stage = await staged('held by A');
    const channel = `hints-${stage.key}`;
    await stage.claim(randomBytes(16), { waits: '0' });
    const messages: string[] = [];
    const subscriber = connect();
    subscriber.on('message', (_channel, message) => messages.push(message));
    await subscriber.subscribe(channel);
    const { token, fence, born } = stage.a;
    await stage.call('commit', { token, fence, born, run: 0, retention_ms: RETENTION_MS, channel, result: '' });
    await stage.redis.publish(channel, 'the end');
    await until(() => messages.includes('the end'));
    expect(messages).toEqual(['the end']);
  });
});

describe('a list', () => {
  test('answers each entry by itself, in order, one of them no record', async () => {
    const stage = await staged('held by A');
    const foreign = `${stage.key}-list`;
    await stage.redis.lpush(foreign, 'x');
    await stage.redis.expire(foreign, 100);
    const { Scripts } = await import('../../src/redis/scripts.js');
    const { Connection } = await import('../../src/redis/connection.js');
    const scripts = new Scripts(Connection.of(stage.redis), 5_000);
    const args = { token: stage.a.token, fence: stage.a.fence, lease_ms: LEASE_MS, ttl_ms: TTL_MS };
    const replies = await scripts.callMany('renew', [
      { redisKey: `${stage.key}-none`, args },
      { redisKey: foreign, args },
      { redisKey: stage.key, args },
    ]);
    expect(replies.map((reply) => ('status' in reply ? reply.status : `${reply.failure} ${reply.code}`))).toEqual([
      'lost',
      'lost',
      'renewed',
    ]);
  });
});
