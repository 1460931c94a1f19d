/** The charts of one run or several, as SVG. */
import { mkdirSync, writeFileSync } from 'node:fs';
import * as echarts from 'echarts';
import { sizeName } from '../cases/work.js';
import { median } from '../measure/statistics.js';
import { AXES, curvesOf } from './growth.js';
import type { CellResult, GrowthResult, Run } from './results.js';
import { CHARTS, type ChartName } from './section.js';
import { figure } from './table.js';
import { concurrenciesOf, rowNames } from './tables.js';
import { cellOf, rowOf } from './targets.js';

type Runs = readonly [Run, ...Run[]];
type Options = echarts.EChartsCoreOption;

const SIZE = { width: 1_000, height: 440 };
const BESIDE = 64;

/** Writes all charts into the folder. */
export function drawCharts(runs: Runs, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const name of Object.keys(CHARTS) as ChartName[]) {
    writeFileSync(`${folder}/${name}.svg`, draw(CHARTS[name], optionsOf(name, runs)));
  }
}

function optionsOf(name: ChartName, runs: Runs): Options {
  switch (name) {
    case 'first-calls':
      return byConcurrency(runs, 'first', 'calls/s');
    case 'duplicates':
      return byConcurrency(runs, 'duplicate', 'calls/s');
    case 'apply':
      return byConcurrency(runs, 'apply', 'keys/s');
    case 'contended':
      return byConcurrency(runs, 'contended', 'ms', (rate, callers) => (callers * 1_000) / rate);
    case 'sizes':
      return bySize(runs);
    case 'cpu':
      return cpu(runs);
    case 'memory':
      return memory(runs);
    default:
      return growth(runs, name.slice('growth-'.length) as GrowthResult['name']);
  }
}

function draw(title: string, options: Options): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, ...SIZE });
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    title: { text: title, left: 'center', top: 8, textStyle: { fontSize: 15 } },
    grid: { left: 80, right: 310, top: 70, bottom: 50 },
    legend: { orient: 'vertical', left: 710, top: 70, itemWidth: 18, textStyle: { fontSize: 12 } },
    ...options,
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return `${svg}\n`;
}

/** A line for each contender: ours are thick, floors are dashed. */
function byConcurrency(
  runs: Runs,
  family: CellResult['family'],
  unit: string,
  toY: (rate: number, concurrency: number) => number = (rate) => rate,
): Options {
  const concurrencies = concurrenciesOf(runs[0], family);
  const names = [...new Set(concurrencies.flatMap((concurrency) => rowNames(runs[0], family, concurrency)))];
  const series = names.map((name) => {
    const data = concurrencies.map((concurrency) => {
      const rates = runs.map((run) => rowOf(cellOf(run, family, concurrency), name)?.rates ?? []);
      return rates.some((of) => of.length === 0) ? null : round(toY(median(rates.map(median)), concurrency));
    });
    return { name, type: 'line', data, symbolSize: 6, lineStyle: lineOf(runs[0], family, name) };
  });
  return {
    xAxis: { type: 'category', data: concurrencies.map(String), name: 'at once', nameLocation: 'middle', nameGap: 28 },
    yAxis: { type: 'log', name: unit, axisLabel: { formatter: figure } },
    series,
  };
}

function lineOf(run: Run, family: CellResult['family'], name: string) {
  const row = run.cells.map((cell) => (cell.family === family ? rowOf(cell, name) : undefined)).find(Boolean);
  return { width: row?.kind === 'ours' ? 4 : 1.5, type: row?.kind === 'floor' ? 'dashed' : 'solid' };
}

function bySize(runs: Runs): Options {
  const sizes = [...new Set(runs[0].cells.filter(({ family }) => family === 'first').map((cell) => cell.resultBytes))];
  const series = rowNames(runs[0], 'first', BESIDE).map((name) => ({
    name,
    type: 'line',
    symbolSize: 6,
    lineStyle: lineOf(runs[0], 'first', name),
    data: sizes.map((size) =>
      round(median(runs.map((run) => median(rowOf(cellOf(run, 'first', BESIDE, size), name)?.rates ?? [])))),
    ),
  }));
  return {
    xAxis: { type: 'category', data: sizes.map(sizeName) },
    yAxis: { type: 'log', name: 'calls/s', axisLabel: { formatter: figure } },
    series,
  };
}

function cpu(runs: Runs): Options {
  const names = rowNames(runs[0], 'first', BESIDE);
  const bars = (title: string, part: 'clientMicrosPerKey' | 'serverMicrosPerKey', position: string) => ({
    name: title,
    type: 'bar',
    stack: 'cpu',
    label: { show: true, position, formatter: ({ value }: { value: number }) => figure(value) },
    data: names.map((name) =>
      round(median(runs.map((run) => rowOf(cellOf(run, 'first', BESIDE), name)?.[part] ?? Number.NaN))),
    ),
  });
  return sideways(names, 'µs per call', [
    bars('client', 'clientMicrosPerKey', 'inside'),
    bars('server', 'serverMicrosPerKey', 'right'),
  ]);
}

function memory(runs: Runs): Options {
  const names = runs[0].memory.map(({ name }) => name);
  const bytesOf = (name: string) => runs.map((run) => run.memory.find((one) => one.name === name)?.bytes ?? Number.NaN);
  const label = { show: true, formatter: ({ value }: { value: number }) => figure(value) };
  const data = names.map((name) => round(median(bytesOf(name))));
  return sideways(names, 'bytes', [{ name: 'MEMORY USAGE', type: 'bar', label, data }]);
}

function growth(runs: Runs, name: GrowthResult['name']): Options {
  const { x, per, logarithmic } = AXES[name];
  const series = curvesOf(runs, name).map((curve) => ({
    name: `${curve.name}: ${figure(curve.line.slope)} µs ${per}`,
    type: 'line',
    symbolSize: 6,
    data: curve.points.map(([at, value]) => [at, value]),
  }));
  return {
    xAxis: {
      type: logarithmic ? 'log' : 'value',
      name: x,
      nameLocation: 'middle',
      nameGap: 28,
      axisLabel: { formatter: figure },
    },
    yAxis: { type: 'value', name: 'µs', axisLabel: { formatter: figure } },
    series,
  };
}

function sideways(names: readonly string[], unit: string, series: readonly object[]): Options {
  return {
    grid: { left: 240, right: 310, top: 60, bottom: 50 },
    xAxis: { type: 'value', name: unit, nameLocation: 'middle', nameGap: 28 },
    yAxis: { type: 'category', data: names, inverse: true },
    series,
  };
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
