/** Results compressed by zlib, where they are long. */
import { deflateSync, inflateSync } from 'node:zlib';
import type { Codec } from '../codec.js';
import { afterHeader, headerOf } from '../codec-header.js';
import { CodecError } from '../errors.js';
import { wholeNumber } from '../rules.js';
import { readMethodOptions } from '../settings.js';
import { bytesOf, type Layered, layer } from './layer.js';

/** What `compressed` may be told. */
export interface CompressionOptions {
  /** Results of more bytes than this are compressed. Default 1,024. */
  above?: number | undefined;
  /**
   * A result of more bytes, before compression, is a `CodecError`, whether it is to be written or read: a small record must not
   * fill the memory of who reads it. Default 16 MiB, at most 256 MiB.
   */
  maxBytes?: number | undefined;
}

const MIB = 1024 * 1024;
const RULES = { above: wholeNumber(0, 256 * MIB), maxBytes: wholeNumber(1, 256 * MIB) };
const HEADER = headerOf('compressed');
/** What the byte after the header says of the rest. */
const AS_IT_IS = 0;
const DEFLATED = 1;

/**
 * A codec whose results are compressed where they are long; those that would not become shorter are stored as they are. The
 * Dedup's `maxResultBytes` counts what is stored.
 *
 * @param inner the codec of the results themselves
 * @throws InvalidOptionError naming what is wrong
 * @example
 * ```ts
 * import { json } from 'redis-once';
 * import { compressed } from 'redis-once/codecs';
 *
 * const reports = dedup.with({ codec: compressed(json, { above: 4096 }) });
 * ```
 */
export function compressed<C extends Codec>(inner: C, options?: CompressionOptions): Layered<C> {
  const { above = 1024, maxBytes = 16 * MIB } = readMethodOptions(options, RULES);
  return layer(inner, (below) => ({
    encode(value, context) {
      const bytes = bytesOf(below.encode(value, context));
      if (bytes.length > maxBytes) {
        throw new CodecError(`Expected at most ${maxBytes} bytes to compress (maxBytes), got ${bytes.length}`);
      }
      const deflated = bytes.length > above ? deflateSync(bytes) : bytes;
      return deflated.length < bytes.length
        ? Buffer.concat([HEADER, Buffer.of(DEFLATED), deflated])
        : Buffer.concat([HEADER, Buffer.of(AS_IT_IS), bytes]);
    },
    decode(bytes, context) {
      const body = afterHeader('compressed', bytes);
      return below.decode(inflated(body, maxBytes), context);
    },
  }));
}

/** @throws CodecError */
function inflated(body: Buffer, maxBytes: number): Buffer {
  const bytes = body.subarray(1);
  if (body[0] === AS_IT_IS) return bytes;
  if (body[0] !== DEFLATED) throw new CodecError('Expected compressed bytes, or plain ones, found a mark of neither');
  try {
    return inflateSync(bytes, { maxOutputLength: maxBytes });
  } catch (error) {
    const isTooLong = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
    const found = isTooLong ? `more than ${maxBytes} bytes of them (maxBytes)` : 'some that are changed or cut off';
    throw new CodecError(`Expected compressed bytes, found ${found}`, { cause: error });
  }
}
