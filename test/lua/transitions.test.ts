/**
 * The table of docs/protocol.md, each transition on the real server. A row names a state, who calls, what is answered
 * and what becomes of the record: `=` where no byte and no expiry changes.
 */
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type Owner, STATES, Stage, type State } from './stage.js';

type Call = (stage: Stage) => Promise<{ status: string }>;
type Row = readonly [state: State, answer: string, after: string];

const CALLERS: Record<string, (stage: Stage) => Owner> = {
  A: (stage) => stage.a,
  B: (stage) => stage.b,
  'A with another token': (stage) => ({ ...stage.a, token: randomBytes(16) }),
  'A with the first half of its token alone': (stage) => ({
    ...stage.a,
    token: Buffer.concat([stage.a.token.subarray(0, 8), randomBytes(8)]),
  }),
  'A with a later fence': (stage) => ({ ...stage.a, fence: stage.a.fence + 1 }),
  'A with an earlier fence': (stage) => ({ ...stage.a, fence: stage.a.fence - 1 }),
  'A with another born': (stage) => ({ ...stage.a, born: stage.a.born - 1 }),
  C: () => ({ token: randomBytes(16), fence: 3, born: 3 }),
};

const TABLE: Record<string, readonly Row[]> = {
  'claim by A': [
    ['none', 'owned', 'in_progress'],
    ['held by A', 'owned', '='],
    ["A's lease has run out", 'owned', '='],
    ['B took over from A', 'busy', 'in_progress'],
    ['B took over from A and its lease has run out', 'stale', '='],
    ['released by A', 'stale', '='],
    ['released by A, held by B', 'busy', 'in_progress'],
    ['released by A and by B', 'stale', '='],
    ['completed by A', 'completed', '='],
    ['completed by B after A', 'completed', '='],
    ['failed by A', 'failed', '='],
    ['exhausted after A', 'exhausted', '='],
    ['broken by A', 'broken', '='],
    ['forgotten, then held by B', 'busy', 'in_progress'],
    ['another layout', 'unreadable', '='],
    ['no record at all', 'unreadable', '='],
    ['another type', 'unreadable', '='],
  ],
  'claim by C': [
    ['none', 'owned', 'in_progress'],
    ['held by A', 'busy', 'in_progress'],
    ["A's lease has run out", 'owned', 'in_progress'],
    ['B took over from A', 'busy', 'in_progress'],
    ['B took over from A and its lease has run out', 'owned', 'in_progress'],
    ['released by A', 'owned', 'in_progress'],
    ['released by A and by B', 'owned', 'in_progress'],
    ['completed by A', 'completed', '='],
    ['failed by A', 'failed', '='],
    ['exhausted after A', 'exhausted', '='],
    ['broken by A', 'broken', '='],
    ['another layout', 'unreadable', '='],
    ['no record at all', 'unreadable', '='],
    ['another type', 'unreadable', '='],
  ],
  'claim by A with the first half of its token alone': [['held by A', 'busy', 'in_progress']],
  'renew by A': [
    ['none', 'lost', 'none'],
    ['held by A', 'renewed', 'in_progress'],
    ["A's lease has run out", 'renewed', 'in_progress'],
    ['B took over from A', 'lost', '='],
    ['released by A', 'lost', '='],
    ['released by A, held by B', 'lost', '='],
    ['completed by A', 'lost', '='],
    ['completed by B after A', 'lost', '='],
    ['failed by A', 'lost', '='],
    ['exhausted after A', 'lost', '='],
    ['broken by A', 'broken', '='],
    ['forgotten, then held by B', 'lost', '='],
    ['another layout', 'lost', '='],
    ['no record at all', 'lost', '='],
    ['another type', 'lost', '='],
  ],
  'renew by A with another token': [['held by A', 'lost', '=']],
  'renew by A with the first half of its token alone': [['held by A', 'lost', '=']],
  'renew by A with a later fence': [['held by A', 'lost', '=']],
  'renew by A with an earlier fence': [['held by A', 'lost', '=']],
  'commit by A': [
    ['none', 'gone', 'none'],
    ['held by A', 'done', 'completed'],
    ["A's lease has run out", 'done', 'completed'],
    ['B took over from A', 'lost', '='],
    ['B took over from A and its lease has run out', 'lost', '='],
    ['released by A', 'lost', '='],
    ['released by A, held by B', 'lost', '='],
    ['released by A and by B', 'lost', '='],
    ['completed by A', 'done', '='],
    ['completed by B after A', 'lost', '='],
    ['failed by A', 'lost', '='],
    ['exhausted after A', 'lost', '='],
    ['broken by A', 'broken', '='],
    ['forgotten, then held by B', 'gone', '='],
    ['forgotten, then completed by B', 'gone', '='],
    ['another layout', 'gone', '='],
    ['no record at all', 'gone', '='],
    ['another type', 'gone', '='],
  ],
  'commit by B': [
    ['B took over from A', 'done', 'completed'],
    ['released by A, held by B', 'done', 'completed'],
    ['released by A and by B', 'lost', '='],
    ['completed by B after A', 'done', '='],
  ],
  'commit by A with another token': [
    ['held by A', 'lost', '='],
    ['completed by A', 'lost', '='],
  ],
  'commit by A with the first half of its token alone': [['held by A', 'lost', '=']],
  'commit by A with a later fence': [
    ['held by A', 'lost', '='],
    ['completed by A', 'lost', '='],
  ],
  'commit by A with an earlier fence': [
    ['held by A', 'lost', '='],
    ['completed by A', 'lost', '='],
  ],
  'commit by A with another born': [
    ['held by A', 'gone', '='],
    ['released by A', 'gone', '='],
  ],
  'settle by A': [
    ['none', 'gone', 'none'],
    ['held by A', 'released', 'released'],
    ["A's lease has run out", 'released', 'released'],
    ['B took over from A', 'lost', '='],
    ['released by A', 'released', '='],
    ['released by A, held by B', 'lost', '='],
    ['released by A and by B', 'lost', '='],
    ['completed by A', 'done', '='],
    ['completed by B after A', 'lost', '='],
    ['failed by A', 'failed', '='],
    ['exhausted after A', 'lost', '='],
    ['broken by A', 'broken', '='],
    ['forgotten, then held by B', 'gone', '='],
    ['forgotten, then completed by B', 'gone', '='],
    ['another layout', 'gone', '='],
    ['no record at all', 'gone', '='],
    ['another type', 'gone', '='],
  ],
  'settle by A with another token': [
    ['held by A', 'lost', '='],
    ['released by A', 'lost', '='],
    ['completed by A', 'lost', '='],
  ],
  'settle by A with a later fence': [
    ['held by A', 'lost', '='],
    ['released by A', 'lost', '='],
    ['completed by A', 'lost', '='],
    ['failed by A', 'lost', '='],
  ],
  'settle by A with another born': [['held by A', 'gone', '=']],
  'settle as failed by A': [
    ['none', 'gone', 'none'],
    ['held by A', 'failed', 'failed'],
    ["A's lease has run out", 'failed', 'failed'],
    ['B took over from A', 'lost', '='],
    ['released by A', 'released', '='],
    ['completed by A', 'done', '='],
    ['failed by A', 'failed', '='],
    ['broken by A', 'broken', '='],
  ],
  inspect: [
    ['none', 'none', '='],
    ['held by A', 'in_progress', '='],
    ["A's lease has run out", 'in_progress', '='],
    ['released by A', 'released', '='],
    ['completed by A', 'completed', '='],
    ['failed by A', 'failed', '='],
    ['exhausted after A', 'failed', '='],
    ['broken by A', 'broken', '='],
    ['another layout', 'unreadable', '='],
    ['no record at all', 'unreadable', '='],
    ['another type', 'unreadable', '='],
  ],
  forget: [
    ['none', 'none', 'none'],
    ['held by A', 'running', '='],
    ["A's lease has run out", 'running', '='],
    ['released by A', 'forgotten', 'none'],
    ['completed by A', 'forgotten', 'none'],
    ['failed by A', 'forgotten', 'none'],
    ['exhausted after A', 'forgotten', 'none'],
    ['broken by A', 'forgotten', 'none'],
    ['another layout', 'unreadable', '='],
    ['no record at all', 'unreadable', '='],
    ['another type', 'unreadable', '='],
  ],
  'forget with force': [
    ['none', 'none', 'none'],
    ['held by A', 'forgotten', 'none'],
    ['completed by A', 'forgotten', 'none'],
    ['another layout', 'forgotten', 'none'],
    ['no record at all', 'forgotten', 'none'],
    ['another type', 'forgotten', 'none'],
  ],
};

