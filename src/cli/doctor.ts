/** `doctor`: is the server fit? What `dedup.check()` finds, line by line. */
import type { NodeReport, ServerCheck } from '../redis/check.js';
import type { Context, ExitCode } from './command.js';
import type { Colors } from './io.js';
import { wrapped } from './table.js';
import { many, printable } from './text.js';

const WIDEST_LEVEL = 'warning'.length;
const WIDEST_NAME = 'persistence'.length;

export async function doctor(context: Context): Promise<ExitCode> {
  const { session } = context;
  const report = await session.dedup.check();
  context.print({ namespace: context.namespace, ...report }, () =>
    [...report.nodes.map((node) => section(context, node)), verdict(context, report.nodes)].join('\n\n'),
  );
  return report.ok ? 0 : 1;
}

function section({ session, colors, width }: Context, { address, server, checks }: NodeReport): string {
  const title = `${server ?? 'A server'} at ${address ?? session.place}`;
  const rows = checks.map(({ name, level, detail, fix }) => [
    levelWord(level, colors),
    name,
    fix === undefined ? printable(detail) : `${printable(detail)}\n${printable(fix)}.`,
  ]);
  return [colors.bold(printable(title)), ...wrapped(rows, [WIDEST_LEVEL, WIDEST_NAME], width)].join('\n');
}

function levelWord(level: ServerCheck['level'], colors: Colors): string {
  return { ok: colors.green, warning: colors.yellow, danger: colors.red }[level](level);
}

function verdict({ colors }: Context, nodes: readonly NodeReport[]): string {
  const of = (level: ServerCheck['level']) =>
    nodes.reduce((sum, { checks }) => sum + checks.filter((check) => check.level === level).length, 0);
  const [dangers, warnings] = [of('danger'), of('warning')];
  const told = [
    ...(dangers > 0 ? [colors.red(many(dangers, 'danger'))] : []),
    ...(warnings > 0 ? [colors.yellow(many(warnings, 'warning'))] : []),
  ];
  return told.length > 0 ? `${told.join(', ')}.` : colors.green('All is well.');
}
