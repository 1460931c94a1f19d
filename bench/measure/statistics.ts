/** Medians and quartiles: a round that met a busy machine moves them little. */

export interface Spread {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
  readonly min: number;
  readonly max: number;
}

/** A line through points: `y` = `base` + `slope` * `x`. */
export interface Line {
  readonly slope: number;
  readonly base: number;
  /** The share of the variance that the line explains. */
  readonly r2: number;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function spread(values: readonly number[]): Spread {
  const [min, q1, middle, q3, max] = [0, 0.25, 0.5, 0.75, 1].map((part) => Number(quantile(values, part).toFixed(3)));
  return { median: middle, q1, q3, min, max } as Spread;
}

/** Round by round, so that what slowed a round down stands on both sides. */
export function ratios(ours: readonly number[], theirs: readonly number[]): number[] {
  return ours.map((value, round) => value / (theirs[round] as number));
}

/** As tables show it: the median, and from which quartile to which. */
export function told({ median, q1, q3 }: Spread, digits = 1): string {
  return `${median.toFixed(digits)} (${q1.toFixed(digits)} to ${q3.toFixed(digits)})`;
}

/** By least squares. */
export function lineThrough(points: readonly (readonly [x: number, y: number])[]): Line {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanX, meanY] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))];
  const sumOf = (term: (dx: number, dy: number) => number) =>
    points.reduce((sum, [x, y]) => sum + term(x - meanX, y - meanY), 0);
  const [xx, xy, yy] = [sumOf((dx) => dx * dx), sumOf((dx, dy) => dx * dy), sumOf((_, dy) => dy * dy)];
  const slope = xy / xx;
  return { slope, base: meanY - slope * meanX, r2: yy === 0 ? 1 : (xy * xy) / (xx * yy) };
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const [below, above] = [sorted[Math.floor(at)] as number, sorted[Math.ceil(at)] as number];
  return below + (above - below) * (at - Math.floor(at));
}
