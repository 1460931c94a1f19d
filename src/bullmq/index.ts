/** The public names of `redis-once/bullmq`. */
export { type JobProcessor, onceProcessor, type ProcessorOptions } from './processor.js';
