import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { ALIASES } from './test/support/packages.js';
import tsconfig from './tsconfig.json' with { type: 'json' };

/** Examples import the library by its name, as its users do: here that is the source. */
const ownNames = Object.entries(tsconfig.compilerOptions.paths).map(([name, [file = '']]) => ({
  find: new RegExp(`^${name}$`),
  replacement: fileURLToPath(new URL(file, import.meta.url)),
}));

export default defineConfig({
  resolve: { alias: [...ownNames, ...ALIASES] },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    // Most tests wait for something: the next file need not.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    typecheck: { enabled: true, include: ['test/types/**/*.test-d.ts'] },
  },
});
