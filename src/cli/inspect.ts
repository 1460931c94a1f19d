/** `inspect KEY`: how a key stands. */
import { type Address, argumentsOf, shellWords } from './address.js';
import type { Context, ExitCode } from './command.js';
import { adviceOf, detailsOf, nameOf } from './describe.js';
import { type Entry, inspectEntry } from './records.js';
import { pairs } from './table.js';

export async function inspect(context: Context, address: Address): Promise<ExitCode> {
  const entry = await inspectEntry(context.session, address);
  context.print({ record: entry }, () => (entry ? advised(context, entry) : noRecord(address)));
  return entry ? 0 : 1;
}

/** All that is known of a record, under its name. */
export function paragraph({ colors, heading }: Context, entry: Entry): string {
  return [colors.bold(nameOf(entry)), ...pairs(detailsOf(entry, colors), heading)].join('\n');
}

/** And what that means. */
export function advised(context: Context, entry: Entry): string {
  const advice = adviceOf(entry);
  return advice === undefined ? paragraph(context, entry) : `${paragraph(context, entry)}\n${advice}`;
}

export function noRecord(address: Address): string {
  const shown = argumentsOf(address);
  const redisKey = shown[0] === '--redis-key' ? '' : ` (Redis key ${shellWords([address.redisKey])})`;
  return `There is no record of ${shellWords(shown)}${redisKey}.`;
}
