/** `historyLost`: what a server that answers after a reconnect may lack. */
import { expect, test } from 'vitest';
import type { DedupEvents } from '../../src/index.js';
import { type History, lossBetween } from '../../src/redis/server.js';
import { connect, makeDedup, ownServer } from '../support/index.js';

const NONE = { id: '0'.repeat(40), offset: -2 };
const at = (id: string, offset: number, before = NONE): History => ({ id, offset, before });

test.each([
  ['went on', at('a', 10), at('a', 12), undefined],
  ['stood still', at('a', 10), at('a', 10), undefined],
  ['is behind what was seen', at('a', 10), at('a', 9), 'behind'],
  ['was promoted with all that was seen', at('a', 10), at('b', 12, { id: 'a', offset: 10 }), 'unproven'],
  ['was promoted without some of it', at('a', 10), at('b', 12, { id: 'a', offset: 9 }), 'behind'],
  ['was started anew', at('a', 10), at('b', 0), 'unproven'],
])('a server that %s', (_, earlier, now, loss) => {
  expect(lossBetween(earlier, now)).toBe(loss);
});

test('a dropped connection tells nothing, a server started anew does, each Dedup once', async () => {
  const server = await ownServer();
  const redis = connect({ retryStrategy: () => 10 }, server.url);
  const told: DedupEvents['historyLost'][] = [];
  const dedups = [makeDedup({ namespace: 'one' }, redis), makeDedup({ namespace: 'two' }, redis)] as const;
  for (const dedup of dedups) dedup.on('historyLost', (event) => told.push(event));
  const callAll = () => Promise.all(dedups.map((dedup) => dedup.once(`${Math.random()}`, () => 1)));
  await callAll();

  const dropped = () => new Promise((resolve) => redis.once('close', resolve));
  let drop = dropped();
  redis.stream.destroy();
  await drop;
  await callAll();
  expect(told).toEqual([]);

  drop = dropped();
  await server.kill();
  await drop;
  await server.restart();
  await callAll();
  await callAll();
  expect(told).toEqual([
    { namespace: 'one', loss: 'unproven' },
    { namespace: 'two', loss: 'unproven' },
  ]);
});
