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

/** What a body parser has made of a body, its bytes told by their digest. */
export function parsedForm(body: unknown): unknown {
  if (body instanceof Uint8Array) return { sha256: digest(body) };
  return body ?? null;
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
