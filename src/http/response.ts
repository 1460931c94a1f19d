/** A response as it is stored and told again: status, a few headers, and the bytes of its body. */
import { type Codec, parseStored } from '../codec.js';

export interface HttpResponse {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Null where it is longer than what is kept. */
  readonly body: Buffer | null;
}

/** What makes bytes a body: of which type, and how compressed. */
const ALWAYS_STORED = ['content-type', 'content-encoding'];
/** Of one client, of one connection, or of other bytes: never to be told again. */
const NEVER_STORED = [
  'set-cookie',
  'content-length',
  'connection',
  'date',
  'keep-alive',
  'proxy-authenticate',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

/**
 * @param names lower case
 * @returns those of the headers that are stored
 */
export function storedHeaders(headers: Iterable<readonly [string, string]>, names: readonly string[]) {
  const stored = [...names, ...ALWAYS_STORED];
  return [...headers].filter(([name]) => stored.includes(name.toLowerCase()));
}

export function isNeverStored(name: string): boolean {
  return NEVER_STORED.includes(name.toLowerCase());
}

interface Head {
  readonly status: number;
  readonly headers: HttpResponse['headers'];
  readonly large?: true;
}

/** The length of the head in 4 bytes, the head in JSON, and the body as it is. */
export const responseCodec: Codec = {
  encode(value: unknown): Buffer {
    const { status, headers, body } = value as HttpResponse;
    const head: Head = body ? { status, headers } : { status, headers: [], large: true };
    const json = Buffer.from(JSON.stringify(head));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(json.length);
    return Buffer.concat([length, json, body ?? Buffer.alloc(0)]);
  },
  decode(bytes: Buffer): HttpResponse {
    const end = 4 + bytes.readUInt32BE(0);
    const { status, headers, large } = parseStored(bytes.toString('utf8', 4, end)) as Head;
    return { status, headers, body: large ? null : bytes.subarray(end) };
  },
};
