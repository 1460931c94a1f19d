/** How cost grows, as lines: a slope for each curve. */
import { type Line, lineThrough, median } from '../measure/statistics.js';
import type { GrowthResult, Run } from './results.js';
import { figure, type TableData } from './table.js';

export interface Curve {
  readonly name: string;
  /** Medians of the runs. */
  readonly points: readonly (readonly [x: number, y: number])[];
  readonly line: Line;
}

export interface Axis {
  readonly title: string;
  readonly x: string;
  readonly per: string;
  /** Is it each tenfold that counts? */
  readonly logarithmic: boolean;
}

export const AXES: Readonly<Record<GrowthResult['name'], Axis>> = {
  keys: { title: 'Keys that are stored', x: 'keys', per: 'for each tenfold', logarithmic: true },
  waiters: { title: 'Callers that wait for one key', x: 'callers', per: 'per caller', logarithmic: false },
  result: { title: 'Size of the result', x: 'KB', per: 'per KB', logarithmic: false },
  effects: { title: 'Effects of a commit', x: 'effects', per: 'per effect', logarithmic: false },
};

export function curvesOf(runs: readonly [Run, ...Run[]], name: GrowthResult['name']): Curve[] {
  const results = runs.map((run) => run.growth.find((one) => one.name === name)?.points ?? []);
  const [first = []] = results;
  return Object.keys(first[0]?.y ?? {}).map((curve) => {
    const points = first.map(({ x }, at) => [x, median(results.map((of) => of[at]?.y[curve] ?? Number.NaN))] as const);
    const straightened = points.map(([x, y]) => [AXES[name].logarithmic ? Math.log10(x) : x, y] as const);
    return { name: curve, points, line: lineThrough(straightened) };
  });
}

export function growthTable(runs: readonly [Run, ...Run[]]): TableData {
  const rows = (Object.keys(AXES) as GrowthResult['name'][]).flatMap((name) =>
    curvesOf(runs, name).map((curve) => [
      AXES[name].title,
      curve.name,
      `${figure(curve.line.slope)} µs ${AXES[name].per}`,
      figure(curve.line.r2),
      ...([curve.points[0], curve.points.at(-1)] as const).map((point) =>
        point ? `${figure(point[1])} µs at ${figure(point[0])}` : '–',
      ),
    ]),
  );
  return {
    title: 'How cost grows',
    note: 'Of redis-once, in µs a call: the slope of a line through the medians (least squares), how much of the variance it explains, and the ends that were measured.',
    head: ['', 'curve', 'slope', 'R²', 'first', 'last'],
    rows,
  };
}
