/** The public names of `redis-once/otel`. */
export { type InstrumentOptions, instrument } from './instrument.js';
