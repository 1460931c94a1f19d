/** How an attempt ends, by every answer that its commit and settlement may get, on a clock of the test's own. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { AttemptTerms } from '../../src/call/attempt.js';
import { commit, settle, untilAnswered } from '../../src/call/finish.js';
import type { Parts } from '../../src/call/parts.js';
import { storeUnavailable } from '../../src/call/verdicts.js';
import { InvalidOptionError, isDedupError } from '../../src/index.js';
import { ExchangeError } from '../../src/redis/exchange.js';
import { NO_EFFECTS } from '../../src/redis/scripts.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  vi.advanceTimersByTime(1_000);
});
afterEach(() => {
  vi.useRealTimers();
});

type Reply = ExchangeError | { status: string; steady: boolean };
const steady = (status: string): Reply => ({ status, steady: true });
const unsteady = (status: string): Reply => ({ status, steady: false });
const refused = (code: string) => new ExchangeError('refused', code, `Redis answered ${code}`);
const unanswered = () => new ExchangeError('unknown', null, 'Redis did not answer in time');
const unsent = () => new ExchangeError('unsent', null, 'Redis was not reached');

const TERMS = { key: 'k', redisKey: 'r:k', token: 't', fence: 7, born: 5, attempt: 1, ttlMs: 60_000 };
const REDIS_TIMEOUT_MS = 1_000;

/** Scripts that answer as the test says. */
function stage() {
  const start = performance.now();
  const at = () => performance.now() - start;
  const sent: { at: number; name: string; args: Record<string, unknown>; deadline: number | undefined }[] = [];
  const told: [string, unknown][] = [];
  const redis = { status: 'ready' };
  const server = { commit: (): Reply => steady('done'), settle: (): Reply => steady('released') };
  const parts = {
    settings: { redisTimeoutMs: REDIS_TIMEOUT_MS },
    connection: { redis },
    hints: { channel: 'hints' },
    events: { tell: {} },
    storeError: (_terms: AttemptTerms, operation: string, { code }: ExchangeError) =>
      told.push(['storeError', { operation, code }]),
    scripts: {
      deadline: () => performance.now() + REDIS_TIMEOUT_MS,
      async call(
        name: 'commit' | 'settle',
        _redisKey: string,
        args: Record<string, unknown>,
        options?: { deadline?: number },
      ) {
        const deadline = options?.deadline;
        sent.push({ at: at(), name, args, deadline: deadline && deadline - start });
        const reply = server[name]();
        if (reply instanceof ExchangeError) throw reply;
        return reply;
      },
    },
  } as unknown as Parts;
  const terms = { ...TERMS, leaseMs: 30_000 } as unknown as AttemptTerms;
  const names = () => sent.map(({ name }) => name);
  /** What the commit came to: nothing, or its error's code and message. */
  const commits = async (agree?: () => Promise<void>) => {
    const commitment = { retentionMs: 3_600_000, result: 'result', effects: NO_EFFECTS, agree, run: 0 };
    const call = commit(parts, terms, commitment).then(
      (refusal) => refusal?.error,
      (error: unknown) => error,
    );
    await vi.advanceTimersByTimeAsync(10_000);
    const error = await call;
    if (error === undefined) return undefined;
    if (!isDedupError(error)) throw error;
    expect(error.key).toBe('k');
    return error;
  };
  return { parts, terms, redis, server, sent, told, names, commits, at };
}

