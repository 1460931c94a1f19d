/** What the bytes of the codecs of redis-once/codecs begin with, so that who wrote a record is known, and never guessed. */
import { CodecError } from './errors.js';

/** No UTF-8 text has this byte, so no JSON, and no value of MessagePack begins with it. */
const MAGIC = 0xc1;
const VERSION = 1;
const LETTERS = { rich: 'r', messagePack: 'm', compressed: 'z', encrypted: 'e' } as const;

/** A codec whose bytes have a header. */
export type HeadedCodec = keyof typeof LETTERS;

/** Three bytes: the magic one, the codec's letter, the version of what follows. */
export function headerOf(name: HeadedCodec): Buffer {
  return Buffer.from([MAGIC, LETTERS[name].charCodeAt(0), VERSION]);
}

/**
 * What follows the header.
 *
 * @throws CodecError where another codec, or another version of this one, wrote the bytes
 */
export function afterHeader(name: HeadedCodec, bytes: Buffer): Buffer {
  const header = headerOf(name);
  if (bytes.subarray(0, header.length).equals(header)) return bytes.subarray(header.length);
  const found = writerOf(bytes) ?? (bytes.length === 0 ? 'none' : 'those of a codec without a header, such as `json`');
  throw new CodecError(`Expected the bytes of \`${name}\`, version ${VERSION}, found ${found}`);
}

/** Whose the bytes are, as an error tells it, where their header says so. */
export function writerOf(bytes: Buffer): string | undefined {
  const [magic, letter, version] = bytes;
  if (magic !== MAGIC) return undefined;
  const name = (Object.keys(LETTERS) as HeadedCodec[]).find((name) => LETTERS[name].charCodeAt(0) === letter);
  return name && version !== undefined ? `those of \`${name}\`, version ${version}` : undefined;
}
