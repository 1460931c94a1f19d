/** Writes src/redis/scripts.generated.ts from lua/, so that nothing is read from disk at run time. */
import { writeFileSync } from 'node:fs';
import { bundleLua } from './lua-bundle.js';

const scripts = bundleLua('lua');
const lines = scripts.map(
  ({ name, sha1, source, args }) =>
    `  ${name}: { name: '${name}', sha1: '${sha1}', args: ${JSON.stringify(args)}, source: ${JSON.stringify(source)} },`,
);
const statuses = scripts.map(
  ({ name, statuses: words }) => `  ${name}: ${words.map((word) => `'${word}'`).join(' | ')};`,
);
writeFileSync(
  'src/redis/scripts.generated.ts',
  `// Made by scripts/build-lua.ts from lua/. Not for editing.
export const SCRIPTS = {
${lines.join('\n')}
} as const;

export interface Statuses {
${statuses.join('\n')}
}
`,
);
