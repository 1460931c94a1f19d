/** The site of the documentation, built as `npm run docs:build` builds it. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Site } from './site.js';

const PROJECT = join(import.meta.dirname, '..', '..');
const TIME_LIMIT_MS = 300_000;

describe('the site', () => {
  let folder: string;
  let site: Site;

  // VitePress itself ends with an error where a link leads to no page, typedoc where a docstring's does.
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'redis-once-site-'));
    await promisify(execFile)('npm', ['run', '-s', 'docs:build', '--', '--outDir', folder], {
      cwd: PROJECT,
      maxBuffer: 2 ** 26,
    });
    site = new Site(folder);
  }, TIME_LIMIT_MS);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('has the pages of every kind', () => {
    const addresses = site.pages.map(({ address }) => address);
    expect(addresses).toEqual(
      expect.arrayContaining([
        '/index.html',
        '/start.html',
        '/readme.html',
        '/guides/batch.html',
        '/concepts/the-gap.html',
        '/benchmarks.html',
        '/api/redis-once/classes/Dedup.html',
      ]),
    );
  });

  test('has a title and a description of its own for every page', () => {
    expect(site.nameless()).toEqual([]);
  });

  test('has no link, anchor or image that leads nowhere', () => {
    expect(site.dead()).toEqual([]);
  });

  test('has no link to another site that is malformed', () => {
    expect(site.malformed()).toEqual([]);
  });

  test('has every page in its sidebar', () => {
    expect(site.orphans()).toEqual([]);
  });
});

describe('what is wrong with a site', () => {
  /** A site of two pages, of which one has this in it. */
  function siteWith({
    head = '<title>A | Site</title><meta name="description" content="Of A.">',
    body = '',
    sidebar = '',
  }) {
    const folder = mkdtempSync(join(tmpdir(), 'redis-once-site-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const listed = `<aside class="VPSidebar" data-v><a href="/a/b.html">B</a>${sidebar}</aside>`;
    const files = {
      'index.html': '<title>Site</title><meta name="description" content="Of all.">',
      'a/b.html': `<head>${head}</head>${listed}<h2 id="is-there">Is there</h2>${body}`,
      'source/x.ts.txt': '',
    };
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    return new Site(folder);
  }

  test.each([
    ['a page', '<a href="/a/none.html">'],
    ['a folder', '<a href="/none/">'],
    ['an anchor', '<a class="x" href="/a/b.html#none">'],
    ['an anchor of the page itself', '<a href="#none">'],
    ['a relative address', '<a href="./none.html">'],
    ['a file', '<a href="/source/none.txt">'],
    ['an image', '<img alt="x" src="/none.svg">'],
  ])('is noticed where %s is missing', (_, body) => {
    expect(siteWith({ body }).dead()).toHaveLength(1);
  });

  test('is not that which is there', () => {
    const there = [
      '/',
      '/a/b.html#is-there',
      '#is-there',
      './b.html',
      '../index.html',
      '/source/x.ts.txt',
      'https://x.y/z',
    ];
    const site = siteWith({ body: there.map((link) => `<a href="${link}">`).join('') });
    expect([site.dead(), site.malformed(), site.nameless(), site.orphans()]).toEqual([[], [], [], []]);
  });

  test.each(['http://example.com', 'https://example', 'https://example.com/).', '//example.com', 'https://127.0.0.1/'])(
    'is noticed where a link is %s',
    (link) => {
      expect(siteWith({ body: `<a href="${link}">` }).malformed()).toEqual([`/a/b.html links to ${link}`]);
    },
  );

  test.each([
    ['title', '<meta name="description" content="Of A.">'],
    ['description', '<title>A | Site</title><meta name="description" content="">'],
    ['description of its own', '<title>A | Site</title><meta name="description" content="Of all.">'],
  ])('is noticed where a page has no %s', (what, head) => {
    expect(siteWith({ head }).nameless()).toEqual([`/a/b.html has no ${what}`]);
  });

  test('is noticed where the sidebar lacks a page', () => {
    const site = siteWith({});
    const [index, page] = site.pages;
    const html = page?.html.replace('<a href="/a/b.html">B</a>', '') ?? '';
    expect(Object.assign(site, { pages: [index, { address: '/a/b.html', html }] }).orphans()).toEqual(['/a/b.html']);
  });
});
