/** The public names of `redis-once/streams`. */
export { StreamConsumer } from './consumer.js';
export type { EntryEvent, StreamConsumerEvents } from './events.js';
export type { StreamMessage } from './message.js';
export type { StreamConsumerOptions } from './options.js';
export {
  type ListTarget,
  type ProducedElements,
  type ProducedEntry,
  produceOnce,
  type StreamTarget,
} from './produce.js';
