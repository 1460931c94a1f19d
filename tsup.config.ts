import { defineConfig } from 'tsup';

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    bullmq: 'src/bullmq/index.ts',
    express: 'src/http/express.ts',
    fastify: 'src/http/fastify.ts',
    hono: 'src/http/hono.ts',
    fetch: 'src/http/fetch.ts',
    streams: 'src/streams/index.ts',
    codecs: 'src/codecs/index.ts',
    testing: 'src/testing/index.ts',
    otel: 'src/otel/index.ts',
  },
  format: ['esm', 'cjs'],
  target: 'node20',
  dts: true,
  clean: true,
  splitting: true,
  treeshake: true,
  esbuildOptions(options, { format }) {
    // Jest, which requires, has no `import()` unless node is told so by a flag.
    if (format === 'cjs') options.supported = { ...options.supported, 'dynamic-import': false };
  },
});
