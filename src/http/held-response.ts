/**
 * A response of Node's that is held back: what the handler writes is gathered, and sent when that is said; or another is
 * sent in its place. The methods are wrapped once and stay, so that others may wrap them before and after (compression,
 * say): what they make of a response is what is gathered, or what becomes of it when it is sent.
 */
import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { BodyBuffer } from './body.js';
import type { MadeResponse } from './exchange.js';
import type { HttpResponse } from './response.js';

type Callback = (error?: Error | null) => void;
type Method = (...args: never[]) => unknown;

export class HeldResponse {
  /** Resolves when the handler has ended its response, or has written more than is kept; to null when it destroys it. */
  readonly made: Promise<MadeResponse | null>;
  readonly #made: { resolve: (response: MadeResponse | null) => void };
  readonly #body: BodyBuffer;
  readonly #before: Head;
  /** As it was when the response was made: what an error handler does to it later is too late. */
  #head: Head | undefined;
  #isClosed = false;
  /** Has the handler thrown, and does an error handler answer for it? */
  threw = false;
  /** What comes before: those who wrapped later have had their turn when the handler wrote. */
  readonly #originals: Record<'write' | 'end', (...args: unknown[]) => unknown>;
  /** What follows passes, is gathered, or is dropped since another response was sent. */
  #state: 'gathers' | 'passes' | 'drops' = 'gathers';
  #ended = false;
  #whenEnded: Callback | undefined;

  constructor(
    private readonly res: ServerResponse,
    maxBodyBytes: number,
  ) {
    this.#body = new BodyBuffer(maxBodyBytes);
    this.#before = headOf(res);
    this.#originals = { write: res.write.bind(res) as never, end: res.end.bind(res) as never };
    const made: { resolve?: (response: MadeResponse | null) => void } = {};
    this.made = new Promise((resolve) => {
      made.resolve = resolve;
    });
    this.#made = made as { resolve: (response: MadeResponse | null) => void };
    this.#wrap('writeHead', (...args) => {
      setHead(res, args);
      return res;
    });
    this.#wrap('flushHeaders', () => undefined);
    this.#wrap('write', (chunk, encoding, callback) => this.#write(chunk, encoding, callback));
    this.#wrap('end', (chunk, encoding, callback) => this.#end(chunk, encoding, callback));
    this.#wrapEvents();
  }

  /** Sends what the handler wrote; what it goes on writing passes. */
  send(): void {
    const { res } = this;
    this.#pass();
    if (this.#head) restore(res, this.#head);
    if (this.#ended) {
      // One write: Node gives it a Content-Length where the handler gave none.
      if (this.#body.isEmpty) this.#originals.end(this.#whenEnded);
      else this.#originals.end(this.#body.bytes, this.#whenEnded);
      return;
    }
    this.#originals.write(this.#body.bytes);
    // It was told to wait.
    res.emit('drain');
  }

  /** Sends another response; what the handler wrote, and goes on writing, is dropped. */
  replace(response: HttpResponse): void {
    this.forget();
    setResponse(this.res, response);
    this.#originals.end(response.body?.length ? response.body : undefined);
    this.#state = 'drops';
    this.#ignoreHeaders();
  }

  /** As if the handler had written nothing: what is written from now on passes. */
  forget(): void {
    this.#pass();
    if (!this.res.headersSent) restore(this.res, this.#before);
  }

  /** The handler may answer yet, from where nobody would catch that the headers are sent. */
  #ignoreHeaders(): void {
    const { res } = this;
    for (const name of ['setHeader', 'setHeaders', 'appendHeader', 'removeHeader'] as const) {
      const original = (res[name] as Method).bind(res);
      const value = (...args: never[]) => (this.#isLeaving ? original(...args) : res);
      Object.defineProperty(res, name, { value, configurable: true, writable: true });
    }
  }

  /** Another response takes the place of the handler's, and who wraps it, as compression does, may send its head later. */
  get #isLeaving(): boolean {
    return this.#state === 'drops' && !this.res.headersSent;
  }

  #pass(): void {
    this.#state = 'passes';
    if (this.#isClosed) this.res.emit('close');
    this.#isClosed = false;
  }

  /** A client that hangs up is told of later: streams would end there, and the response would never be made. */
  #wrapEvents(): void {
    const { res } = this;
    const [emit, destroy] = [res.emit.bind(res), res.destroy.bind(res)];
    res.emit = (event: string, ...args: unknown[]) => {
      if (event !== 'close' || this.#state !== 'gathers') return emit(event, ...args);
      this.#isClosed = true;
      return true;
    };
    res.destroy = (error) => {
      if (this.#state === 'gathers') this.#made.resolve(null);
      return destroy(error);
    };
  }

  #wrap(name: 'writeHead' | 'flushHeaders' | 'write' | 'end', gather: (...args: unknown[]) => unknown): void {
    const { res } = this;
    const original = res[name].bind(res) as Method;
    const wrapped = (...args: never[]) => {
      if (this.#state === 'passes' || (name === 'writeHead' && this.#isLeaving)) return original(...args);
      if (this.#state === 'gathers' && !this.#ended) return gather(...args);
      callbackIn(args)?.();
      return name === 'write' ? true : res;
    };
    Object.defineProperty(res, name, { value: wrapped, configurable: true, writable: true });
  }

  #write(...args: unknown[]): boolean {
    this.#add(args);
    const callback = callbackIn(args);
    if (callback) process.nextTick(callback);
    return !this.#body.isOver;
  }

  #end(...args: unknown[]): ServerResponse {
    this.#add(args);
    this.#ended = true;
    this.#whenEnded = callbackIn(args);
    this.#tellMade();
    return this.res;
  }

  #add([chunk, encoding]: unknown[]): void {
    checkStatus(this.res.statusCode);
    if (typeof chunk === 'string') this.#body.add(Buffer.from(chunk, encodingIn(encoding)));
    else if (chunk instanceof Uint8Array) this.#body.add(chunk);
    if (this.#body.isOver) this.#tellMade();
  }

  #tellMade(): void {
    if (this.#head) return;
    const { res } = this;
    // An error handler's, after a part of another body.
    if (this.#ended && !this.#body.isEmpty && res.hasHeader('content-length')) {
      res.setHeader('content-length', this.#body.length);
    }
    this.#head = headOf(res);
    const { threw } = this;
    this.#made.resolve({
      status: res.statusCode,
      headers: headerLines(res.getHeaders()),
      body: this.#body.kept,
      threw,
    });
  }
}

