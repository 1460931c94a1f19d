/** `npm run bench:docs`: writes what the kept runs say into docs/performance.md and the README, and draws their charts. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { drawCharts } from './report/charts.js';
import { keptRuns, performanceSection, readmeSection, replaceBetweenMarks } from './report/section.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

const runs = keptRuns();
const [first, ...others] = runs;
if (first) drawCharts([first, ...others], `${ROOT}docs/charts`);
write('docs/performance.md', performanceSection(runs, 'charts'));
write('README.md', readmeSection(runs, 'docs/charts'));
console.log(`${runs.length} kept runs are in docs/performance.md, docs/charts and the README.`);

function write(path: string, text: string): void {
  writeFileSync(`${ROOT}${path}`, replaceBetweenMarks(readFileSync(`${ROOT}${path}`, 'utf8'), 'figures', text));
}
