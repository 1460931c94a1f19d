/** Dependencies point one way: dedup, then the life of a call, then what it works with, then Redis, then pure files. */
const PURE =
  '^src/(errors|duration|token|key|given|fingerprint|codec|codec-header|clock|options|settings|rules|outcome|events|listeners|observer|failure|signals|flight|limit|seen-layout|seen-set|effects/(effects|replies|arguments|commands|plan))[.]ts$';
const WORK = '^src/(attempt|lease|wait|delivery|durability|effects/(recorder|refusal|mark))[.]ts$';
const LIFE = '^src/(once|apply|many|claim|execute|finish|verdicts|records|agreements|seen|parts)[.]ts$';

const ENTRY_POINTS = '^src/(bullmq|http|streams|codecs|testing|cli|otel)/';
/** bench/ is a package of its own, and checked where it is not installed. */
const OF_BENCH = Object.keys(require('./bench/package.json').dependencies).map((name) => `^${name}(/|$)`);

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      severity: 'error',
      from: { pathNot: LIFE },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'pure-files-know-no-io', severity: 'error', from: { path: PURE }, to: { path: '^src/', pathNot: PURE } },
    {
      name: 'redis-knows-no-calls',
      severity: 'error',
      from: { path: '^src/redis/' },
      to: { path: '^src/', pathNot: ['^src/redis/', PURE] },
    },
    {
      name: 'work-knows-no-life',
      severity: 'error',
      from: { path: WORK },
      to: { path: [LIFE, '^src/dedup[.]ts$', '^src/index[.]ts$'] },
    },
    {
      name: 'life-knows-no-dedup',
      severity: 'error',
      from: { path: LIFE },
      to: { path: ['^src/dedup[.]ts$', '^src/index[.]ts$'] },
    },
    {
      name: 'every-core-file-has-a-place',
      severity: 'error',
      from: { path: '^src/[^/]+[.]ts$', pathNot: [PURE, WORK, LIFE, '^src/(dedup|index)[.]ts$'] },
      to: {},
    },
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
