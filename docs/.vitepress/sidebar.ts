/** The order of the pages. A file that is in no group is a page all the same, and stands in the last one. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DefaultTheme } from 'vitepress';
import { pageFiles, pageOf, ROOT, titleOf } from './pages.js';

/** Pages without their ending. One that is not there (yet) is left out. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  Start: ['start', 'guides/none-of-this', 'comparison', 'readme', 'changelog'],
  Concepts: ['concepts/the-gap', 'concepts/life-of-a-call', 'effects', 'effects-outside-redis', 'seen-set'],
  Guides: [
    'bullmq',
    'guides/webhook',
    'guides/payment',
    'http',
    'streams',
    'guides/batch',
    'guides/conditional-write',
    'testing',
  ],
  Guarantees: ['guarantees', 'evidence', 'errors', 'security', 'compatibility', 'protocol'],
  Operations: ['operations', 'retention', 'durability', 'failover', 'cluster', 'codecs', 'telemetry', 'cli'],
  Performance: ['performance', 'benchmarks'],
  Decisions: pageFiles()
    .filter((file) => file.startsWith('docs/adr/'))
    .map(nameOf),
  More: [],
};

/** Groups that are shut at first: whoever looks for them knows it. */
const SHUT = ['Decisions'];

export function sidebar(): DefaultTheme.SidebarItem[] {
  const files = new Map(pageFiles().map((file) => [nameOf(file), file]));
  const placed = new Set(Object.values(GROUPS).flat());
  const groups = Object.entries(GROUPS).map(([text, names]) => {
    const unplaced = [...files.keys()].filter((name) => name !== 'index' && !placed.has(name));
    const items = (text === 'More' ? unplaced : names).flatMap((name) => {
      const file = files.get(name);
      return file === undefined ? [] : [{ text: shortTitleOf(file), link: `/${name}` }];
    });
    return { text, items, collapsed: SHUT.includes(text) };
  });
  return [...groups.filter(({ items }) => items.length > 0), ...reference()];
}

/** Made from docstrings, by `npm run docs:api`. */
function reference(): DefaultTheme.SidebarItem[] {
  const made = join(ROOT, 'docs/api/typedoc-sidebar.json');
  if (!existsSync(made)) return [];
  const items = JSON.parse(readFileSync(made, 'utf8')) as DefaultTheme.SidebarItem[];
  return [{ text: 'API', link: '/api/', collapsed: true, items }];
}

function nameOf(file: string): string {
  return (pageOf(file) ?? file).replace(/\.md$/, '');
}

/** What comes before a colon, without its mark-up. */
function shortTitleOf(file: string): string {
  if (file === 'README.md') return 'README: calls, options, events';
  return titleOf(file).replace(/:.*$/, '').replaceAll('`', '');
}
