/** A built site, read from its files: what is wrong with it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

interface Page {
  /** From the root of the site: `/guides/batch.html`. */
  readonly address: string;
  readonly html: string;
}

export class Site {
  readonly pages: readonly Page[];

  constructor(private readonly folder: string) {
    this.pages = readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .map((name) => posix.join('/', name.replaceAll('\\', '/')))
      .filter((address) => address.endsWith('.html') && address !== '/404.html')
      .map((address) => ({ address, html: readFileSync(join(folder, address), 'utf8') }));
  }

  /** Pages that search engines and tabs cannot tell from others. */
  nameless(): string[] {
    const siteOnly = this.pages.find(({ address }) => address === '/index.html');
    const own = siteOnly && descriptionOf(siteOnly);
    return this.pages.flatMap(({ address, html }) => {
      const description = descriptionOf({ address, html });
      const isNamed = /<title>[^<|]+( \| [^<]+)?<\/title>/.test(html);
      if (!isNamed) return [`${address} has no title`];
      if (!description) return [`${address} has no description`];
      return address !== '/index.html' && description === own ? [`${address} has no description of its own`] : [];
    });
  }

  /** Links, anchors and images that lead nowhere. */
  dead(): string[] {
    const ids = new Map(this.pages.map(({ address, html }) => [address, new Set(valuesOf('id', html))]));
    return this.pages.flatMap(({ address, html }) =>
      [...valuesOf('href', html), ...valuesOf('src', html)]
        .filter((link) => !isElsewhere(link) && !link.startsWith('data:'))
        .filter((link) => {
          const { pathname, hash } = new URL(link, `https://site${address}`);
          const path = decodeURIComponent(pathname).replace(/\/$/, '/index.html');
          if (!existsSync(join(this.folder, path))) return true;
          const known = ids.get(path);
          return hash !== '' && known !== undefined && !known.has(decodeURIComponent(hash.slice(1)));
        })
        .map((link) => `${address} links to ${link}`),
    );
  }

  /** Links to other sites that cannot be meant as they stand. */
  malformed(): string[] {
    return this.pages.flatMap(({ address, html }) =>
      [...valuesOf('href', html), ...valuesOf('src', html)]
        .filter((link) => isElsewhere(link) && !isWellFormed(link))
        .map((link) => `${address} links to ${link}`),
    );
  }

  /** Pages that the sidebar does not list. That what it lists is there is for `dead` to say. */
  orphans(): string[] {
    return this.pages.flatMap(({ address, html }) => {
      if (address === '/index.html') return [];
      const [, sidebar = ''] = /<aside class="VPSidebar[^>]*>([\s\S]*?)<\/aside>/.exec(html) ?? [];
      const listed = valuesOf('href', sidebar).map((link) => link.replace(/\/$/, '/index.html'));
      return listed.includes(encodeURI(address)) ? [] : [address];
    });
  }
}

function descriptionOf({ html }: Page): string | undefined {
  return /<meta name="description" content="([^"]*)">/.exec(html)?.[1];
}

function valuesOf(attribute: 'id' | 'href' | 'src', html: string): string[] {
  const found = html.matchAll(new RegExp(`<[a-z][^>]*? ${attribute}="([^"]*)"`, 'g'));
  return [...found].map(([, value = '']) => value.replaceAll('&amp;', '&'));
}

function isElsewhere(link: string): boolean {
  return /^(\w+:)?\/\//.test(link) || link.startsWith('mailto:');
}

function isWellFormed(link: string): boolean {
  if (!URL.canParse(link) || /[\s<>"`]|[.,;:)]$/.test(link)) return false;
  const { protocol, hostname, port } = new URL(link);
  return (
    protocol === 'https:' && /^[a-z\d-]+(\.[a-z\d-]+)+$/.test(hostname) && port === '' && !/^[\d.]+$/.test(hostname)
  );
}
