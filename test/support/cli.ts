/** The command line within this process: its text, its exit code, and a namespace with a record in every state. */
import { PassThrough, Writable } from 'node:stream';
import { Redis } from 'ioredis';
import type { Ioredis } from '../../src/cli/connect.js';
import { run } from '../../src/cli/program.js';
import { Dedup } from '../../src/index.js';
import { INSIDE } from '../../src/inside.js';
import { newToken } from '../../src/token.js';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Stdin, stdout and stderr are a terminal of so many columns. */
  readonly terminal?: number | undefined;
  /** What is typed once the command asks; where there is nothing, the input ends. */
  readonly answer?: string | (() => Promise<string>) | undefined;
  /** Ctrl-C has been pressed already. */
  readonly interrupted?: boolean | undefined;
  readonly load?: (() => Promise<Ioredis>) | undefined;
}

class Collector extends Writable {
  text = '';
  readonly isTTY: boolean;

  constructor(
    readonly columns: number | undefined,
    private readonly onText: () => void,
  ) {
    super({ decodeStrings: false });
    this.isTTY = columns !== undefined;
  }

  override _write(chunk: string | Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += String(chunk);
    this.onText();
    done();
  }

  // What cli-progress and readline ask of a terminal.
  cursorTo(): boolean {
    return true;
  }

  moveCursor(): boolean {
    return true;
  }

  clearLine(): boolean {
    return true;
  }

  clearScreenDown(): boolean {
    return true;
  }
}

/** Runs a command as the bin does. */
export async function runCli(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { env = {}, terminal, answer, interrupted = false, load } = options;
  const stdin = Object.assign(new PassThrough(), { isTTY: terminal !== undefined });
  const stdout = new Collector(terminal, () => {});
  let asked = false;
  const stderr = new Collector(terminal, () => {
    if (asked || !/\[y\/N\]/.test(stderr.text)) return;
    asked = true;
    if (answer === undefined) stdin.end();
    else if (typeof answer === 'string') stdin.write(answer);
    else answer().then((typed) => stdin.write(typed));
  });
  const interruptible = () => (interrupted ? AbortSignal.abort() : new AbortController().signal);
  const io = { env, stdin, stdout, stderr, interruptible };
  const code = await (load ? run(argv, io, load) : run(argv, io));
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** A key with what terminals obey: it clears the screen, rings, goes to the next line, turns the text round. */
export const HOSTILE_KEY = '\u001b[2J\u0007evil\n\u202ekey\u009b31m';
/** Longer than is readable in a Redis key. */
export const LONG_KEY = 'long-'.repeat(40);

/** One record of each kind, in this order; `release` ends the attempt that is live. */
export async function populate(url: string, namespace: string): Promise<{ release: () => Promise<void> }> {
  const redis = new Redis(url);
  const dedup = new Dedup(redis, { namespace });
  const fails = () => Promise.reject(Object.assign(new Error('No such account'), { code: 'E_ACCOUNT' }));
  const failing = (of: Dedup, key: string, options: object) => of.once(key, fails, options).catch(() => {});
  const stored = { onError: 'store' } as const;

  await dedup.once('order:1001', () => ({ receipt: 'r-1001' }), { fingerprint: { cents: 1999 } });
  await dedup.once('order:1002', () => 'done', { slot: 'acct-42' });
  await failing(dedup, 'order:1003', stored);
  const europe = dedup.scope('payments', 'eu');
  await failing(europe, 'order:1004', { maxAttempts: 1 });
  // The first is released, and counted; the second finds that it was one too many.
  await failing(europe, 'order:1004', { maxAttempts: 1 });
  await failing(dedup, 'order:1005', {});
  await failing(dedup, HOSTILE_KEY, stored);
  await failing(dedup, LONG_KEY, stored);
  await claim(dedup, 'order:1006', 60_000);
  await redis.setrange(await redisKeyOf(dedup, 'order:1006'), 1, 'B');
  await redis.persist(await redisKeyOf(dedup, 'order:1006'));
  await claim(dedup, 'order:1007', 1);
  while ((await dedup.inspect('order:1007'))?.leaseRemainingMs !== 0);
  await dedup.seen('events').add('e-1');
  await redis.set(`${namespace}:order%3A1008`, 'no record');
  await redis.set(`${namespace}-other:order`, 'of others');

  let end!: () => void;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  let live!: Promise<unknown>;
  await new Promise<void>((started) => {
    live = dedup.once('order:1009', () => {
      started();
      return ended;
    });
  });
  return {
    release: async () => {
      end();
      await live.catch(() => {});
      await dedup.close();
      redis.disconnect();
    },
  };
}

/** An attempt whose worker is gone: nobody renews its lease. */
async function claim(dedup: Dedup, key: string, leaseMs: number): Promise<void> {
  const ttlMs = 3_600_000;
  const terms = { fingerprint: '', lease_ms: leaseMs, ttl_ms: ttlMs, retention_ms: ttlMs, max_attempts: 0, waits: '0' };
  const prefix = dedup[INSIDE].parts.settings.namespace;
  await dedup[INSIDE].parts.scripts.call('claim', `${prefix}:${key.replace(':', '%3A')}`, {
    token: newToken(),
    ...terms,
  });
}

async function redisKeyOf(dedup: Dedup, key: string): Promise<string> {
  return ((await dedup.inspect(key)) as { redisKey: string }).redisKey;
}
