/** Puts a key into each state that a record can have, by the scripts themselves, and says who is who in it. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { Connection } from '../../src/redis/connection.js';
import {
  type EffectList,
  type ScriptArgs,
  type ScriptName,
  type ScriptReply,
  Scripts,
} from '../../src/redis/scripts.js';
import { connect, until } from '../support/index.js';

/** What a claim was answered: what its owner says in commit, renew and settle. */
export interface Owner {
  readonly token: Buffer;
  readonly fence: number;
  readonly born: number;
}

export const LEASE_MS = 60_000;
export const TTL_MS = 120_000;
export const RETENTION_MS = 90_000;
export const CHANNEL = 'hints';

export class Stage {
  readonly redis: Redis = connect();
  readonly key = `lua-${randomUUID()}`;
  readonly #scripts = new Scripts(Connection.of(this.redis), 5_000);
  /** The first to claim. */
  a: Owner = { token: randomBytes(16), fence: 1, born: 1 };
  /** The next to claim, where there is one. */
  b: Owner = { token: randomBytes(16), fence: 2, born: 2 };

  async call<N extends ScriptName>(name: N, args: ScriptArgs<N>, effects?: EffectList): Promise<ScriptReply<N>> {
    return this.#scripts.call(name, this.key, args, effects ? { effects } : {});
  }

  claim(token: Buffer, changed: Partial<ScriptArgs<'claim'>> = {}): Promise<ScriptReply<'claim'>> {
    return this.call('claim', {
      token,
      fingerprint: '',
      lease_ms: LEASE_MS,
      ttl_ms: TTL_MS,
      retention_ms: RETENTION_MS,
      max_attempts: 0,
      waits: '1',
      ...changed,
    });
  }

  renew({ token, fence }: Owner): Promise<ScriptReply<'renew'>> {
    return this.call('renew', { token, fence, lease_ms: LEASE_MS, ttl_ms: TTL_MS });
  }

  commit({ token, fence, born }: Owner, result: string | Buffer = 'result'): Promise<ScriptReply<'commit'>> {
    return this.call('commit', { token, fence, born, run: 0, retention_ms: RETENTION_MS, channel: CHANNEL, result });
  }

  settle({ token, fence, born }: Owner, changed: Partial<ScriptArgs<'settle'>> = {}): Promise<ScriptReply<'settle'>> {
    return this.call('settle', {
      token,
      fence,
      born,
      as: 'released',
      ended: 'failed',
      ttl_ms: TTL_MS,
      channel: CHANNEL,
      failure: '',
      ...changed,
    });
  }

  /** Claims as the owner, who must get the key. */
  async own(token: Buffer, changed: Partial<ScriptArgs<'claim'>> = {}): Promise<Owner> {
    const { status, fields } = await this.claim(token, changed);
    if (status !== 'owned') throw new Error(`Expected the claim to be owned, got ${status}`);
    return { token, fence: Number(fields[1]), born: Number(fields[2]) };
  }

  /** Claims with a lease that has run out when this returns. */
  async lapse(token: Buffer, changed: Partial<ScriptArgs<'claim'>> = {}): Promise<Owner> {
    const owner = await this.own(token, { lease_ms: 1, ...changed });
    await until(async () => String((await this.call('inspect', {})).fields[2]) === '0');
    return owner;
  }

  async state(): Promise<string> {
    return (await this.call('inspect', {})).status;
  }

  /** The record's bytes and when it expires: equal before and after where nothing was changed. */
  async bytes(): Promise<{ dump: string | undefined; expiresAt: number }> {
    const [dump, expiresAt] = await Promise.all([this.redis.dumpBuffer(this.key), this.redis.pexpiretime(this.key)]);
    return { dump: dump?.toString('hex'), expiresAt };
  }
}

/** What each state is, and how a key comes to it. A claims first; B comes after A. */
export const STATES = {
  none: async () => {},
  'held by A': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
  },
  "A's lease has run out": async (stage: Stage) => {
    stage.a = await stage.lapse(stage.a.token);
  },
  'B took over from A': async (stage: Stage) => {
    stage.a = await stage.lapse(stage.a.token);
    stage.b = await stage.own(stage.b.token);
  },
  'B took over from A and its lease has run out': async (stage: Stage) => {
    stage.a = await stage.lapse(stage.a.token);
    stage.b = await stage.lapse(stage.b.token);
  },
  'released by A': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
    await stage.settle(stage.a);
  },
  'released by A, held by B': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
    await stage.settle(stage.a);
    stage.b = await stage.own(stage.b.token);
  },
  'released by A and by B': async (stage: Stage) => {
    await STATES['released by A, held by B'](stage);
    await stage.settle(stage.b);
  },
  'completed by A': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
    await stage.commit(stage.a);
  },
  'completed by B after A': async (stage: Stage) => {
    await STATES['B took over from A'](stage);
    await stage.commit(stage.b);
  },
  'failed by A': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
    await stage.settle(stage.a, { as: 'failed', failure: 'failure' });
  },
  'exhausted after A': async (stage: Stage) => {
    stage.a = await stage.lapse(stage.a.token);
    await stage.claim(stage.b.token, { max_attempts: 1 });
  },
  'broken by A': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
    await stage.redis.setrange(stage.key, 1, 'B');
  },
  'forgotten, then held by B': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
    await stage.call('forget', { force: '1' });
    stage.b = await stage.own(stage.b.token);
  },
  'forgotten, then completed by B': async (stage: Stage) => {
    await STATES['forgotten, then held by B'](stage);
    await stage.commit(stage.b);
  },
  'another layout': async (stage: Stage) => {
    stage.a = await stage.own(stage.a.token);
    await stage.redis.setrange(stage.key, 0, '\x02');
  },
  'another type': async (stage: Stage) => {
    await stage.redis.hset(stage.key, 'a', 'hash');
    await stage.redis.pexpire(stage.key, 100_000);
  },
  'no record at all': async (stage: Stage) => {
    await stage.redis.set(stage.key, 'somebody else wrote this', 'EX', 100);
  },
} satisfies Record<string, (stage: Stage) => Promise<void>>;

export type State = keyof typeof STATES;
