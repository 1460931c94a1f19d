/** The public names of redis-once/codecs. */
export { type CompressionOptions, compressed } from './compressed.js';
export { type EncryptionKey, type EncryptionOptions, encrypted } from './encrypted.js';
export type { Layered } from './layer.js';
export { type MessagePackLibrary, messagePack } from './message-pack.js';
export { type RichLibrary, rich } from './rich.js';
