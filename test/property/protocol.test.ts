/**
 * Random histories of three callers over the real Lua: claims, renewals, commits, settlements, with answers lost, copies
 * sent again and late, leases that lapse, records forgotten and expired. After each step a checker holds G1 to G5 and G9
 * against what was answered. A failure prints its seed and the shrunk history.
 */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { Connection } from '../../src/redis/connection.js';
import { type ScriptArgs, type ScriptName, Scripts } from '../../src/redis/scripts.js';
import { newToken } from '../../src/token.js';

const RUNS = Number(process.env.TEST_HISTORIES ?? 600);

type Step =
  | {
      readonly do: 'claim' | 'renew' | 'commit' | 'release' | 'fail';
      readonly caller: number;
      readonly key: number;
      readonly lost: boolean;
    }
  | { readonly do: 'again'; readonly message: number }
  | { readonly do: 'lapse' | 'forget' | 'expire'; readonly key: number };

const key = fc.nat(1);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'claim' as const,
        'claim' as const,
        'renew' as const,
        'commit' as const,
        'release' as const,
        'fail' as const,
      ),
      caller: fc.nat(2),
      key,
      lost: fc.boolean(),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('again' as const), message: fc.nat(40) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('lapse' as const), key }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('forget' as const, 'expire' as const), key }) },
);

/** What a caller knows of its attempt: an answer that is lost tells it nothing. */
interface Attempt {
  readonly token: string;
  fence?: number;
  born?: number;
  /** It has sent a commit or settlement: it takes no new result back. */
  ended: boolean;
}

interface Message {
  readonly name: ScriptName;
  readonly key: number;
  readonly args: never;
  /** The result that a commit carries: names its attempt. */
  readonly id: string;
}

const REMEMBERED_TOKENS = 8;

/** What must stay true of one key. */
class Checker {
  /** The fence of the attempt that was last given the key. */
  owner: string | undefined;
  #ownerToken: string | undefined;
  #fence = 0;
  #result: string | undefined;
  /** Tokens that have had the key, newest first. */
  #past: string[] = [];
  readonly #dead = new Set<string>();
  /** Everything that was ever stored, before the record was forgotten as well. */
  readonly #everStored = new Set<string>();

  gone(): void {
    this.owner = undefined;
    this.#ownerToken = undefined;
    this.#fence = 0;
    this.#result = undefined;
    this.#past = [];
    this.#dead.clear();
  }

