/** Each command on a namespace with a record in every state. */
import { readFileSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { HOSTILE_KEY, LONG_KEY, populate, type RunOptions, runCli } from '../support/cli.js';
import { connect, freshNamespace, heldHandler, makeDedup, ownRedis } from '../support/index.js';

let namespace: string;
let release: () => Promise<void>;

beforeAll(async () => {
  namespace = freshNamespace();
  ({ release } = await populate(inject('redisUrl'), namespace));
});
afterAll(() => release());

function cli(argv: readonly string[], options: RunOptions = {}, of = namespace) {
  return runCli([...argv, '--namespace', of], { ...options, env: { REDIS_URL: inject('redisUrl'), ...options.env } });
}

async function json(argv: readonly string[], options: RunOptions = {}, of = namespace) {
  const { code, stdout, stderr } = await cli([...argv, '--json'], options, of);
  expect(stderr).toBe('');
  return { code, document: JSON.parse(stdout) };
}

const WORST_FIRST = ['broken', 'unreadable', 'failed', 'failed', 'failed', 'failed', 'in_progress', 'in_progress'];

describe('list', () => {
  test('has what is in progress, failed, broken or unreadable, the worst first and then the oldest', async () => {
    const { code, document } = await json(['list']);
    expect(code).toBe(0);
    expect(document).toMatchObject({ namespace, scope: [], looked: 11, found: 8, complete: true });
    expect(document.records.map(({ state }: { state: string }) => state)).toEqual(WORST_FIRST);
    expect(document.records.map(({ key }: { key: string | null }) => key)).toEqual([
      'order:1006',
      'order:1008',
      'order:1003',
      'order:1004',
      HOSTILE_KEY,
      null,
      'order:1007',
      'order:1009',
    ]);
  });

  test('tells of each record all that there is, in a stable shape', async () => {
    const { document } = await json(['list', '--scope', 'payments']);
    expect(document.records).toEqual([
      {
        key: 'order:1004',
        scope: ['payments', 'eu'],
        slot: null,
        redisKey: `${namespace}:payments:eu:order%3A1004`,
        arguments: ['--scope', 'payments', '--scope', 'eu', 'order:1004'],
        state: 'failed',
        attempt: 1,
        fence: expect.any(Number),
        ageMs: expect.any(Number),
        leaseRemainingMs: null,
        expiresInMs: expect.any(Number),
        resultBytes: null,
        fingerprint: null,
      },
    ]);
    const [record] = document.records;
    expect(Math.abs(Date.now() - record.ageMs - record.fence / 1_000)).toBeLessThan(5_000);
    expect((await json(['list', '--scope', 'payments', '--scope', 'us'])).document.records).toEqual([]);
    expect((await json(['list', '--scope', 'pay'])).document.looked).toBe(0);
  });

  test('under a scope has none of which that scope is only a part of the name', async () => {
    const of = freshNamespace();
    const dedup = makeDedup({ namespace: of });
    await dedup.scope('a').once('k', () => 1);
    await dedup.scope('b', of, 'a').once('k', () => 1);
    await dedup.once('k', () => 1, { slot: `${of}:a:` });
    const { document } = await json(['list', '--scope', 'a', '--state', 'completed'], {}, of);
    expect(document.records.map(({ redisKey }: { redisKey: string }) => redisKey)).toEqual([`${of}:a:k`]);
    expect((await json(['stats', '--scope', 'a'], {}, of)).document.records).toBe(1);
  });

  test('of a namespace or scope without a record says where else to look, as stats does', async () => {
    for (const command of ['list', 'stats']) {
      const { code, stdout } = await cli([command], {}, 'nobody\u0007');
      expect(code).toBe(0);
      expect(stdout).toContain(
        'No record is in the namespace `nobody\\u{7}`. Has your Dedup another one (--namespace)',
      );
      const of = await cli([command, '--scope', 'pay']);
      expect(of.stdout).toContain(`No record is in that scope of the namespace \`${namespace}\`.`);
      expect((await cli([command])).stdout).not.toContain('No record is in');
    }
  });

  test('has the states that are asked for', async () => {
    const { document } = await json(['list', '--state', 'completed', '--state', 'released']);
    expect(document.records.map(({ arguments: words }: { arguments: string[] }) => words)).toEqual([
      ['order:1005'],
      ['order:1001'],
      ['--slot', 'acct-42', 'order:1002'],
    ]);
    expect((await cli(['list', '--state', 'lost'])).code).toBe(2);
  });

  test('keeps no more than its limit, and says how many there are', async () => {
    const { document } = await json(['list', '--limit', '2']);
    expect(document.found).toBe(8);
    expect(document.records.map(({ state }: { state: string }) => state)).toEqual(WORST_FIRST.slice(0, 2));
    expect((await cli(['list', '--limit', '2'])).stdout).toMatch(/8 records .*\nThe worst and oldest 2 are shown/);
  });

  test('is a table with one line a record, without colours off a terminal', async () => {
    const { stdout, stderr } = await cli(['list']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^STATE +AGE +ATTEMPT +LEASE +FENCE +KEY$/);
    expect(lines[1]).toMatch(/^broken +.* order:1006$/);
    expect(lines.slice(1, 9).every((line) => /\S$/.test(line))).toBe(true);
    expect(lines.at(-1)).toBe('8 records in progress, failed, broken or unreadable, of 11.');
    expect(stdout).not.toContain('\u001b');
    expect(stderr).toBe('');
  });

  test('on a narrow terminal is a block a record, no line wider but for the key', async () => {
    const { stdout } = await cli(['list'], { terminal: 40 });
    const text = stripVTControlCharacters(stdout);
    expect(text).toMatch(/^order:1006\n {2}broken, .* old, attempt 1,/);
    for (const line of text.split('\n')) {
      if (line.startsWith('  ')) expect(line.length).toBeLessThanOrEqual(40);
    }
    expect((await cli(['list'], { env: { COLUMNS: '40' } })).stdout).toMatch(/^order:1006\n/);
  });

  test('has colours on a terminal and where they are forced, and none with NO_COLOR', async () => {
    expect((await cli(['list'], { terminal: 200 })).stdout).toContain('\u001b[31mbroken');
    expect((await cli(['list'], { env: { FORCE_COLOR: '1' } })).stdout).toContain('\u001b[31mbroken');
    for (const env of [
      { NO_COLOR: '1' },
      { FORCE_COLOR: '0' },
      { NO_COLOR: '1', FORCE_COLOR: '1' },
      { TERM: 'dumb' },
    ]) {
      expect((await cli(['list'], { terminal: 200, env })).stdout).not.toContain('\u001b');
    }
    expect((await cli(['list', '--json'], { terminal: 200 })).stdout).not.toContain('\u001b');
  });

  test('shows how far it is on stderr, on a terminal alone', async () => {
    expect((await cli(['list'], { terminal: 80 })).stderr).toMatch(/keys looked at/);
  });

  test('that is interrupted shows what it has, and says that it is not all', async () => {
    const redis = connect();
    const many = freshNamespace();
    await makeDedup({ namespace: many }, redis)
      .once('k-0', () => Promise.reject(new Error()), { onError: 'store' })
      .catch(() => {});
    const bytes = await redis.getBuffer(`${many}:k-0`);
    const pipeline = redis.pipeline();
    for (let at = 1; at < 3_000; at += 1) pipeline.set(`${many}:k-${at}`, bytes as Buffer, 'PX', 60_000);
    await pipeline.exec();
    const { code, document } = await json(['list'], { interrupted: true }, many);
    expect(code).toBe(130);
    expect(document.complete).toBe(false);
    expect(document.looked).toBeLessThan(3_000);
    const { stdout } = await cli(['list', '--limit', '1'], { interrupted: true }, many);
    expect(stdout).toMatch(/Interrupted: not all keys were looked at\.\n$/);
    expect((await json(['list'], {}, many)).document).toMatchObject({ looked: 3_000, found: 3_000, complete: true });
  });

  test('of a namespace with glob characters, or that is another’s beginning, has no others’ records', async () => {
    const redis = connect();
    for (const name of ['glob-*', 'glob-?', 'glob-[a]', 'glob-', 'glob-\\'].map((tail) => `${namespace}-${tail}`)) {
      await makeDedup({ namespace: name }, redis).once(name, () => 1, { slot: 'a' });
      await makeDedup({ namespace: name }, redis).once(name, () => 1);
      const { document } = await json(['list', '--state', 'completed'], {}, name);
      expect(document.records.map(({ key }: { key: string }) => key)).toEqual([name, name]);
    }
  });
});

describe('what is listed', () => {
  test('is found by its arguments, whatever is in its key', async () => {
    const { document } = await json(['list']);
    for (const record of document.records) {
      const found = await json(['inspect', ...record.arguments]);
      expect(found.code).toBe(0);
      const { ageMs: _, leaseRemainingMs: __, expiresInMs: ___, ...same } = record;
      expect(found.document.record).toMatchObject(same);
    }
  });

  test.each([[], ['--json']])('never has a terminal obey a key (%j)', async (...more) => {
    for (const argv of [
      ['list'],
      ['inspect', HOSTILE_KEY],
      ['forget', HOSTILE_KEY],
      ['inspect', `${HOSTILE_KEY}-none`],
    ]) {
      const { stdout, stderr } = await cli([...argv, ...more], {
        terminal: 300,
        env: { NO_COLOR: '1' },
        answer: 'n\n',
      });
      expect(stdout).toMatch(/evil|null/);
      expect(stdout.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      for (const obeyed of ['\u001b[2J', '\u0007', '\u202e', '\u009b']) expect(stderr).not.toContain(obeyed);
    }
  });
});

describe('inspect', () => {
  test('tells how a key stands', async () => {
    const { code, stdout } = await cli(['inspect', 'order:1009']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^order:1009\n {2}state +in progress\n {2}age +.*\n {2}attempt +1\n {2}lease +\d+ s left\n/);
    expect(stdout).toMatch(/\n {2}fence +\d+, by which its owner is known\n {2}expires +in /);
    expect((await cli(['inspect', 'order:1007'])).stdout).toMatch(/lease +ended[\s\S]*takes it over\.\n$/);
    expect((await cli(['inspect', 'order:1006'])).stdout).toMatch(/expires +never[\s\S]*look at the data/);
    const { document } = await json(['inspect', 'order:1001']);
    expect(document.record).toMatchObject({
      state: 'completed',
      resultBytes: 20,
      fingerprint: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
  });

  test('finds a record by scope and slot alone', async () => {
    for (const [words, code] of [
      [['--scope', 'payments', '--scope', 'eu', 'order:1004'], 0],
      [['--scope', 'eu', '--scope', 'payments', 'order:1004'], 1],
      [['order:1004'], 1],
      [['--slot', 'acct-42', 'order:1002'], 0],
      [['order:1002'], 1],
      [[LONG_KEY], 0],
      [['--redis-key', `${namespace}:order%3A1001`], 0],
    ] as const) {
      expect((await cli(['inspect', ...words])).code).toBe(code);
    }
  });

  test('of a key without a record says so, exit code 1', async () => {
    expect(await cli(['inspect', 'none'])).toEqual({
      code: 1,
      stdout: `There is no record of none (Redis key ${namespace}:none).\n`,
      stderr: '',
    });
    expect(await json(['inspect', 'none'])).toEqual({ code: 1, document: { record: null } });
  });

  test.each([
    [['--redis-key', 'elsewhere:k'], /not the Redis key of a record/],
    [['--redis-key', '--scope', 'a', 'once:k'], /Expected no `--scope`/],
    [['--slot', '{a}', 'k'], /--slot.*without braces/],
    [[''], /non-empty/],
    [[], /missing required argument/],
    [['a', 'b'], /too many arguments/],
    [['k', '--forse'], /unknown option/],
  ])('of %j is refused', async (words, why) => {
    const { code, stderr } = await cli(['inspect', ...words]);
    expect(code).toBe(2);
    expect(stderr).toMatch(why);
  });
});

describe('forget', () => {
  const failed = async (key: string) => {
    const dedup = makeDedup({ namespace: freshNamespace() });
    await dedup.once(key, () => Promise.reject(new Error('fails')), { onError: 'store' }).catch(() => {});
    const { redisKey } = (await dedup.inspect(key)) as { redisKey: string };
    return { dedup, of: redisKey.split(':')[0] as string };
  };

  test('asks, and removes what it is told to', async () => {
    const { dedup, of } = await failed('k');
    for (const answer of ['n\n', '\n', 'yes please\n', undefined]) {
      const { code, stdout, stderr } = await cli(['forget', 'k'], { terminal: 100, answer }, of);
      expect(code).toBe(1);
      expect(stderr).toContain('[y/N]');
      expect(stripVTControlCharacters(stdout)).toMatch(/^k\n {2}state +failed\n[\s\S]*Nothing was removed\.\n$/);
    }
    expect(await dedup.inspect('k')).not.toBeNull();
    const { code, stdout } = await cli(['forget', 'k'], { terminal: 100, answer: 'y\n' }, of);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Removed: k\n$/);
    expect(await dedup.inspect('k')).toBeNull();
  });

  test('by --force removes what is of another type', async () => {
    const of = freshNamespace();
    await connect().hset(`${of}:k`, 'a', 'hash');
    expect((await json(['inspect', 'k'], {}, of)).document.record.state).toBe('unreadable');
    expect((await cli(['forget', 'k', '--yes'], {}, of)).code).toBe(1);
    expect((await cli(['forget', 'k', '--yes', '--force'], {}, of)).code).toBe(0);
    expect(await connect().exists(`${of}:k`)).toBe(0);
  });

  test('by --yes does not ask, and prints what it removed', async () => {
    const { dedup, of } = await failed('k');
    const { code, stdout } = await cli(['forget', 'k', '--yes'], {}, of);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Removed: k\n {2}state +failed\n/);
    expect(await dedup.once('k', () => 'runs again')).toBe('runs again');
  });

  test('does not remove an attempt that has begun while it asked', async () => {
    const of = freshNamespace();
    const dedup = makeDedup({ namespace: of });
    await dedup.once('k', () => Promise.reject(new Error('fails'))).catch(() => {});
    const { handler, started, release: finish } = heldHandler('value');
    let held: Promise<unknown> = Promise.resolve();
    const answer = async () => {
      held = dedup.once('k', handler);
      await started;
      return 'y\n';
    };
    const { code, stdout } = await cli(['forget', 'k'], { terminal: 100, answer }, of);
    expect(code).toBe(1);
    expect(stdout).toMatch(/Meanwhile an attempt has taken the key: nothing was removed/);
    finish();
    expect(await held).toBe('value');
  });

  test('does nothing where it cannot ask', async () => {
    const { dedup, of } = await failed('k');
    const { code, stderr } = await cli(['forget', 'k'], {}, of);
    expect(code).toBe(2);
    expect(stderr).toMatch(/no terminal to ask.*--yes/);
    expect(await dedup.inspect('k')).not.toBeNull();
  });

  test('of a running record is refused without --force, whose handler then cannot commit', async () => {
    const of = freshNamespace();
    const dedup = makeDedup({ namespace: of });
    const { handler, started, release: finish } = heldHandler('value');
    const held = dedup.once('k', handler);
    await started;
    const refused = await cli(['forget', 'k', '--yes'], {}, of);
    expect(refused.code).toBe(1);
    expect(refused.stdout).toMatch(/in progress, and its lease has \d+ s left\. --force/);
    expect((await json(['forget', 'k', '--yes'], {}, of)).document).toMatchObject({
      forgotten: false,
      reason: 'in_progress',
      record: { key: 'k', state: 'in_progress' },
    });
    expect(await dedup.inspect('k')).not.toBeNull();
    const forced = await json(['forget', 'k', '--yes', '--force'], {}, of);
    expect(forced).toMatchObject({ code: 0, document: { forgotten: true, record: { state: 'in_progress' } } });
    finish();
    await expect(held).rejects.toThrow();
    expect(await dedup.inspect('k')).toBeNull();
  });

  test('of what cannot be read is refused without --force', async () => {
    const redis = connect();
    const of = freshNamespace();
    await redis.set(`${of}:k`, 'no record', 'PX', 60_000);
    expect((await json(['forget', 'k', '--yes'], {}, of)).document).toMatchObject({
      forgotten: false,
      reason: 'unreadable',
    });
    expect(await redis.exists(`${of}:k`)).toBe(1);
    expect((await cli(['forget', 'k', '--yes', '--force'], {}, of)).code).toBe(0);
    expect(await redis.exists(`${of}:k`)).toBe(0);
  });

  test('of a key without a record says so, exit code 1', async () => {
    expect(await json(['forget', 'none', '--yes'])).toEqual({
      code: 1,
      document: { forgotten: false, reason: 'not_found', record: null },
    });
  });
});

describe('stats', () => {
  test('counts the records by state, and reckons their memory from a sample', async () => {
    const { code, document } = await json(['stats']);
    expect(code).toBe(0);
    expect(document).toMatchObject({ namespace, scope: [], complete: true, records: 11 });
    const counts = Object.fromEntries(
      document.states.map(({ state, records }: { state: string; records: number }) => [state, records]),
    );
    expect(counts).toEqual({ broken: 1, unreadable: 1, failed: 4, in_progress: 2, released: 1, completed: 2 });
    for (const { records, sampled, bytes } of document.states) {
      expect(sampled).toBe(records);
      expect(bytes).toBeGreaterThan(20 * records);
      expect(bytes).toBeLessThan(1_000 * records);
    }
    const { stdout } = await cli(['stats']);
    expect(stdout).toMatch(/^RECORDS +SAMPLED +MEMORY +STATE\n/);
    expect(stdout).toMatch(/\n11 records, some [\d.,]+ (bytes|KiB) of memory\.\n$/);
  });

  test('under a keyPrefix, and without the right to measure, tells what it can', async () => {
    const url = await ownRedis();
    const admin = connect({ keyPrefix: 'app:[a]' }, url);
    await makeDedup({ namespace: 'n' }, admin).once('k', () => 1);
    await makeDedup({ namespace: 'n' }, connect({}, url)).once('k2', () => 1);
    const argv = ['stats', '--key-prefix', 'app:[a]'];
    const { document } = await json(argv, { env: { REDIS_URL: url } }, 'n');
    expect(document.records).toBe(1);
    expect(document.bytes).toBeGreaterThan(50);
    await admin.call('ACL', 'SETUSER', 'app', 'on', '>x', '~*', '&*', '+@all', '-memory');
    const denied = await json(argv, { env: { REDIS_URL: url.replace('//', '//app:x@') } }, 'n');
    expect(denied.document).toMatchObject({ records: 1, bytes: null });
  });
});

test('a user with the least privileges of docs/operations.md may do all but list, and that with SCAN', async () => {
  const url = await ownRedis();
  const rules = /^ACL SETUSER once-app .*$/m.exec(
    readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8'),
  )?.[0] as string;
  const admin = connect({}, url);
  await admin.call(...(rules.replace('>PASSWORD', '>x').split(' ') as ['ACL', string]));
  await makeDedup({ namespace: 'orders' }, connect({}, url)).once('k', () => 1);
  const env = { REDIS_URL: url.replace('//', '//once-app:x@') };
  const { code, document } = await json(['doctor'], { env }, 'orders');
  expect(code).toBe(0);
  const permissions = document.checks.find(({ name }: { name: string }) => name === 'permissions');
  expect(permissions).toMatchObject({ level: 'ok', detail: expect.stringMatching(/sadd, smismember, pexpireat$/) });
  expect((await cli(['list'], { env }, 'orders')).stderr).toMatch(
    /lacks a permission \(`ACL LOG`.*: SCAN was not answered/,
  );
  expect((await cli(['inspect', 'k'], { env }, 'orders')).code).toBe(0);
  await admin.call('ACL', 'SETUSER', 'once-app', '+scan');
  const listed = await json(['list', '--state', 'completed'], { env }, 'orders');
  expect(listed.document.records).toHaveLength(1);
  expect((await json(['stats'], { env }, 'orders')).document).toMatchObject({ records: 1, bytes: null });
  expect((await cli(['forget', 'k', '--yes'], { env }, 'orders')).code).toBe(0);
});

describe('doctor', () => {
  test('prints each line with what to do, and ends well where nothing is a danger', async () => {
    const env = { REDIS_URL: await ownRedis(['--appendonly', 'yes', '--appendfsync', 'always']) };
    const { code, stdout } = await cli(['doctor'], { env });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^(Redis|Valkey) [\d.]+ at 127\.0\.0\.1:\d+\nok +version +(Redis|Valkey) /);
    expect(stdout).toMatch(/\nok +persistence +append-only file, appendfsync always\n/);
    const { document } = await json(['doctor'], { env });
    expect(Object.keys(document)).toEqual(['namespace', 'server', 'ok', 'checks', 'nodes']);
    expect(document).toMatchObject({ ok: true, nodes: [{ checks: document.checks }] });
  });

  test('ends with 1 where something is a danger, and wraps its advice to the terminal', async () => {
    const url = await ownRedis(['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru']);
    const { code, stdout } = await cli(['doctor'], { env: { REDIS_URL: url, COLUMNS: '60' } });
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /\ndanger +eviction +allkeys-lru: records may be evicted\n +Set maxmemory-policy to noeviction\.\n/,
    );
    expect(stdout).toMatch(/\n1 danger, \d warnings?\.\n$/);
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(60);
  });
});

test.each([['--help'], ['list', '--help'], ['--version']])('%s is told on stdout, exit code 0', async (...argv) => {
  const { code, stdout, stderr } = await runCli(argv);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(argv.includes('--version') ? /^\d+\.\d+\.\d+\n$/ : /^Usage: redis-once /);
});

test('no command, and one that there is not, are told on stderr, exit code 2', async () => {
  for (const argv of [[], ['lst']]) {
    const { code, stdout, stderr } = await runCli(argv);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/Usage|unknown command/);
  }
});
