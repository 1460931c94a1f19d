/** A table as data, and as Markdown. */

export interface TableData {
  readonly title: string;
  /** What the figures are. */
  readonly note: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export function toMarkdown({ title, note, head, rows }: TableData): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = `|${head.map((_, column) => (column === 0 ? '---' : '---:')).join('|')}|`;
  return [`### ${title}`, '', note, '', line(head), rule, ...rows.map(line)].join('\n');
}

/** Three digits that mean something. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const digits = Number(value.toPrecision(3));
  return digits.toLocaleString('en-US', { maximumFractionDigits: 3 });
}

/** The middle, and the ends where they differ. */
export function ranged({ median, min, max }: { median: number; min: number; max: number }, unit = ''): string {
  const [middle, low, high] = [median, min, max].map(figure) as [string, string, string];
  return low === high ? `${middle}${unit}` : `${middle}${unit} (${low}–${high})`;
}

export function duration(ms: number): string {
  if (ms < 1_000) return `${figure(ms)} ms`;
  if (ms < 120_000) return `${figure(ms / 1_000)} s`;
  return `${figure(ms / 3_600_000)} h`;
}
