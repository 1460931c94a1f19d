/** The public names of redis-once/testing. */
export type { Deliver, DeliveryReport } from './consumer-process.js';
export {
  crashAfterCommit,
  crashBeforeCommit,
  deliverTwice,
  loseReply,
  type Scenario,
  type ScenarioReport,
} from './scenarios.js';
export { createTestDedup, type TestDedup } from './test-dedup.js';
