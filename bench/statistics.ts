/** Medians and quartiles: a round that met a busy machine moves them little. */

export interface Spread {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function spread(values: readonly number[]): Spread {
  const [q1, middle, q3] = [0.25, 0.5, 0.75].map((part) => Number(quantile(values, part).toFixed(3)));
  return { median: middle as number, q1: q1 as number, q3: q3 as number };
}

/** As tables show it: the median, and from which quartile to which. */
export function told({ median, q1, q3 }: Spread): string {
  return `${median.toFixed(1)} (${q1.toFixed(1)} to ${q3.toFixed(1)})`;
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const [below, above] = [sorted[Math.floor(at)] as number, sorted[Math.ceil(at)] as number];
  return below + (above - below) * (at - Math.floor(at));
}
