/** Which file of the repository is which page of the site, and where a link that a file has leads there. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Files outside of docs/ that are pages as well. */
const OUTSIDE: Readonly<Record<string, string>> = {
  'README.md': 'readme.md',
  'CHANGELOG.md': 'changelog.md',
  'SECURITY.md': 'security.md',
  'bench/README.md': 'benchmarks.md',
};

/** Where the site has the text of files that pages link to and that are no pages: tests, examples, data. */
export const SOURCE = '/source/';

/** The page that a file is; undefined where it is none. */
export function pageOf(file: string): string | undefined {
  return OUTSIDE[file] ?? /^docs\/(.+\.md)$/.exec(file)?.[1];
}

/** Every file that is a page, but for what is made from docstrings. */
export function pageFiles(): string[] {
  return [...Object.keys(OUTSIDE), ...pagesUnder('docs')];
}

/** Not below what builds make, and may be making now. */
function pagesUnder(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const path = posix.join(folder, entry.name);
      if (!entry.isDirectory()) return path.endsWith('.md') ? [path] : [];
      return ['docs/api', 'docs/.vitepress'].includes(path) ? [] : pagesUnder(path);
    })
    .sort();
}

/**
 * Where a link of a file leads on the site. Pages link to files as they lie in the repository, so that both have links
 * that work.
 */
export function siteLink(from: string, link: string): string {
  if (/^(\w+:|#|\/)/.test(link)) return link;
  const [path = '', anchor] = link.split('#');
  const target = posix.join(posix.dirname(from), path).replace(/\/$/, '');
  const page = pageOf(target) ?? firstPageIn(target);
  const place = page === undefined ? `${SOURCE}${target}.txt` : `/${page}`;
  return anchor === undefined ? place : `${place}#${anchor}`;
}

/** What `/source/<path>.txt` shows: a file, or all files of a folder one after another. */
export function sourceText(path: string): string {
  if (!isFolder(path)) return readFileSync(join(ROOT, path), 'utf8');
  const files = readdirSync(join(ROOT, path)).map((name) => posix.join(path, name));
  return files.map((file) => (isFolder(file) ? `${file}/\n` : `${file}\n\n${sourceText(file)}`)).join('\n\n');
}

/** The title of a page, as Markdown: its first heading. */
export function titleOf(file: string): string {
  return /^# (.+)$/m.exec(readFileSync(join(ROOT, file), 'utf8'))?.[1] ?? file;
}

/** What a page begins with, as plain text: its description for search engines. */
export function descriptionOf(file: string): string {
  const text = readFileSync(join(ROOT, file), 'utf8').replace(/^---\n[\s\S]*?\n---\n/, '');
  const paragraphs = text.split(/\n{2,}/).filter((paragraph) => /^[\p{L}\d`*[]/u.test(paragraph));
  const plain = (paragraphs[0] ?? titleOf(file))
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/\\(.)/g, '$1')
    .replace(/[`*"]/g, '')
    .replace(/\s+/g, ' ')
    .trim();
  return plain.length <= LONGEST_DESCRIPTION
    ? plain
    : `${plain.slice(0, LONGEST_DESCRIPTION).replace(/\s+\S*$/, '')} …`;
}

const LONGEST_DESCRIPTION = 200;

/** The anchor of a heading, as GitHub makes it: links with anchors work in both places. */
export function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

/** A link to a folder of pages leads to its first. */
function firstPageIn(folder: string): string | undefined {
  if (!isFolder(folder)) return undefined;
  const [first] = readdirSync(join(ROOT, folder)).sort();
  return first && pageOf(posix.join(folder, first));
}

function isFolder(path: string): boolean {
  return statSync(join(ROOT, path), { throwIfNoEntry: false })?.isDirectory() ?? false;
}
