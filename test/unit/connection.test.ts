/** One exchange with Redis: what is known when it fails, by what ioredis tells. */
import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import calculateSlot from 'cluster-key-slot';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Connection } from '../../src/redis/connection.js';
import { ExchangeError } from '../../src/redis/exchange.js';
import type { RedisConnection } from '../../src/redis/ioredis.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { type ScriptCall, type ScriptReply, Scripts } from '../../src/redis/scripts.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  vi.advanceTimersByTime(1_000);
});
afterEach(() => {
  vi.useRealTimers();
});

type Nested = (string | Buffer | number | (string | Buffer | number)[])[];

/** What stands in for ioredis: its status, its events, and what the test has it answer. */
class Client extends EventEmitter {
  status = 'ready';
  isCluster = false;
  options: { keyPrefix?: string } = {};
  /** Of a Cluster that knows no server. */
  slots: readonly (readonly string[])[] = [];
  nodes: () => Client[] = () => [];
  readonly sent: { name: string; words: (string | Buffer | number)[] }[] = [];
  answer: (name: string, words: (string | Buffer | number)[]) => Promise<unknown> = async () => [[Buffer.from('none')]];
  connect = vi.fn(async () => {});

  // Flat, as ioredis makes them.
  evalshaBuffer = (...words: Nested) => this.#take('evalsha', words.flat());
  evalBuffer = (...words: Nested) => this.#take('eval', words.flat());
  call = (name: string, words: string[]) => this.#take(name, words);
  asking = () => this.#take('asking', []);

  #take(name: string, words: (string | Buffer | number)[]): Promise<unknown> {
    this.sent.push({ name, words });
    return this.answer(name, words);
  }

  drop(): void {
    this.status = 'reconnecting';
    this.emit('close');
  }

  becomes(status: 'ready' | 'end'): void {
    this.status = status;
    this.emit(status);
  }
}

function replyError(message: string): Error {
  return Object.assign(new Error(message), { name: 'ReplyError', command: { args: ['hunter2'] } });
}

function stage(status = 'ready') {
  const client = Object.assign(new Client(), { status });
  const connection = Connection.of(client as unknown as RedisConnection);
  const run = (deadline = performance.now() + 1_000) => connection.run(SCRIPTS.inspect, ['r:k'], [1, 'a'], deadline);
  const scripts = new Scripts(connection, 1_000);
  return { client, connection, run, scripts };
}

