/** The public names of `redis-once/bullmq`. */
export { type JobProcessor, type MarkedProcessorOptions, onceProcessor, type ProcessorOptions } from './processor.js';
