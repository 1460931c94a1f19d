/** What record-layout.ts compares: the library's own scripts on a packed string, and the same protocol on a hash. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { bundleLua } from '../../scripts/lua-bundle.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import type { ScriptArgs } from '../../src/redis/scripts.js';
import { newToken } from '../../src/token.js';

type Measured = 'claim' | 'commit';
type Args<N extends Measured> = ScriptArgs<N>;

interface ScriptText {
  readonly sha1: string;
  readonly source: string;
  readonly perList: readonly string[];
  readonly perEntry: readonly string[];
  readonly effects: boolean;
}

/** A way to keep the record: its two scripts, which take the same arguments and answer the same words. */
export interface Layout {
  readonly name: string;
  readonly claim: ScriptText;
  readonly commit: ScriptText;
}

export const packed: Layout = { name: 'packed string', claim: SCRIPTS.claim, commit: SCRIPTS.commit };

/** The prototype of bench/hash, on the clock and the walk over lists that the library's scripts have. */
export function hashLayout(): Layout {
  const here = fileURLToPath(new URL('.', import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'redis-once-bench-'));
  try {
    cpSync(join(here, 'hash'), folder, { recursive: true });
    for (const file of ['clock.lua', 'list.lua']) cpSync(join(here, '../../lua/lib', file), join(folder, 'lib', file));
    const scripts = bundleLua(folder);
    const named = (name: string) => scripts.find((script) => script.name === name) as ScriptText;
    return { name: 'hash', claim: named('claim'), commit: named('commit') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function load(redis: Redis, { claim, commit }: Layout): Promise<void> {
  for (const { source } of [claim, commit]) await redis.call('SCRIPT', ['LOAD', source]);
}

/** One EVALSHA over a list of keys, whose calls have the same settings. The entries' answers, a status word first. */
export async function run<N extends Measured>(
  redis: Redis,
  { sha1, perList, perEntry, effects }: ScriptText,
  entries: readonly { key: string; args: Args<N> }[],
): Promise<Buffer[][]> {
  const given = (names: readonly string[], args: Args<N> | undefined) =>
    names.map((name) => args?.[name as keyof Args<N>] as string | number | Buffer);
  // No words of effects.
  const own = entries.flatMap(({ args }) => [...given(perEntry, args), ...(effects ? [0] : [])]);
  const args = [...given(perList, entries[0]?.args), ...own];
  const keys = entries.map(({ key }) => key);
  return (await redis.callBuffer('evalsha', [sha1, keys.length, ...keys, ...args])) as Buffer[][];
}

export const CHANNEL = 'once::hints';

export function claimArgs(token: string, changed: Partial<Args<'claim'>> = {}): Args<'claim'> {
  return {
    token,
    fingerprint: '',
    lease_ms: 30_000,
    ttl_ms: 86_400_000,
    retention_ms: 86_400_000,
    max_attempts: 0,
    waits: '1',
    ...changed,
  };
}

export function commitArgs(token: string, fence: Buffer, born: Buffer, result: string): Args<'commit'> {
  return { token, fence, born, run: 0, retention_ms: 86_400_000, channel: CHANNEL, result };
}

/**
 * The two layouts are only comparable while they decide alike: the same story told to each, and the words that they
 * answer.
 */
export async function story(redis: Redis, layout: Layout, key: string): Promise<string[]> {
  const [a, b, c] = [newToken(), newToken(), newToken()];
  const fingerprint = newToken();
  const told: string[] = [];
  const claim = async (token: string, changed: Partial<Args<'claim'>> = {}) => {
    const args = claimArgs(token, { fingerprint, ...changed });
    const [answer = []] = await run<'claim'>(redis, layout.claim, [{ key, args }]);
    const [status, ...fields] = answer;
    const word = String(status);
    // Of an owner: the attempt and where it came from; fence and born differ between two stories.
    told.push(
      `claim ${word} ${word === 'owned' ? `${fields[0]} ${fields[3]}` : word === 'busy' ? '' : fields.join(' ')}`,
    );
    return fields as [Buffer, Buffer, Buffer];
  };
  const commit = async (token: string, fence: Buffer, born: Buffer) => {
    const args = commitArgs(token, fence, born, 'result');
    const [answer = []] = await run<'commit'>(redis, layout.commit, [{ key, args }]);
    told.push(`commit ${answer.join(' ')}`);
  };
  const [, fenceA, bornA] = await claim(a, { lease_ms: 1 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await claim(a);
  await claim(b, { fingerprint: '' });
  const [, fenceB, bornB] = await claim(b);
  await claim(b);
  await claim(c);
  await commit(a, fenceA, bornA);
  await commit(b, fenceA, bornB);
  await commit(b, fenceB, Buffer.from('1'));
  await commit(b, fenceB, bornB);
  await commit(b, fenceB, bornB);
  await commit(a, fenceA, bornA);
  await claim(c);
  await claim(c, { fingerprint: newToken() });
  await redis.unlink(key);
  await claim(a, { lease_ms: 1 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await claim(b, { lease_ms: 1 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await claim(a);
  await claim(c, { max_attempts: 2 });
  await claim(c);
  return told;
}

/** Every answer must be the word: else something other than the thing to be measured was measured. */
export function expectAll(word: string, answers: Buffer[][]): Buffer[][] {
  const other = answers.find(([status]) => String(status) !== word);
  if (other) throw new Error(`Expected every answer to be ${word}, got ${other[0]}`);
  return answers;
}
