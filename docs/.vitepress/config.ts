/** The site of the documentation: `npm run docs:dev`, `npm run docs:build`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { defineConfig, type MarkdownOptions } from 'vitepress';
import manifest from '../../package.json' with { type: 'json' };
import { anchorOf, descriptionOf, pageOf, ROOT, SOURCE, siteLink, sourceText } from './pages.js';
import { sidebar } from './sidebar.js';

/** Addresses below `SOURCE` that pages link to: what is linked is shown. */
const linkedSources = new Set<string>();

const MARK = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#3451b2"/><path d="M10 12l6-4v16m-5 0h10" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round" stroke-linejoin="round"/></svg>`;

export default defineConfig({
  title: manifest.name,
  description: manifest.description,
  lang: 'en',
  // Pages link to files all over the repository, and some pages lie outside of docs/.
  srcDir: '..',
  srcExclude: ['!(docs|bench)/**/*', 'bench/*/**/*', '!(README|CHANGELOG|SECURITY).md'],
  rewrites: (file) => pageOf(file) ?? file,
  head: [['link', { rel: 'icon', href: `data:image/svg+xml,${encodeURIComponent(MARK)}` }]],
  markdown: { anchor: { slugify: anchorOf }, config: followRepository },
  vite: { plugins: [{ name: 'linked-sources', configureServer: serveSources }] },
  transformPageData: ({ filePath, description }) => ({ description: description || descriptionOf(filePath) }),
  buildEnd: ({ outDir }) => {
    for (const address of linkedSources) {
      const file = join(outDir, address);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, textAt(address));
    }
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    sidebar: sidebar(),
    nav: [
      { text: 'Start', link: '/start' },
      { text: 'Guarantees', link: '/guarantees' },
      { text: 'Performance', link: '/performance' },
      { text: 'API', link: '/api/' },
      { text: manifest.version, link: '/changelog' },
    ],
  },
});

/** Links lead to where the site has what they lead to in the repository; charts are marked, since they are wide. */
function followRepository(md: Parameters<NonNullable<MarkdownOptions['config']>>[0]): void {
  md.core.ruler.push('follow-repository', ({ tokens, env }) => {
    // The search index is made of the files themselves, pages of what is rewritten.
    const from = relative(ROOT, env.realPath ?? env.path ?? ROOT).replaceAll('\\', '/');
    for (const token of tokens.flatMap(({ children }) => children ?? [])) {
      if (token.type === 'image' && token.attrGet('src')?.includes('charts/')) token.attrSet('class', 'chart');
      if (token.type !== 'link_open') continue;
      const link = siteLink(from, token.attrGet('href') ?? '');
      if (link.startsWith(SOURCE)) linkedSources.add(link.replace(/#.*/, ''));
      token.attrSet('href', link);
    }
  });
}

function serveSources(server: {
  middlewares: {
    use(
      handle: (
        req: { url?: string },
        res: { end(text: string): void; setHeader(name: string, value: string): void },
        next: () => void,
      ) => void,
    ): void;
  };
}): void {
  server.middlewares.use(({ url = '' }, response, next) => {
    if (!linkedSources.has(url)) return next();
    response.setHeader('content-type', 'text/plain; charset=utf-8');
    response.end(textAt(url));
  });
}

function textAt(address: string): string {
  return sourceText(address.slice(SOURCE.length, -'.txt'.length));
}