async function failure(call: Promise<unknown>): Promise<ExchangeError> {
  const error = await call.then(
    () => expect.fail('it must fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ExchangeError)) throw error;
  return error;
}
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const never = () => new Promise<never>(() => {});

describe('a script that is run', () => {
  test('is sent by its hash, with its keys counted, and answers by entries', async () => {
    const { client, run } = stage();
    const sentAt = performance.now();
    expect(await run()).toEqual({ entries: [[Buffer.from('none')]], steady: true, sentAt, server: client });
    expect(client.sent).toEqual([{ name: 'evalsha', words: [SCRIPTS.inspect.sha1, 1, 'r:k', 1, 'a'] }]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test.each(Object.values(SCRIPTS))('$name is put together as it was hashed', ({ name, source, sha1 }) => {
    expect(source.split('\n')[0]).toBe(`-- redis-once ${name}`);
    expect(createHash('sha1').update(source).digest('hex')).toBe(sha1);
  });

  test('is sent in full where the server does not know it', async () => {
    const { client, run } = stage();
    client.answer = async (name) => {
      if (name === 'evalsha') throw replyError('NOSCRIPT No matching script.');
      return [[Buffer.from('none')]];
    };
    expect(await run()).toMatchObject({ entries: [[Buffer.from('none')]], steady: true });
    expect(client.sent[1]).toEqual({ name: 'eval', words: [SCRIPTS.inspect.source, 1, 'r:k', 1, 'a'] });
  });

  test('is sent no second time after any other refusal, though it speaks of NOSCRIPT', async () => {
    const { client, run } = stage();
    client.answer = () => Promise.reject(replyError('ERR it said NOSCRIPT'));
    expect(await failure(run())).toMatchObject({ code: 'ERR' });
    expect(client.sent).toHaveLength(1);
  });

  test.each([
    ['evalsha', 1],
    ['eval', 2],
  ])('is not steady where the connection dropped during %s', async (dropping, sent) => {
    const { client, run } = stage();
    client.answer = async (name) => {
      if (name === dropping) client.emit('close');
      if (name === 'evalsha' && sent === 2) throw replyError('NOSCRIPT');
      return [];
    };
    expect(await run()).toMatchObject({ steady: false });
    expect(client.sent).toHaveLength(sent);
  });

  test.each(['at hand', 'that joined'])(
    'in a cluster is steady until the connection to a node %s drops',
    async (which) => {
      const [node, late] = [new EventEmitter(), new EventEmitter()];
      const client = Object.assign(new Client(), { isCluster: true, nodes: () => [node] });
      const connection = Connection.of(client as unknown as RedisConnection);
      client.emit('+node', late);
      const run = () => connection.run(SCRIPTS.inspect, ['r:k'], [1, 'a'], performance.now() + 1_000);
      expect(await run()).toMatchObject({ steady: true });
      const drop = () => (which === 'at hand' ? node : late).emit('close');
      client.answer = async () => {
        drop();
        return [[Buffer.from('none')]];
      };
      expect(await run()).toMatchObject({ steady: false });
      client.answer = () => {
        drop();
        return Promise.reject(replyError('OOM no memory'));
      };
      expect(await failure(run())).toMatchObject({ failure: 'unknown', code: 'OOM' });
    },
  );

  describe('in a cluster', () => {
    /** A client that knows the slot to be at the first of two nodes. */
    function clusterStage() {
      const nodes = [1, 2].map((port) => Object.assign(new Client(), { options: { host: 'h', port } }));
      const [source, target] = nodes as unknown as [Client, Client];
      const slots = { [calculateSlot('r:k')]: ['h:1', 'h:9'] };
      const client = Object.assign(new Client(), { isCluster: true, slots, nodes: () => nodes });
      const connection = Connection.of(client as unknown as RedisConnection);
      const run = () => connection.run(SCRIPTS.inspect, ['r:k'], [1, 'a'], performance.now() + 1_000);
      const names = () => [client, source, target].map(({ sent }) => sent.map(({ name }) => name));
      return { client, source, target, run, names };
    }

    test('goes to the server of its slot, and what that refuses for a while is told', async () => {
      const { source, run, names } = clusterStage();
      expect(await run()).toMatchObject({ steady: true, server: source });
      source.answer = () => Promise.reject(replyError('TRYAGAIN Multiple keys request during rehashing of slot'));
      expect(await failure(run())).toMatchObject({ failure: 'refused', code: 'TRYAGAIN' });
      expect(names()).toEqual([[], ['evalsha', 'evalsha'], []]);
    });

    test('is asked of the server that the slot is being moved to, in full where that does not know it', async () => {
      const { source, target, run, names } = clusterStage();
      source.answer = () => Promise.reject(replyError('ASK 1 h:2'));
      target.answer = async (name) => {
        if (name === 'evalsha') throw replyError('NOSCRIPT No matching script.');
        return [[Buffer.from('none')]];
      };
      expect(await run()).toMatchObject({ steady: true, server: target });
      expect(names()).toEqual([[], ['evalsha'], ['asking', 'evalsha', 'asking', 'eval']]);
    });

    test.each<[string, (stage: ReturnType<typeof clusterStage>) => void]>([
      ['has moved', ({ source }) => (source.answer = () => Promise.reject(replyError('MOVED 1 h:2')))],
      [
        'is moved to a server that is not known',
        ({ source }) => (source.answer = () => Promise.reject(replyError('ASK 1 h:3'))),
      ],
      [
        'has moved on from where it was asked',
        ({ source, target }) => {
          source.answer = () => Promise.reject(replyError('ASK 1 h:2'));
          target.answer = async (name) => {
            if (name !== 'asking') throw replyError('ASK 1 h:1');
          };
        },
      ],
      ['has no server that is reached', ({ source }) => (source.status = 'end')],
    ])('is left to the client where its slot %s', async (_what, prepare) => {
      const stage = clusterStage();
      prepare(stage);
      expect(await stage.run()).toMatchObject({ steady: true, server: undefined });
      expect(stage.names()[0]).toEqual(['evalsha']);
      stage.client.answer = () => Promise.reject(replyError('MOVED 1 h:2'));
      expect(await failure(stage.run())).toMatchObject({ failure: 'refused', code: 'MOVED' });
    });
  });
});

describe('an exchange that fails', () => {
  test('by a refusal is refused, with its code', async () => {
    const { client, run } = stage();
    client.answer = () => Promise.reject(replyError('OOM command not allowed'));
    const sentAt = performance.now();
    const error = await failure(run());
    expect(error).toMatchObject({ failure: 'refused', code: 'OOM', sentAt, ofWholeList: true, passes: false });
    expect(error.message).toBe('Redis answered OOM');
  });

  test('by a refusal without a code is told as ERR', async () => {
    const { client, run } = stage();
    client.answer = () => Promise.reject(replyError('no code, not even OOM'));
    expect(await failure(run())).toMatchObject({ failure: 'refused', code: 'ERR' });
  });

  test('by a refusal after the connection dropped is unknown: a first copy may have run', async () => {
    const { client, run } = stage();
    client.answer = () => {
      client.emit('close');
      return Promise.reject(replyError('OOM'));
    };
    expect(await failure(run())).toMatchObject({ failure: 'unknown', code: 'OOM' });
  });

  test.each(['LOADING', 'BUSY', 'TRYAGAIN', 'CLUSTERDOWN', 'MASTERDOWN', 'READONLY', 'NOREPLICAS'])(
    'by %s passes by itself',
    async (code) => {
      const { client, run } = stage();
      client.answer = () => Promise.reject(replyError(`${code} for now`));
      expect(await failure(run())).toMatchObject({ code, passes: true });
    },
  );

  test('without an answer at its deadline is unknown, and passes by no code', async () => {
    const { client, run } = stage();
    client.answer = never;
    const sentAt = performance.now();
    const failed = failure(run(sentAt + 300));
    await pass(299);
    expect(vi.getTimerCount()).toBe(1);
    await pass(1);
    expect(await failed).toMatchObject({ failure: 'unknown', code: null, passes: false, ofWholeList: false });
  });

  test('by a command that ioredis kept back is unsent', async () => {
    const { client, run } = stage();
    client.answer = () => Promise.reject(new Error("Stream isn't writeable and enableOfflineQueue options is false"));
    expect(await failure(run())).toMatchObject({ failure: 'unsent', code: null });
  });

  test('by a command that ioredis kept back after a drop is unknown: an earlier copy may have run', async () => {
    const { client, run } = stage();
    client.answer = () => {
      client.emit('close');
      return Promise.reject(new Error("Stream isn't writeable and enableOfflineQueue options is false"));
    };
    expect(await failure(run())).toMatchObject({ failure: 'unknown', code: null });
  });

  test('by any other error is unknown, keeps its name and message, and none of its arguments', async () => {
    const { client, run } = stage();
    const thrown = Object.assign(new TypeError('the socket broke'), { command: { args: ['hunter2'] } });
    client.answer = () => Promise.reject(thrown);
    const sentAt = performance.now();
    const error = await failure(run());
    expect(error).toMatchObject({ failure: 'unknown', code: null, sentAt, message: 'the socket broke' });
    expect(error.cause).toMatchObject({ name: 'TypeError', message: 'the socket broke' });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('hunter2');
    expect(error.as('unsent')).toMatchObject({ failure: 'unsent', code: null, sentAt, cause: error.cause });
  });

  test('of a plain command is waited out where it passes, until the deadline', async () => {
    const { client, connection } = stage();
    client.answer = () => (client.sent.length < 3 ? Promise.reject(replyError('BUSY')) : Promise.resolve('text'));
    const call = connection.command('info', [], performance.now() + 1_000);
    await pass(39);
    expect(client.sent).toHaveLength(2);
    await pass(1);
    expect(await call).toBe('text');
    client.answer = () => Promise.reject(replyError('BUSY'));
    const failed = failure(connection.command('info', [], performance.now() + 100));
    await pass(100);
    expect(await failed).toMatchObject({ code: 'BUSY' });
    expect(client.sent).toHaveLength(3 + 5);
  });

  test('of a plain command says the same', async () => {
    const { client, connection } = stage();
    client.answer = async () => 'text';
    expect(await connection.command('info', ['memory'], performance.now() + 1_000)).toBe('text');
    expect(client.sent).toEqual([{ name: 'info', words: ['memory'] }]);
    client.answer = () => Promise.reject(replyError('NOPERM no'));
    const error = await failure(connection.command('info', [], performance.now() + 1_000));
    expect(error).toMatchObject({ failure: 'unknown', code: 'NOPERM' });
  });
});

describe('a connection', () => {
  test('is one for all who use it, and listens once', () => {
    const { client, connection } = stage();
    expect(Connection.of(client as unknown as RedisConnection)).toBe(connection);
    expect(client.listenerCount('close')).toBe(1);
  });

  test('tells its keyPrefix, empty where there is none', () => {
    const { client, connection } = stage();
    expect(connection.keyPrefix).toBe('');
    client.options.keyPrefix = 'app:';
    expect(connection.keyPrefix).toBe('app:');
  });

  test('counts how often it dropped', () => {
    const { client, connection } = stage();
    client.drop();
    client.drop();
    expect(connection.epoch).toBe(2);
  });

  test('tells its ready and its end to those who listen, and no longer', () => {
    const { client, connection } = stage();
    const told: string[] = [];
    const off = connection.onStatus(() => told.push(client.status));
    client.becomes('ready');
    client.becomes('end');
    off();
    client.becomes('ready');
    expect(told).toEqual(['ready', 'end']);
  });

  test('that is not ready is waited for, and nothing is sent before', async () => {
    const { client, run } = stage('connecting');
    const running = run();
    await pass(100);
    expect(client.sent).toEqual([]);
    expect(client.connect).not.toHaveBeenCalled();
    client.becomes('ready');
    expect(await running).toMatchObject({ sentAt: performance.now() });
    expect(vi.getTimerCount()).toBe(0);
  });

  test('that nobody has begun is begun', async () => {
    const { client, run } = stage('wait');
    client.connect.mockImplementation(async () => {
      client.status = 'connecting';
      throw new Error('told by the connection itself');
    });
    const running = run();
    await pass(1);
    client.becomes('ready');
    await running;
    expect(client.connect).toHaveBeenCalledTimes(1);
  });

  test('that is closed, or closes while it is waited for, sends nothing', async () => {
    const { client, run } = stage('end');
    expect(await failure(run())).toMatchObject({ failure: 'unsent', message: 'The connection to Redis is closed' });
    client.status = 'connecting';
    const failed = failure(run());
    await pass(1);
    client.becomes('end');
    expect(await failed).toMatchObject({ failure: 'unsent', code: null });
    expect(client.sent).toEqual([]);
  });

  test('that is not ready in time sends nothing, and is told as it stands', async () => {
    const { client, run } = stage('connecting');
    const failed = failure(run(performance.now() + 300));
    await pass(300);
    const error = await failed;
    expect(error).toMatchObject({ failure: 'unsent', code: null });
    expect(error.message).toContain('`connecting`');
    client.becomes('ready');
    await pass(1);
    expect(client.sent).toEqual([]);
  });
});

describe('a call of a script', () => {
  const release = {
    token: 't',
    fence: 1,
    born: 1,
    as: 'released',
    ended: 'failed',
    ttl_ms: 1,
    channel: '',
    failure: '',
  };
  const renew = (redisKey: string): ScriptCall<'renew'> => ({
    redisKey,
    args: { token: `of ${redisKey}`, fence: 2, lease_ms: 3, ttl_ms: 4 },
  });
  const entry = (...words: string[]) => words.map((word) => Buffer.from(word));

  test('sends its arguments in the order of the script, and answers by a status and its fields', async () => {
    const { client, scripts } = stage();
    client.answer = async () => [entry('busy', '300')];
    const sentAt = performance.now();
    const args = { waits: '1', max_attempts: 6, retention_ms: 5, ttl_ms: 4, lease_ms: 3, fingerprint: 'f', token: 't' };
    expect(await scripts.call('claim', 'r:k', args)).toEqual({
      status: 'busy',
      fields: entry('300'),
      steady: true,
      sentAt,
    });
    expect(client.sent[0]?.words.slice(1)).toEqual([1, 'r:k', 3, 4, 5, 6, '1', 't', 'f', 0]);
  });

  test('is sent again every 20 ms while it is refused by what passes', async () => {
    const { client, scripts } = stage();
    client.answer = async () => {
      if (client.sent.length < 4) throw replyError('LOADING');
      return [entry('released')];
    };
    const call = scripts.call('settle', 'r:k', release);
    await pass(59);
    expect(client.sent).toHaveLength(3);
    await pass(1);
    // It was refused each time: the copy that answers is the only one that ran.
    expect(await call).toMatchObject({ status: 'released', steady: true, sentAt: performance.now() });
  });

  test('that is refused for good is refused at once', async () => {
    const { client, scripts } = stage();
    client.answer = async () => [entry('refused', 'OOM')];
    const error = await failure(scripts.call('settle', 'r:k', release));
    expect(error).toMatchObject({ failure: 'refused', code: 'OOM', ofWholeList: false, message: 'Redis answered OOM' });
    expect(client.sent).toHaveLength(1);
  });

  test('that is refused after the connection dropped may have run before', async () => {
    const { client, scripts } = stage();
    client.answer = async () => {
      client.emit('close');
      return [entry('refused', 'OOM')];
    };
    expect(await failure(scripts.call('settle', 'r:k', release))).toMatchObject({ failure: 'unknown', code: 'OOM' });
  });

  test('that was refused after a drop counts from when its copy was sent, not from the refusal', async () => {
    const { client, scripts } = stage();
    const sentAt = performance.now();
    client.answer = async () => {
      if (client.sent.length > 1) return [entry('released')];
      await new Promise((resolve) => setTimeout(resolve, 30));
      client.emit('close');
      return [entry('refused', 'LOADING')];
    };
    const call = scripts.call('settle', 'r:k', release);
    await pass(50);
    expect(await call).toMatchObject({ status: 'released', steady: false, sentAt });
  });

  test('that may have run before is not steady, and counts from its first copy', async () => {
    const { client, scripts } = stage();
    const sentAt = performance.now();
    client.answer = async () => {
      if (client.sent.length < 3) throw new Error('Connection is closed.');
      return [entry('released')];
    };
    const call = scripts.call('settle', 'r:k', release);
    await pass(40);
    expect(await call).toMatchObject({ status: 'released', fields: [], steady: false, sentAt });
  });

  test('that may have run before is unknown, though its last copy is refused', async () => {
    const { client, scripts } = stage();
    client.answer = () =>
      Promise.reject(client.sent.length < 2 ? new Error('Connection is closed.') : replyError('OOM'));
    const call = failure(scripts.call('settle', 'r:k', release));
    await pass(20);
    expect(await call).toMatchObject({ failure: 'unknown', code: 'OOM' });
  });

  describe('whose entry is refused, which ioredis does not see,', () => {
    function refusing(reconnectOnError?: (error: Error) => boolean) {
      const staged = stage();
      const disconnect = vi.fn();
      Object.assign(staged.client, { disconnect });
      Object.assign(staged.client.options, { reconnectOnError });
      staged.client.answer = async () => [[Buffer.from('refused'), Buffer.from('READONLY')]];
      return { ...staged, disconnect };
    }

    test('has the connection left where ioredis is told to, once', async () => {
      const asked: string[] = [];
      const { client, scripts, disconnect } = refusing(({ message }) => {
        asked.push(message);
        return true;
      });
      const call = failure(scripts.call('settle', 'r:k', release));
      await pass(100);
      expect(disconnect.mock.calls).toEqual([[true]]);
      expect(asked[0]).toMatch(/^READONLY /);
      client.emit('close');
      await pass(40);
      expect(disconnect).toHaveBeenCalledTimes(2);
      await pass(1_000);
      expect(await call).toMatchObject({ code: 'READONLY' });
    });

    test.each([
      ['says no', () => false],
      ['is not given', undefined],
    ])('leaves it standing where `reconnectOnError` %s', async (_, reconnectOnError) => {
      const { scripts, disconnect } = refusing(reconnectOnError);
      const call = failure(scripts.call('settle', 'r:k', release));
      await pass(1_000);
      expect(await call).toMatchObject({ failure: 'refused', code: 'READONLY' });
      expect(disconnect).not.toHaveBeenCalled();
    });

    test('leaves it standing in a cluster, which finds its servers by itself', async () => {
      const client = Object.assign(new Client(), { isCluster: true, disconnect: vi.fn() });
      Object.assign(client.options, { reconnectOnError: () => true });
      Connection.of(client as unknown as RedisConnection).entryRefused('READONLY');
      expect(client.disconnect).not.toHaveBeenCalled();
    });
  });

  test('that is refused all the time fails while a last copy could still be answered', async () => {
    const { client, scripts } = stage();
    client.answer = () => Promise.reject(replyError('READONLY'));
    const call = failure(scripts.call('settle', 'r:k', release));
    await pass(879);
    expect(client.sent).toHaveLength(44);
    await pass(1);
    expect(await call).toMatchObject({ failure: 'refused', code: 'READONLY' });
    expect(client.sent).toHaveLength(45);
  });

  test('that is refused, and may have run before, is sent until its deadline', async () => {
    const { client, scripts } = stage();
    client.answer = () =>
      Promise.reject(client.sent.length < 2 ? new Error('Connection is closed.') : replyError('READONLY'));
    const call = failure(scripts.call('settle', 'r:k', release));
    await pass(980);
    expect(await call).toMatchObject({ failure: 'unknown', code: 'READONLY' });
    expect(client.sent).toHaveLength(50);
  });

  test('is not sent again where the connection is closed', async () => {
    const { client, scripts } = stage();
    client.answer = () => {
      client.becomes('end');
      return Promise.reject(new Error('Connection is closed.'));
    };
    expect(await failure(scripts.call('settle', 'r:k', release))).toMatchObject({ failure: 'unknown', code: null });
    expect(client.sent).toHaveLength(1);
  });

  test.each([replyError('LOADING'), new Error('Connection is closed.')])(
    'of forget is not sent again after %s: it might remove what came since',
    async (error) => {
      const { client, scripts } = stage();
      client.answer = () => Promise.reject(error);
      await failure(scripts.call('forget', 'r:k', { force: '0' }));
      expect(client.sent).toHaveLength(1);
    },
  );

  test('has redisTimeout for its deadline, or its own', async () => {
    const { client, scripts } = stage();
    client.answer = never;
    const calls = [
      failure(scripts.call('settle', 'r:k', release)),
      failure(scripts.call('settle', 'r:k', release, { deadline: performance.now() + 200 })),
    ];
    const ended: number[] = [];
    calls.forEach((call, index) => void call.then(() => ended.push(index)));
    await pass(200);
    expect(ended).toEqual([1]);
    await pass(799);
    expect(ended).toEqual([1]);
    await pass(1);
    expect(ended).toEqual([1, 0]);
  });

  test('goes with others in lists of 128, answered in their order', async () => {
    const { client, scripts } = stage();
    client.answer = async (_name, words) =>
      words.slice(2, 2 + (words[1] as number)).map((key) => entry('renewed', String(key)));
    const calls = Array.from({ length: 300 }, (_, i) => renew(`r:${i}`));
    const replies = await scripts.callMany('renew', calls);
    expect(client.sent.map(({ words }) => words[1])).toEqual([128, 128, 44]);
    expect(client.sent[2]?.words.slice(2, 5)).toEqual(['r:256', 'r:257', 'r:258']);
    expect(client.sent[2]?.words.slice(46, 52)).toEqual([3, 4, 'of r:256', 2, 'of r:257', 2]);
    expect(replies.map((reply) => String((reply as ScriptReply<'renew'>).fields[0]))).toEqual(
      calls.map(({ redisKey }) => redisKey),
    );
  });

  test('goes with those of the same settings, which the list is told once; each is answered in its place', async () => {
    const { client, scripts } = stage();
    client.answer = async (_name, words) =>
      words.slice(2, 2 + (words[1] as number)).map((key) => entry('renewed', String(key)));
    const calls = Array.from({ length: 8 }, (_, at) => {
      const { redisKey, args } = renew(`r:${at}`);
      return { redisKey, args: { ...args, lease_ms: at === 2 || at === 5 ? 30 : 3, ttl_ms: at === 7 ? 40 : 4 } };
    });
    const replies = await Promise.all(calls.map(({ redisKey, args }) => scripts.call('renew', redisKey, args)));
    expect(client.sent.map(({ words: [, count, ...words] }) => words.slice(0, (count as number) + 2))).toEqual([
      ['r:0', 'r:1', 'r:3', 'r:4', 'r:6', 3, 4],
      ['r:2', 'r:5', 30, 4],
      ['r:7', 3, 40],
    ]);
    expect(replies.map(({ fields }) => String(fields[0]))).toEqual(calls.map(({ redisKey }) => redisKey));
  });

  test('goes with others in lists of 256 KB, and what may be slow goes alone, behind them', async () => {
    const { client, scripts } = stage();
    client.answer = async (_name, words) => Array.from({ length: words[1] as number }, () => entry('done'));
    const commit = (redisKey: string, bytes: number, effects = {}): ScriptCall<'commit'> => ({
      redisKey,
      args: { token: 't', fence: 1, born: 1, run: 0, retention_ms: 1, channel: '', result: 'x'.repeat(bytes) },
      effects: { keys: [], plan: '', words: [], alone: false, ...effects },
    });
    const KIB = 1_024;
    const calls = [
      commit('r:a', 100 * KIB),
      commit('r:b', 100 * KIB),
      commit('r:c', 100 * KIB),
      commit('r:d', 1, { words: ['x'.repeat(100 * KIB)] }),
      commit('r:e', 1, { words: ['x'.repeat(100 * KIB)] }),
      commit('r:f', 1),
      commit('r:g', 1, { alone: true }),
      commit('r:h', 1),
      commit('r:i', 1),
      commit('r:j', 300 * KIB),
      commit('r:k', 1),
    ];
    await scripts.callMany('commit', calls);
    const keys = client.sent.map(({ words }) => words.slice(2, 2 + (words[1] as number)).join(' '));
    expect(keys).toEqual(['r:a r:b', 'r:c r:d', 'r:e r:f r:h r:i', 'r:j', 'r:k', 'r:g']);
  });

  test('goes by itself in a cluster, where its slot is its own', async () => {
    const { client, scripts } = stage();
    client.isCluster = true;
    client.answer = async () => [entry('renewed')];
    await scripts.callMany('renew', ['r:a', 'r:b'].map(renew));
    expect(client.sent.map(({ words }) => words.slice(1, 3))).toEqual([
      [1, 'r:a'],
      [1, 'r:b'],
    ]);
  });

  test('of a list that is refused as a whole is sought by itself', async () => {
    const { client, scripts } = stage();
    client.answer = async (_name, words) => {
      if (words.includes('r:b')) throw replyError('NOPERM no such key for you');
      return [entry('renewed')];
    };
    const replies = await scripts.callMany('renew', ['r:a', 'r:b', 'r:c'].map(renew));
    expect(replies).toMatchObject([
      { status: 'renewed' },
      { failure: 'refused', code: 'NOPERM' },
      { status: 'renewed' },
    ]);
    expect(client.sent.map(({ words }) => words[1])).toEqual([3, 1, 1, 1]);
  });

  test('of a list that is refused after a drop, when a first copy may have run, is never steady', async () => {
    const { client, scripts } = stage();
    const sentAt = performance.now();
    client.answer = async (_name, words) => {
      if (words[1] === 2) client.emit('close');
      if (words.includes('r:b')) throw replyError('NOPERM no such key for you');
      return [entry('renewed')];
    };
    expect(await scripts.callMany('renew', ['r:a', 'r:b'].map(renew))).toMatchObject([
      { status: 'renewed', steady: false, sentAt },
      { failure: 'unknown', code: 'NOPERM' },
    ]);
  });

  test('that a list after a drop had no room to answer is never steady either', async () => {
    const { client, scripts } = stage();
    const sentAt = performance.now();
    client.answer = async (_name, words) => {
      if (words[1] === 1) return [entry('renewed')];
      if (client.sent.length === 1) client.emit('close');
      return [entry('renewed'), entry('large')];
    };
    expect(await scripts.callMany('renew', ['r:a', 'r:b'].map(renew))).toMatchObject([
      { status: 'renewed' },
      { status: 'renewed', steady: false, sentAt },
    ]);
  });

  test.each<[string, number, () => Promise<unknown>]>([
    ['refused alone', 1, () => Promise.reject(replyError('NOPERM'))],
    ['without an answer', 2, () => Promise.reject(new Error('Connection is closed.'))],
    ['with each entry refused for itself', 2, async () => [entry('refused', 'OOM'), entry('refused', 'OOM')]],
    ['with an entry refused for itself', 2, async () => [entry('renewed'), entry('refused', 'OOM')]],
  ])('of a list %s is sought no second time', async (_name, size, answer) => {
    const { client, scripts } = stage();
    client.answer = answer;
    await scripts.callMany('renew', ['r:a', 'r:b'].slice(0, size).map(renew));
    expect(client.sent).toHaveLength(1);
  });
});
