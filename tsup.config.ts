import { defineConfig } from 'tsup';

export default defineConfig({
  entry: { index: 'src/index.ts', bullmq: 'src/bullmq/index.ts' },
  format: ['esm', 'cjs'],
  target: 'node20',
  dts: true,
  clean: true,
  splitting: true,
  treeshake: true,
});
