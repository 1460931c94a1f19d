/** Mutants of the TypeScript that decides: `npm run test:mutants:src`. */

/** Sentences are for people; a string without a space is a word that the code decides by. */
const sentences = {
  shouldIgnore({ node }) {
    const texts =
      node.type === 'StringLiteral'
        ? [node.value]
        : node.type === 'TemplateLiteral'
          ? node.quasis.map((quasi) => quasi.value.cooked)
          : [];
    return texts.some((text) => text.includes(' ')) ? 'a sentence' : undefined;
  },
};

export const strykerPlugins = [{ kind: 'Ignore', name: 'sentences', value: sentences }];

export default {
  mutate: [
    'src/call/{apply,bypass,claim,execute,finish,lease,many,once,result,server-check,wait}.ts',
    'src/redis/{connection,exchange,lists,scripts}.ts',
  ],
  plugins: ['@stryker-mutator/vitest-runner', '@stryker-mutator/typescript-checker', './stryker.config.mjs'],
  ignorers: ['sentences'],
  ignorePatterns: ['coverage', 'dist', 'reports'],
  testRunner: 'vitest',
  vitest: { configFile: 'vitest.mutants.config.ts', related: false },
  coverageAnalysis: 'perTest',
  // What the compiler refuses cannot be shipped: it is no mutant.
  checkers: ['typescript'],
  tsconfigFile: 'tsconfig.src.json',
  // A test that hangs fails by its own limit; this ends only what blocks the event loop.
  timeoutMS: 30_000,
  concurrency: 2,
  reporters: ['clear-text', 'json', 'html'],
  clearTextReporter: { logTests: false, allowColor: false },
  tempDirName: '.stryker-tmp',
};
