/** Codecs that are layers around another: what they have in common. */
import { AROUND, type Codec, type JsonCodec, layersAround } from '../codec.js';
import { CodecError } from '../errors.js';
import { codecOption } from '../rules.js';

/** A codec around `C`: callers get of a handler's type what they would with `C`. */
export type Layered<C extends Codec> = C extends { readonly form: 'json' } ? JsonCodec : Codec;

/**
 * Puts a layer around a codec.
 *
 * @param wrap makes the layer's own two functions; what lies below is not always what was given, see `AROUND`
 * @throws InvalidOptionError where `inner` is no codec
 */
export function layer<C extends Codec>(inner: C, wrap: (inner: Codec) => Codec): Layered<C> {
  codecOption('inner', inner);
  const { form } = inner as Partial<JsonCodec>;
  const around = (other: Codec) => layer(layersAround(inner, other), wrap);
  return { ...(form && { form }), ...wrap(inner), [AROUND]: around } as unknown as Layered<C>;
}

/** @throws CodecError */
export function bytesOf(encoded: string | Uint8Array): Buffer {
  if (typeof encoded === 'string') return Buffer.from(encoded);
  if (encoded instanceof Uint8Array) return Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  throw new CodecError('Expected the inner codec to encode to a string or a Buffer');
}

/**
 * Calls a library that may show the value in what it throws: that is not passed on.
 *
 * @param what failed, as the error tells it
 * @throws CodecError
 */
export function discreetly<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new CodecError(`${what} (${error instanceof Error ? error.name : typeof error})`);
  }
}
