/** Conditions beside writes: one that holds lets them through, one that does not keeps all of them back. */
import { describe, expect, test } from 'vitest';
import type { Effects } from '../../src/index.js';
import { connect, expectCode, freshNamespace, makeDedup } from '../support/index.js';

type Condition = (tx: Effects, data: string) => Effects;

const HOLDING: [string, Condition][] = [
  ['equals, of a word', (tx, data) => tx.require.equals(`${data}-word`, 'old')],
  ['equals, of a negative number', (tx, data) => tx.require.equals(`${data}-number`, '-5')],
  ['hashEquals', (tx, data) => tx.require.hashEquals(`${data}-hash`, 'field', 'value')],
  ['hashEquals, of a field that is a number', (tx, data) => tx.require.hashEquals(`${data}-hash`, '0', 'zero')],
  ['exists', (tx, data) => tx.require.exists(`${data}-word`)],
  ['absent', (tx, data) => tx.require.absent(`${data}-none`)],
  ['version', (tx, data) => tx.require.version(`${data}-hash`, 'version', 3)],
  ['version, 0 of a key that is not there', (tx, data) => tx.require.version(`${data}-none`, 'version', 0)],
];
const FAILING: [string, Condition][] = [
  ['equals, of another value', (tx, data) => tx.require.equals(`${data}-word`, 'new')],
  ['equals, of another type', (tx, data) => tx.require.equals(`${data}-hash`, 'old')],
  ['equals, of nothing', (tx, data) => tx.require.equals(`${data}-none`, '')],
  ['hashEquals', (tx, data) => tx.require.hashEquals(`${data}-hash`, 'field', 'other')],
  ['hashEquals, of another type', (tx, data) => tx.require.hashEquals(`${data}-word`, 'field', 'value')],
  ['exists', (tx, data) => tx.require.exists(`${data}-none`)],
  ['absent', (tx, data) => tx.require.absent(`${data}-word`)],
  ['hashEquals, of a field that is not there', (tx, data) => tx.require.hashEquals(`${data}-hash`, 'none', '')],
  ['version', (tx, data) => tx.require.version(`${data}-hash`, 'version', 2)],
  ['version, of another type', (tx, data) => tx.require.version(`${data}-word`, 'version', 0)],
];

async function stage() {
  const redis = connect();
  const namespace = freshNamespace();
  const data = `${namespace}-data`;
  await redis.set(`${data}-word`, 'old');
  await redis.set(`${data}-number`, '-5');
  await redis.hset(`${data}-hash`, { field: 'value', 0: 'zero', version: 3 });
  const list = () => redis.lrange(`${data}-list`, 0, -1);
  return { redis, data, list, dedup: makeDedup({ namespace }, redis) };
}

describe.each(['once', 'apply'] as const)('in `%s`', (way) => {
  async function staged() {
    const { dedup, ...rest } = await stage();
    const write = (what: (tx: Effects) => unknown) =>
      way === 'once' ? dedup.run('k', ({ tx }) => void what(tx)) : dedup.apply('k', (tx) => void what(tx));
    return { ...rest, write };
  }

  test.each(HOLDING)('%s holds, before, after and without other writes', async (_name, condition) => {
    for (const place of ['before', 'after', 'alone']) {
      const { write, data, list } = await staged();
      const outcome = await write((tx) => {
        if (place === 'after') tx.rpush(`${data}-list`, 'x');
        condition(tx, data);
        if (place === 'before') tx.rpush(`${data}-list`, 'x');
      });
      expect(outcome).toMatchObject({ status: 'executed', attempt: 1 });
      expect(await list()).toEqual(place === 'alone' ? [] : ['x']);
    }
  });

  test.each(FAILING)('%s does not hold, and nothing is written', async (_name, condition) => {
    const { write, data, list } = await staged();
    const refused = write((tx) => condition(tx.rpush(`${data}-list`, 'x').require.exists(`${data}-word`), data));
    expect(await expectCode(refused, 'CONDITION_FAILED')).toMatchObject({ index: 1 });
    expect(await list()).toEqual([]);
    expect(await write((tx) => tx.rpush(`${data}-list`, 'y'))).toMatchObject({ status: 'executed', attempt: 2 });
    expect(await list()).toEqual(['y']);
  });

  test.each(HOLDING)('%s changes nothing of what the check knows of its key', async (_name, condition) => {
    const { write, redis, data, list } = await staged();
    // A write of a wrong type behind the condition, on whichever key that is.
    const refused = write((tx) => {
      condition(tx.rpush(`${data}-list`, 'x'), data);
      for (const key of ['word', 'number', 'hash']) tx.sadd(`${data}-${key}`, 'y');
    });
    expect(await expectCode(refused, 'EFFECT_REJECTED')).toMatchObject({ reason: 'wrong_type' });
    expect(await list()).toEqual([]);
    expect(await redis.hget(`${data}-hash`, 'version')).toBe('3');
  });

  test('a negative number that is required hides no wrong type of a later write', async () => {
    const { write, data, list } = await staged();
    const refused = write((tx) =>
      tx.rpush(`${data}-list`, 'x').require.equals(`${data}-number`, '-5').sadd(`${data}-number`, 'y'),
    );
    expect(await expectCode(refused, 'EFFECT_REJECTED')).toMatchObject({ index: 1, reason: 'wrong_type' });
    expect(await list()).toEqual([]);
  });
});
