/** Requests and responses of the Fetch API. */
import { BodyBuffer, comparable, queryForm, TOO_LARGE } from './body.js';
import type { MadeResponse, RequestFacts } from './exchange.js';
import type { HttpResponse } from './response.js';

/** @param bytes the body, where the request's own was read already */
export function factsOf(request: Request, bytes?: () => Promise<ArrayBuffer>): RequestFacts {
  const url = new URL(request.url);
  return {
    method: request.method,
    path: url.pathname,
    lines: (header) => {
      const value = request.headers.get(header);
      return value === null ? [] : [value];
    },
    content: async (limit) => {
      const type = request.headers.get('content-type');
      // The parts of a form are the same in every copy; what is put between them is not.
      const body = /^multipart\/form-data\b/i.test(type ?? '')
        ? await formOf(request, limit, bytes)
        : await bytesOf(request, limit, bytes);
      if (body === TOO_LARGE) return TOO_LARGE;
      const compared = Buffer.isBuffer(body) ? comparable(type, body) : body;
      return { query: queryForm(url.searchParams), body: compared };
    },
  };
}

/** A response that can be sent when its body has been looked at; of what is too long, the rest follows as it comes. */
export async function held(
  response: Response,
  maxBodyBytes: number,
): Promise<{ told: MadeResponse; response: Response }> {
  const body = new BodyBuffer(maxBodyBytes);
  const reader = response.body?.getReader();
  // After the body: some servers' own responses tell only then what type it has.
  const { status, headers } = response;
  while (reader && !body.isOver) {
    const { done, value } = await reader.read();
    if (done) break;
    body.add(value);
  }
  const told = { status, headers: [...headers], body: body.kept };
  if (!reader) return { told, response };
  const rest = body.isOver ? withRest(body.bytes, reader) : body.bytes;
  return { told, response: new Response(bodyOf(status, rest), response) };
}

export function toResponse({ status, headers, body }: HttpResponse): Response {
  return new Response(bodyOf(status, body), { status, headers: headers.map(([name, value]) => [name, value]) });
}

/** Of these a Response takes no body, not even an empty one; and to an empty one servers add a type. */
function bodyOf(status: number, body: Buffer | ReadableStream | null): ConstructorParameters<typeof Response>[0] {
  if ([101, 204, 205, 304].includes(status) || body === null || (body instanceof Buffer && body.length === 0))
    return null;
  return body as ConstructorParameters<typeof Response>[0];
}

function withRest(first: Buffer, reader: ReadableStreamDefaultReader<Uint8Array>): ReadableStream {
  return new ReadableStream({
    start: (controller) => controller.enqueue(new Uint8Array(first)),
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

async function bytesOf(
  request: Request,
  limit: number,
  read: (() => Promise<ArrayBuffer>) | undefined,
): Promise<Buffer | typeof TOO_LARGE> {
  const length = request.headers.get('content-length');
  if (Number(length ?? 0) > limit) return TOO_LARGE;
  if (read || length !== null) {
    // As a whole, where its length is told: a reader of a stream costs several times as much.
    const bytes = Buffer.from(await (read ? read() : request.clone().arrayBuffer()));
    return bytes.length > limit ? TOO_LARGE : bytes;
  }
  // The handler reads its own; what is compared is a copy.
  const body = new BodyBuffer(limit);
  const reader = request.clone().body?.getReader();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    body.add(value);
    if (body.isOver) {
      void reader.cancel();
      return TOO_LARGE;
    }
  }
  return body.bytes;
}

async function formOf(
  request: Request,
  limit: number,
  read: (() => Promise<ArrayBuffer>) | undefined,
): Promise<unknown | typeof TOO_LARGE> {
  const bytes = await bytesOf(request, limit, read);
  if (bytes === TOO_LARGE) return TOO_LARGE;
  const { headers } = request;
  try {
    const form = await new Response(bytes, {
      headers: { 'content-type': headers.get('content-type') ?? '' },
    }).formData();
    const parts = [];
    for (const [name, value] of form) {
      if (typeof value === 'string') parts.push([name, value]);
      else parts.push([name, value.name, value.type, comparable(null, Buffer.from(await value.arrayBuffer()))]);
    }
    return parts;
  } catch {
    // Not what it says: it is compared as it is.
    return bytes;
  }
}