describe('a commit', () => {
  test('that is done is sent once, with all that names the attempt', async () => {
    const { commits, sent, told } = stage();
    expect(await commits()).toBeUndefined();
    const { token, fence, born } = TERMS;
    const args = { token, fence, born, run: 0, retention_ms: 3_600_000, channel: 'hints', result: 'result' };
    expect(sent).toEqual([{ at: 0, name: 'commit', args, deadline: 1_000 }]);
    expect(told).toEqual([]);
  });

  test.each<[string, Reply, string, RegExp]>([
    ['lost', steady('lost'), 'LEASE_LOST', /^Another attempt took over/],
    ['lost after a drop', unsteady('lost'), 'LEASE_LOST', /^Another attempt took over/],
    ['gone', steady('gone'), 'LEASE_LOST', /^The record is gone/],
    ['gone after a drop', unsteady('gone'), 'OUTCOME_UNKNOWN', /the record is gone/],
    ['broken', steady('broken'), 'BROKEN', /forget/],
    ['broken after a drop', unsteady('broken'), 'BROKEN', /forget/],
  ])('that is answered %s is told so', async (_name, reply, code, message) => {
    const { commits, server, names } = stage();
    server.commit = () => reply;
    expect(await commits()).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(names()).toEqual(['commit']);
  });

  test.each([unanswered, unsent, () => refused('READONLY')])(
    'is sent again every 20 ms, for two redisTimeouts, then settled (%#)',
    async (reply) => {
      const { commits, server, sent, told } = stage();
      server.commit = reply;
      server.settle = () => steady('done');
      expect(await commits()).toBeUndefined();
      expect(sent).toHaveLength(101);
      expect(sent.slice(0, 3).map(({ at }) => at)).toEqual([0, 20, 40]);
      expect(sent[99]).toMatchObject({ at: 1_980, name: 'commit', deadline: 2_000 });
      expect(sent[100]).toMatchObject({ at: 2_000, name: 'settle', deadline: undefined });
      expect(sent[100]?.args).toMatchObject({ as: 'released', ended: 'interrupted', ttl_ms: 60_000, failure: '' });
      expect(told[0]).toEqual(['storeError', { operation: 'commit', code: reply().code }]);
      expect(told).toHaveLength(100);
    },
  );

  test('that marks ids is not sent before the sets are agreed on, however long that takes', async () => {
    const { commits, sent } = stage();
    const answers = [unsent(), unsent(), undefined];
    const agree = async () => {
      const answer = answers.shift();
      if (answer) throw answer;
    };
    expect(await commits(agree)).toBeUndefined();
    expect(sent.map(({ at, name }) => [at, name])).toEqual([[40, 'commit']]);
  });

  test('that marks ids in a set of other options is not sent', async () => {
    const { commits, names } = stage();
    const agree = () => Promise.reject(new InvalidOptionError('other options', { key: 'k' }));
    expect(await commits(agree)).toMatchObject({ code: 'INVALID_OPTION' });
    expect(names()).toEqual([]);
  });

  test('that is refused for good is settled at once', async () => {
    const { commits, server, names } = stage();
    server.commit = () => refused('OOM');
    const error = await commits();
    expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', cause: { code: 'OOM' } });
    expect(error?.message).toMatch(/^Redis is out of memory .*the claim is released$/);
    expect(names()).toEqual(['commit', 'settle']);
  });

  test('without an answer on a connection that is closed is settled at once', async () => {
    const { commits, redis, server, names } = stage();
    server.commit = () => {
      redis.status = 'end';
      return unanswered();
    };
    server.settle = unsent;
    expect(await commits()).toMatchObject({ code: 'OUTCOME_UNKNOWN', cause: { failure: 'unknown' } });
    expect(names()).toEqual(['commit', 'settle']);
  });

  test.each<[string, Reply, Reply, string, RegExp]>([
    ['unanswered, its settlement too', unanswered(), unanswered(), 'OUTCOME_UNKNOWN', /Redis did not answer/],
    ['never sent, its settlement neither', unsent(), unsent(), 'STORE_UNAVAILABLE', /its result was not stored$/],
    ['refused, its settlement too', refused('OOM'), refused('OOM'), 'STORE_UNAVAILABLE', /was not stored$/],
    [
      'refused, its settlement unanswered',
      refused('OOM'),
      unanswered(),
      'STORE_UNAVAILABLE',
      /^Redis is out of memory .*stored$/,
    ],
    ['unanswered, its key released', unanswered(), steady('released'), 'STORE_UNAVAILABLE', /the claim is released$/],
    ['unanswered, its record gone', unanswered(), steady('gone'), 'OUTCOME_UNKNOWN', /may or may not/],
    ['refused, its record gone', refused('OOM'), steady('gone'), 'LEASE_LOST', /^The record is gone/],
    ['never sent, its record gone', unsent(), steady('gone'), 'LEASE_LOST', /^The record is gone/],
    ['unanswered, its key taken', unanswered(), steady('lost'), 'LEASE_LOST', /^Another attempt took over/],
    ['unanswered, its record broken', unanswered(), steady('broken'), 'BROKEN', /forget/],
  ])('that was %s is told as what is known', async (_name, reply, settled, code, message) => {
    const { commits, server } = stage();
    server.commit = () => reply;
    server.settle = () => settled;
    expect(await commits()).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('that was unanswered once stays in doubt, though the rest is refused', async () => {
    const { commits, server, sent } = stage();
    server.commit = () => (sent.length === 1 ? unanswered() : refused('OOM'));
    server.settle = () => steady('gone');
    expect(await commits()).toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  });

  test('fails as it is where the fault is not the exchange', async () => {
    const { commits, server, names } = stage();
    server.commit = () => {
      throw new TypeError('a fault');
    };
    await expect(commits()).rejects.toThrow('a fault');
    expect(names()).toEqual(['commit']);
    server.commit = () => refused('OOM');
    server.settle = () => {
      throw new TypeError('another fault');
    };
    await expect(commits()).rejects.toThrow('another fault');
  });
});

describe('a settlement', () => {
  test('names the attempt, how it ended and its failure', async () => {
    const { parts, terms, sent } = stage();
    await settle(parts, terms, { as: 'failed', ended: 'failed', ttlMs: 9, failure: 'why' });
    const { token, fence, born } = TERMS;
    const args = { token, fence, born, as: 'failed', ended: 'failed', ttl_ms: 9, channel: 'hints', failure: 'why' };
    expect(sent).toEqual([{ at: 0, name: 'settle', args, deadline: undefined }]);
  });

  test('without an answer is told as an error of the store; any other fault is not', async () => {
    const { parts, terms, server, told } = stage();
    const settlement = { as: 'released', ended: 'failed', ttlMs: 9 } as const;
    server.settle = () => refused('NOPERM');
    await expect(settle(parts, terms, settlement)).rejects.toMatchObject({ code: 'NOPERM' });
    server.settle = () => {
      throw new TypeError('a fault');
    };
    await expect(settle(parts, terms, settlement)).rejects.toThrow('a fault');
    expect(told).toEqual([['storeError', { operation: 'settle', code: 'NOPERM' }]]);
  });
});

describe('what is asked in the background', () => {
  /** Asks with these answers for up to 20 s; when it asked, and whether it is over. */
  async function asks(reply: (stagehand: ReturnType<typeof stage>) => unknown) {
    const stagehand = stage();
    const asked: number[] = [];
    let over = false;
    const asking = untilAnswered(stagehand.parts, performance.now() + 20_000, async () => {
      asked.push(stagehand.at());
      const answer = reply(stagehand);
      if (answer instanceof Error) throw answer;
    });
    void asking.then(() => {
      over = true;
    });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(over).toBe(true);
    return asked;
  }

  test('is asked once where it is answered', async () => {
    expect(await asks(() => 'answer')).toEqual([0]);
  });

  test.each([unanswered, unsent, () => refused('LOADING')])(
    'is asked ever more seldom, at most every 2 s, until its time is over (%#)',
    async (reply) => {
      expect(await asks(reply)).toEqual([
        0, 100, 300, 700, 1_500, 3_100, 5_100, 7_100, 9_100, 11_100, 13_100, 15_100, 17_100, 19_100,
      ]);
    },
  );

  test('is given up where it is refused for good, or has a fault', async () => {
    expect(await asks(() => refused('OOM'))).toEqual([0]);
    expect(await asks(() => new TypeError('a fault'))).toEqual([0]);
  });

  test('is given up where the connection is closed', async () => {
    const closes = ({ redis, at }: ReturnType<typeof stage>) => {
      if (at() > 0) redis.status = 'end';
      return unanswered();
    };
    expect(await asks(closes)).toEqual([0, 100]);
  });
});

describe('an unavailable store', () => {
  test.each<[ExchangeError | undefined, RegExp]>([
    [refused('MISCONF'), /^Redis refuses writes since it cannot persist them: what stands$/],
    [refused('NEWCODE'), /^Redis answered NEWCODE: what stands$/],
    [unanswered(), /^Redis did not answer in time: what stands$/],
    [undefined, /^Redis did not answer: what stands$/],
  ])('is told by its reason and by what stands (%#)', (cause, message) => {
    const error = storeUnavailable('k', cause, 'what stands');
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', key: 'k' });
    expect(error.cause).toBe(cause);
  });
});
