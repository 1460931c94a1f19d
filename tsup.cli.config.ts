/**
 * The bin. What only it needs is bundled into it, so that the library has no dependency for it; and as CommonJS, which
 * those packages are written in. ioredis is the user's own.
 */
import { defineConfig } from 'tsup';
import { licensesOf } from './scripts/bundled-licenses.js';

export default defineConfig({
  entry: { cli: 'src/cli/main.ts' },
  format: ['cjs'],
  target: 'node20',
  noExternal: ['commander', 'cli-table3', 'cli-progress', 'picocolors'],
  // cli-table3 takes it where it is there, for colours of its own, which are not used.
  external: ['@colors/colors'],
  esbuildPlugins: [licensesOf('cli.licenses.txt')],
  clean: false,
  splitting: false,
});
