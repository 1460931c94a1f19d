/** Dependencies point one way: dedup, then calls, then what they work with, then Redis, then files that do no I/O. */
const TOP = '^src/(dedup|index)[.]ts$';
const CALLS = '^src/(call|seen)/';
const PURE = [
  '^src/(?!dedup[.]|index[.])[^/]+[.]ts$',
  '^src/effects/(effects|replies|arguments|commands|plan)[.]ts$',
  '^src/seen/(set|layout)[.]ts$',
];
const TOOLS_OF_CALLS = '^src/call/(attempt|call|delivery|flight|lease|limit|wait)[.]ts$';

const ENTRY_POINTS = '^src/(bullmq|http|streams|codecs|testing|cli|otel)/';
/** bench/ is a package of its own, and checked where it is not installed. */
const OF_BENCH = Object.keys(require('./bench/package.json').dependencies).map((name) => `^${name}(/|$)`);

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'pure-files-know-no-io', severity: 'error', from: { path: PURE }, to: { path: '^src/', pathNot: PURE } },
    {
      name: 'redis-knows-no-calls',
      severity: 'error',
      from: { path: '^src/redis/' },
      to: { path: '^src/', pathNot: ['^src/redis/', ...PURE] },
    },
    {
      name: 'effects-know-no-calls',
      severity: 'error',
      from: { path: '^src/effects/' },
      to: { path: [CALLS, TOP], pathNot: PURE },
    },
    {
      name: 'tools-of-calls-know-no-calls',
      severity: 'error',
      from: { path: TOOLS_OF_CALLS },
      to: { path: CALLS, pathNot: [TOOLS_OF_CALLS, ...PURE] },
    },
    { name: 'calls-know-no-dedup', severity: 'error', from: { path: CALLS }, to: { path: TOP } },
    {
      name: 'core-knows-no-framework',
      severity: 'error',
      from: { path: '^src/', pathNot: ENTRY_POINTS },
      to: { path: 'node_modules/(bullmq|express|fastify|hono|@opentelemetry|ioredis|testcontainers)' },
    },
    {
      name: 'codecs-are-given-their-libraries',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: 'node_modules/(superjson|msgpackr)' },
    },
    {
      name: 'core-knows-no-entry-point',
      severity: 'error',
      from: { path: '^src/', pathNot: ENTRY_POINTS },
      to: { path: ENTRY_POINTS },
    },
    {
      name: 'src-knows-no-tests',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|examples|scripts|bench)/' },
    },
    { name: 'no-unresolvable', severity: 'error', from: { pathNot: '^bench/' }, to: { couldNotResolve: true } },
    {
      name: 'no-unresolvable-in-bench',
      severity: 'error',
      from: { path: '^bench/' },
      to: { couldNotResolve: true, pathNot: OF_BENCH },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^test/package/fixtures' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'types', 'default'],
    },
  },
};
