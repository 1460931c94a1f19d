/** The tests that run on every mutant of the TypeScript: quick ones. */
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import base from './vitest.config.js';

/** The quickest first: a mutant is done with at the first test that fails. */
class QuickestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) =>
      ['/unit/', '/once.', '/waiting.'].findIndex((part) => moduleId.includes(part)) >>> 0;
    return files.sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: [
      'test/unit/**/*.test.ts',
      'test/integration/{once,waiting,servers,ioredis5,effects,conditions}.test.ts',
      'test/fault/answers.test.ts',
    ],
    sequence: { sequencer: QuickestFirst },
    // The slowest of them takes some 1 s: what takes ten times as long hangs.
    testTimeout: 10_000,
    hookTimeout: 10_000,
    typecheck: { enabled: false },
  },
});
