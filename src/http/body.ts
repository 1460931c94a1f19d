/** Bodies: what is kept of a response's, and what a request's is compared by. */
import { createHash } from 'node:crypto';

/** Gathers bytes up to a limit. */
export class BodyBuffer {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(private readonly limit: number) {}

  add(chunk: Uint8Array): void {
    // A copy: its writer may use it again.
    this.#chunks.push(Buffer.from(chunk));
    this.#bytes += chunk.byteLength;
  }

  get isOver(): boolean {
    return this.#bytes > this.limit;
  }

  get isEmpty(): boolean {
    return this.#chunks.length === 0;
  }

  get length(): number {
    return this.#bytes;
  }

  /** All of it, also what is beyond the limit. */
  get bytes(): Buffer {
    const [only, ...others] = this.#chunks;
    return only && others.length === 0 ? only : Buffer.concat(this.#chunks);
  }

  /** What is kept of it. */
  get kept(): Buffer | null {
    return this.isOver ? null : this.bytes;
  }
}

/** A body as JSON to compare by: parsed where it is JSON, so that the order of names does not matter; else by its bytes. */
export function comparable(contentType: string | null | undefined, bytes: Buffer): unknown {
  if (bytes.length === 0) return null;
  if (/^application\/([\w.+-]+\+)?json\b/i.test(contentType ?? '')) {
    try {
      return JSON.parse(bytes.toString()) as unknown;
    } catch {
      // Not what it says: it is compared as it is.
    }
  }
  return { sha256: digest(bytes) };
}

/** The request's body is longer than what is compared. */
export const TOO_LARGE = Symbol('too large');

/** Query and body as parsers have made them, the body's bytes told by their digest. */
export function parsedContent(
  { headers, query, body }: { headers: { 'content-length'?: string | undefined }; query: unknown; body: unknown },
  limit: number,
): unknown | typeof TOO_LARGE {
  if (Number(headers['content-length'] ?? 0) > limit) return TOO_LARGE;
  if (typeof body === 'string' && Buffer.byteLength(body) > limit) return TOO_LARGE;
  if (!(body instanceof Uint8Array)) return { query, body: body ?? null };
  return body.length > limit ? TOO_LARGE : { query, body: { sha256: digest(body) } };
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64url');
}

/** The values of each name, in their order; of names that come once, the value itself. */
export function queryForm(parameters: URLSearchParams): Record<string, unknown> {
  const form: Record<string, string | string[]> = {};
  for (const name of new Set(parameters.keys())) {
    const values = parameters.getAll(name);
    Object.defineProperty(form, name, { value: values.length === 1 ? values[0] : values, enumerable: true });
  }
  return form;
}
