/** `forget KEY`: removes a record, once it has shown which and been told to. */
import { createInterface } from 'node:readline/promises';
import { forgetRecord } from '../call/records.js';
import { InProgressError } from '../errors.js';
import type { Address } from './address.js';
import type { Context, ExitCode } from './command.js';
import { nameOf } from './describe.js';
import { Failure } from './failure.js';
import { advised, noRecord, paragraph } from './inspect.js';
import type { Io } from './io.js';
import { type Entry, inspectEntry } from './records.js';
import { roughly } from './text.js';

export interface ForgetOptions {
  /** Without asking. */
  readonly yes: boolean;
  /** Also a record in progress, or one that cannot be read. */
  readonly force: boolean;
}

type Refusal = 'not_found' | 'in_progress' | 'unreadable' | 'declined';

export async function forget(context: Context, address: Address, { yes, force }: ForgetOptions): Promise<ExitCode> {
  const { io, session, json } = context;
  const entry = await inspectEntry(session, address);
  const refuse = (reason: Refusal, text: string): ExitCode => {
    context.print({ forgotten: false, reason, record: entry }, () => text);
    return 1;
  };
  if (!entry) return refuse('not_found', noRecord(address));
  const held = heldBack(entry);
  if (held && !force) return refuse(held, [paragraph(context, entry), whyNot(entry)].join('\n'));
  if (!yes) {
    if (!io.stdin.isTTY) {
      throw new Failure('USAGE', 'There is no terminal to ask at whether to forget the record: say --yes');
    }
    if (!json) io.stdout.write(`${advised(context, entry)}\n`);
    const loss = held === 'in_progress' ? ' Its handler may be at work, and then cannot commit.' : '';
    const agreed = await ask(io, `Forget it?${loss} The next call of the key runs its handler again. [y/N] `);
    if (!agreed) return refuse('declined', 'Nothing was removed.');
  }
  const subject = { key: address.names.key ?? address.redisKey, redisKey: address.redisKey };
  let removed: boolean;
  try {
    removed = await forgetRecord(session.parts, subject, force);
  } catch (error) {
    if (!(error instanceof InProgressError)) throw error;
    return refuse('in_progress', 'Meanwhile an attempt has taken the key: nothing was removed. --force removes it.');
  }
  if (!removed) return refuse('not_found', 'Meanwhile the record is gone: nothing was removed.');
  context.print({ forgotten: true, record: entry }, () =>
    yes ? `Removed: ${paragraph(context, entry)}` : `Removed: ${nameOf(entry)}`,
  );
  return 0;
}

/** What only `--force` removes. */
function heldBack({ state }: Entry): 'in_progress' | 'unreadable' | undefined {
  return state === 'in_progress' || state === 'unreadable' ? state : undefined;
}

function whyNot({ state, leaseRemainingMs }: Entry): string {
  if (state === 'unreadable') return 'Nothing was removed: --force removes what cannot be read.';
  const lease = leaseRemainingMs ? `, and its lease has ${roughly(leaseRemainingMs)} left` : '';
  return `Nothing was removed: the key is in progress${lease}. --force removes its record all the same; its handler, if one runs, then cannot commit.`;
}

/** @throws Failure, `INTERRUPTED`, at Ctrl-C */
function ask({ stdin, stderr }: Io, question: string): Promise<boolean> {
  const terminal = createInterface({ input: stdin, output: stderr });
  let answered = false;
  return new Promise<boolean>((resolve, reject) => {
    terminal.once('SIGINT', () => reject(new Failure('INTERRUPTED', 'Nothing was removed')));
    terminal.once('close', () => {
      if (!answered) stderr.write('\n');
      // The end of the input is no yes.
      resolve(false);
    });
    terminal.question(question).then((answer) => {
      answered = true;
      resolve(/^\s*y(es)?\s*$/i.test(answer));
    }, reject);
  }).finally(() => terminal.close());
}
