/** The public names of `redis-once/streams`. */
export { type EntryEvent, StreamConsumer, type StreamConsumerEvents } from './consumer.js';
export type { StreamMessage } from './message.js';
export type { StreamConsumerOptions } from './options.js';
export {
  type ListTarget,
  type ProducedElements,
  type ProducedEntry,
  produceOnce,
  type StreamTarget,
} from './produce.js';