interface Head {
  readonly status: number;
  readonly message: string;
  readonly headers: readonly (readonly [string, OutgoingHttpHeader | undefined])[];
}

function headOf(res: ServerResponse): Head {
  // As they are spelt; Node has it since 15, its types have not.
  const names = (res as unknown as { getRawHeaderNames(): string[] }).getRawHeaderNames();
  const headers = names.map((name) => [name, res.getHeader(name)] as const);
  return { status: res.statusCode, message: res.statusMessage, headers };
}

function restore(res: ServerResponse, { status, message, headers }: Head): void {
  res.statusCode = status;
  res.statusMessage = message;
  for (const name of res.getHeaderNames()) res.removeHeader(name);
  for (const [name, value] of headers) {
    if (value !== undefined) res.setHeader(name, value);
  }
}

/** @throws RangeError where Node would, to the handler */
function checkStatus(status: unknown): void {
  if (!Number.isInteger(status) || (status as number) < 100 || (status as number) > 999) {
    throw new RangeError(`Invalid status code: ${status}`);
  }
}

/** Sends a response that is whole, beside the headers that are set. */
export function sendResponse(res: ServerResponse, response: HttpResponse): void {
  setResponse(res, response);
  if (response.body?.length) res.end(response.body);
  else res.end();
}

function setResponse(res: ServerResponse, { status, headers }: HttpResponse): void {
  res.statusCode = status;
  for (const [name, value] of headers) res.setHeader(name, value);
}

export function headerLines(headers: Record<string, OutgoingHttpHeader | undefined>): [string, string][] {
  return Object.entries(headers).flatMap(([name, value]) => {
    if (value === undefined) return [];
    return [[name, Array.isArray(value) ? value.join(', ') : String(value)] as [string, string]];
  });
}

/** `writeHead(status, message?, headers?)`, its headers an object, a flat list or a list of pairs. */
function setHead(res: ServerResponse, [status, ...rest]: unknown[]): void {
  checkStatus(status);
  res.statusCode = status as number;
  if (typeof rest[0] === 'string') res.statusMessage = rest[0];
  const headers = rest.find((arg) => typeof arg === 'object' && arg !== null);
  if (Array.isArray(headers)) {
    const flat = (Array.isArray(headers[0]) ? headers.flat() : headers) as OutgoingHttpHeader[];
    const values = new Map<string, OutgoingHttpHeader[]>();
    for (let at = 0; at + 1 < flat.length; at += 2) {
      const name = String(flat[at]);
      values.set(name, [...(values.get(name) ?? []), flat[at + 1] as OutgoingHttpHeader].flat());
    }
    for (const [name, list] of values) res.setHeader(name, (list.length === 1 ? list[0] : list) as string | string[]);
  } else {
    for (const [name, value] of Object.entries((headers ?? {}) as OutgoingHttpHeaders)) {
      if (value !== undefined) res.setHeader(name, value);
    }
  }
}

function callbackIn(args: readonly unknown[]): Callback | undefined {
  return args.find((arg): arg is Callback => typeof arg === 'function');
}

function encodingIn(value: unknown): BufferEncoding {
  return typeof value === 'string' && Buffer.isEncoding(value) ? value : 'utf8';
}