const CALLS: Record<string, (who: (stage: Stage) => Owner) => Call> = {
  claim: (who) => (stage) => stage.claim(who(stage).token),
  renew: (who) => (stage) => stage.renew(who(stage)),
  commit: (who) => (stage) => stage.commit(who(stage)),
  settle: (who) => (stage) => stage.settle(who(stage)),
  'settle as failed': (who) => (stage) => stage.settle(who(stage), { as: 'failed', failure: 'failure' }),
};

function callOf(title: string): Call {
  if (title === 'inspect') return (stage) => stage.call('inspect', {});
  if (title === 'forget') return (stage) => stage.call('forget', { force: '0' });
  if (title === 'forget with force') return (stage) => stage.call('forget', { force: '1' });
  const [script, caller] = title.split(' by ') as [string, string];
  return (CALLS[script] as (typeof CALLS)[string])(CALLERS[caller] as (typeof CALLERS)[string]);
}

for (const [title, rows] of Object.entries(TABLE)) {
  describe(title, () => {
    test.each(rows)('%s → %s, %s', async (state, answer, after) => {
      const stage = new Stage();
      await STATES[state](stage);
      const before = await stage.bytes();

      expect((await callOf(title)(stage)).status).toBe(answer);

      if (after === '=') expect(await stage.bytes()).toEqual(before);
      else expect(await stage.state()).toBe(after);
    });
  });
}