  claimed(token: string, fence: string, from: string): void {
    if (from === 'resend') {
      expect(`${token} ${fence}`).toBe(this.owner);
      return;
    }
    // G4: a late copy of a claim that was given up takes nothing.
    expect(this.#past.slice(0, REMEMBERED_TOKENS + 1)).not.toContain(token);
    this.owner = `${token} ${fence}`;
    this.#ownerToken = token;
    this.#past.unshift(this.#ownerToken);
  }

  answered({ name, id }: Message, status: string, stored: string | undefined, sameBirth: boolean): void {
    if (name !== 'commit' && name !== 'settle') return;
    // G3, G5: told that it is done, it is; told that it is not, it is not, now or later.
    if (status === 'done') {
      expect(stored).toBe(id);
      return;
    }
    expect(stored).not.toBe(id);
    // Lost says that nothing was applied, ever; gone does not.
    if (status === 'lost') expect(this.#everStored).not.toContain(id);
    if (sameBirth) this.#dead.add(id);
  }

  /** What the record is after a step. */
  stands(stored: string | undefined, fence: number): void {
    expect(fence).toBeGreaterThanOrEqual(this.#fence);
    this.#fence = fence;
    if (this.#result !== undefined) expect(stored).toBe(this.#result); // G1: one result, for good
    if (stored === undefined) return;
    expect(this.#dead).not.toContain(stored); // G3, G4, G5
    this.#result = stored;
    this.#everStored.add(stored);
  }
}

let redis: Redis;
beforeAll(() => {
  redis = new Redis(inject('redisUrl'));
});
afterAll(() => redis.disconnect());

async function play(steps: readonly Step[]): Promise<void> {
  const run = randomUUID();
  const keys = [0, 1].map((index) => `histories-${run}-${index}`);
  const scripts = new Scripts(Connection.of(redis), 5_000);
  const checkers = [new Checker(), new Checker()];
  const attempts = new Map<string, Attempt>();
  const sent: Message[] = [];

  const look = async (index: number) => {
    const { status, fields } = await scripts.call('inspect', keys[index] as string, {});
    if (status === 'none') return { status, fence: 0, born: 0, stored: undefined };
    const fence = Number(String(fields[1]));
    if (status !== 'completed') return { status, fence, stored: undefined };
    const probe = {
      token: newToken(),
      fingerprint: '',
      lease_ms: 1,
      ttl_ms: 60_000,
      retention_ms: 60_000,
      max_attempts: 0,
      waits: '0',
    };
    const { fields: claimed } = await scripts.call('claim', keys[index] as string, probe);
    return { status, fence, stored: String(claimed[1]) };
  };

  const send = async (message: Message) => {
    const { name, key: index, id } = message;
    const checker = checkers[index] as Checker;
    const dumps = () => Promise.all(keys.map(async (one) => (await redis.dumpBuffer(one))?.toString('hex')));
    const before = await dumps();
    const bornBefore = await bornOf(index);
    const reply = await scripts.call(name, keys[index] as string, message.args);
    const after = await dumps();
    expect(after[1 - index]).toBe(before[1 - index]); // G9
    if (name === 'claim') {
      const { token } = message.args as { token: string };
      const [, fence, , from] = reply.fields.map(String);
      if (reply.status === 'owned') checker.claimed(hexOf(token), String(fence), String(from));
    } else if (id !== checker.owner) {
      expect(after[index]).toBe(before[index]); // G3: what is not the owner's changes nothing
    }
    const { stored, fence } = await look(index);
    checker.answered(message, reply.status, stored, (message.args as { born?: number }).born === bornBefore);
    checker.stands(stored, fence);
    return reply;
  };

  /** The record's born, as its bytes have it. */
  const bornOf = async (index: number): Promise<number> => {
    const raw = await redis.getBuffer(keys[index] as string);
    if (!raw) return 0;
    const [state, shape] = [String.fromCharCode(raw[1] as number), raw[2] as number];
    if (!(shape & 2)) return Number(raw.readBigUInt64BE(6) & 0xff_ff_ff_ff_ff_ff_ffn);
    const at = 22 + (state === 'R' || state === 'B' ? 18 : 0) + (state === 'C' || state === 'F' ? 0 : 4);
    return Number(raw.readBigUInt64BE(at - 1) & 0xff_ff_ff_ff_ff_ff_ffn);
  };

  for (const one of steps) {
    if ('message' in one) {
      if (sent.length > 0) await send(sent[one.message % sent.length] as Message);
      continue;
    }
    const redisKey = keys[one.key] as string;
    if (one.do === 'lapse') {
      if ((await look(one.key)).status === 'in_progress') await redis.setrange(redisKey, 30, '\0\0\0\0\0\0');
      continue;
    }
    if (!('caller' in one)) {
      await (one.do === 'expire' ? redis.del(redisKey) : scripts.call('forget', redisKey, { force: '1' }));
      (checkers[one.key] as Checker).gone();
      continue;
    }
    const whose = `${one.caller} ${one.key}`;
    let attempt = attempts.get(whose);
    if (one.do === 'claim') {
      if (!attempt || attempt.ended) attempt = { token: newToken(), ended: false };
      attempts.set(whose, attempt);
      const args = {
        token: attempt.token,
        fingerprint: '',
        lease_ms: 60_000,
        ttl_ms: 120_000,
        retention_ms: 120_000,
        max_attempts: 0,
        waits: '1',
      } satisfies ScriptArgs<'claim'>;
      const message: Message = { name: 'claim', key: one.key, args: args as never, id: 'no result' };
      sent.push(message);
      const { status, fields } = await send(message);
      if (one.lost) continue;
      if (status === 'owned') {
        attempt.fence = Number(fields[1]);
        attempt.born = Number(fields[2]);
      } else if (status === 'stale') attempt.ended = true;
      continue;
    }
    if (attempt?.fence === undefined || attempt.born === undefined) continue;
    const { token, fence, born } = attempt;
    const id = `${hexOf(token)} ${fence}`;
    const own = { token, fence, born };
    let message: Message;
    if (one.do === 'renew') {
      message = { name: 'renew', key: one.key, args: { token, fence, lease_ms: 60_000, ttl_ms: 120_000 } as never, id };
    } else if (one.do === 'commit') {
      message = {
        name: 'commit',
        key: one.key,
        args: { ...own, run: 0, retention_ms: 120_000, channel: '', result: id } as never,
        id,
      };
    } else {
      const as = one.do === 'release' ? 'released' : 'failed';
      message = {
        name: 'settle',
        key: one.key,
        args: { ...own, as, ended: 'failed', ttl_ms: 120_000, channel: '', failure: 'failure' } as never,
        id,
      };
    }
    sent.push(message);
    const { status } = await send(message);
    if (one.do !== 'renew' && !one.lost) attempt.ended = true;
    if (one.do === 'renew' && !one.lost && status !== 'renewed') attempt.ended = true;
  }
  await redis.unlink(...keys);
}

test('no history breaks G1 to G5 or G9', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), play), {
    numRuns: RUNS,
    ...(process.env.TEST_SEED ? { seed: Number(process.env.TEST_SEED) } : {}),
  });
}, 120_000);

function hexOf(token: string): string {
  return Buffer.from(token).toString('hex');
}
