/** A client that sends what it is told, header lines as they are, and tells the bytes of what comes. */
import { request } from 'node:http';

export interface Sending {
  readonly method?: string;
  readonly path: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: string | Buffer;
}

export interface Received {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
}

export function send(url: string, { method = 'POST', path, headers = [], body }: Sending): Promise<Received> {
  const { hostname, port, host } = new URL(url);
  // Lines that are given as they are get no others beside them.
  const lines = [['host', host], ['connection', 'close'], ...headers];
  if (method !== 'GET') lines.push(['content-length', String(Buffer.byteLength(body ?? ''))]);
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, method, path, headers: lines.flat() as never, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
