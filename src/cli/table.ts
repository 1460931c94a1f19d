/** Rows for people: a table where it fits, else a block for each. */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';

export interface Column<Row> {
  readonly title: string;
  readonly align?: 'right';
  /** Empty where the row has none. */
  cell(row: Row): string;
  /** What says the same without a title above it; the cell itself by default. */
  words?(cell: string): string;
}

/** How titles look. */
type Heading = (text: string) => string;

const NO_LINES = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};
const INDENT = '  ';
const NO_STYLE = { head: [], border: [], 'padding-left': 0, 'padding-right': 0 };

/** The last column is the one that is long, and names the row: where the table is too wide for a line, it heads a block. */
export function table<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  width: number | undefined,
  heading: Heading,
): string {
  const cells = rows.map((row) => columns.map((column) => column.cell(row)));
  const head = columns.map(({ title }) => heading(title));
  const colAligns = columns.map(({ align }) => align ?? 'left');
  const lines = draw([head, ...cells.map((row) => row.map((cell) => cell || '-'))], { colAligns });
  // All lines are as wide as the first, and titles are ASCII.
  const widest = stripVTControlCharacters(lines[0] as string).length;
  if (width === undefined || widest <= width) return lines.map(trimmed).join('\n');
  return cells.map((row) => block(columns, row, width)).join('\n\n');
}

function block(columns: readonly Column<never>[], cells: readonly string[], width: number): string {
  const told = columns.slice(0, -1).flatMap(({ words = (cell) => cell }, at) => (cells[at] ? [words(cells[at])] : []));
  const lines = wrapped([[told.join(', ')]], [], width - INDENT.length);
  return [cells.at(-1), ...lines.map((line) => INDENT + line)].join('\n');
}

/** Names and values, one a line. */
export function pairs(rows: readonly (readonly [string, string])[], heading: Heading): string[] {
  return draw(rows.map(([name, value]) => [INDENT + heading(name), value])).map(trimmed);
}

/**
 * Rows whose last cell is wrapped between words, so that lines are no wider than `width`.
 *
 * @param widths of the other cells
 */
export function wrapped(rows: readonly string[][], widths: readonly number[], width: number | undefined): string[] {
  if (width === undefined) return draw(rows, { colWidths: [...widths, null] }).map(trimmed);
  const left = width - widths.reduce((sum, cell) => sum + cell + NO_LINES.middle.length, 0);
  return draw(rows, { colWidths: [...widths, Math.max(20, left)], wordWrap: true }).map(trimmed);
}

function draw(rows: readonly (readonly string[])[], options: Table.TableConstructorOptions = {}): string[] {
  if (rows.length === 0) return [];
  const drawn = new Table({ chars: NO_LINES, style: NO_STYLE, ...options });
  drawn.push(...rows.map((row) => [...row]));
  return drawn.toString().split('\n');
}

function trimmed(line: string): string {
  return line.trimEnd();
}
