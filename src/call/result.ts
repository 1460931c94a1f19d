/** What a handler came to, as it is stored and as callers get it: a result by its codec, a failure by ours. */
import { CodecError, isDedupError, ResultTooLargeError, type StoredFailure } from '../errors.js';
import { readFailure } from '../failure.js';
import { given } from '../given.js';
import type { Call } from './call.js';
import type { Parts } from './parts.js';

/** @throws CodecError, ResultTooLargeError */
export function encodeResult(parts: Parts, { key, redisKey, settings }: Call, value: unknown): string | Buffer {
  const { maxResultBytes } = parts.settings;
  let encoded: unknown;
  try {
    encoded = settings.codec.encode(value, { redisKey });
  } catch (cause) {
    throw codecError(key, 'encode', cause);
  }
  if (typeof encoded !== 'string' && !(encoded instanceof Uint8Array)) {
    throw new CodecError(`Expected the codec to encode to a string or a Buffer, got ${given(encoded)}`, { key });
  }
  const bytes = Buffer.byteLength(encoded);
  if (bytes > maxResultBytes) {
    throw new ResultTooLargeError(
      `Expected the result to be at most ${maxResultBytes} bytes (maxResultBytes), got ${bytes} bytes`,
      { key },
    );
  }
  // Bytes are copied: they are sent again, and given to others, when the codec may have changed its own.
  return typeof encoded === 'string' ? encoded : Buffer.from(encoded);
}

/** @throws CodecError */
export function decodeResult({ key, redisKey, settings }: Call, result: string | Buffer): unknown {
  try {
    // A copy: a codec may keep or change what it is given, and the bytes are shared.
    return settings.codec.decode(Buffer.from(result as string), { redisKey });
  } catch (cause) {
    throw codecError(key, 'decode', cause);
  }
}

function codecError(key: string, verb: 'encode' | 'decode', cause: unknown): CodecError {
  // What the library's own codecs say holds nothing of a result.
  const why = isDedupError(cause, 'CODEC') ? `: ${cause.message}` : '';
  return new CodecError(`The codec cannot ${verb} the result${why}`, { key, cause });
}

/** @throws CodecError */
export function decodeFailure(key: string, bytes: Buffer): StoredFailure {
  try {
    return readFailure(bytes);
  } catch (cause) {
    throw new CodecError('The stored failure cannot be read', { key, cause });
  }
}
