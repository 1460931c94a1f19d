/** A proxy before Redis that changes nothing and counts what passes: commands, writes of the client, and turns. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, Socket } from 'node:net';
import { endOfValue, wordsOf } from './resp.js';

export class Wire {
  /** In lower case, in their order. */
  commands: string[] = [];
  /** How often the client spoke after the server had: what a caller far away would wait for. */
  turns = 0;
  /** How often a client handed bytes to its socket. */
  writes = 0;
  #lastSpoke: 'client' | 'server' = 'server';

  private constructor(
    private readonly server: Server,
    private readonly sockets: ReadonlySet<Socket>,
  ) {}

  static async before(redisUrl: string): Promise<Wire> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const sockets = new Set<Socket>();
    const wire = new Wire(server, sockets);
    server.on('connection', (client) => {
      const { hostname, port } = new URL(redisUrl);
      const upstream = createConnection(Number(port), hostname);
      for (const [one, other] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        sockets.add(one);
        one.on('error', () => {});
        one.once('close', () => other.destroy());
      }
      let unread: Buffer = Buffer.alloc(0);
      client.on('data', (chunk: Buffer) => {
        if (wire.#lastSpoke === 'server') wire.turns += 1;
        wire.#lastSpoke = 'client';
        unread = wire.#read(Buffer.concat([unread, chunk]));
        upstream.write(chunk);
      });
      upstream.on('data', (chunk: Buffer) => {
        wire.#lastSpoke = 'server';
        client.write(chunk);
      });
    });
    watchWrites(wire);
    return wire;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  reset(): void {
    this.commands = [];
    this.turns = 0;
    this.writes = 0;
  }

  async stop(): Promise<void> {
    watching.delete(this);
    if (watching.size === 0) Socket.prototype.write = write;
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await once(this.server, 'close');
  }

  /** What is left of the bytes after the whole commands in them. */
  #read(bytes: Buffer): Buffer {
    let rest: Buffer = bytes;
    for (let end = endOfValue(rest); rest.length > 0 && end !== -1; end = rest.length > 0 ? endOfValue(rest) : -1) {
      this.commands.push(String(wordsOf(rest.subarray(0, end))[0]).toLowerCase());
      rest = rest.subarray(end);
    }
    return rest;
  }
}

const watching = new Set<Wire>();
const { write } = Socket.prototype;

function watchWrites(wire: Wire): void {
  watching.add(wire);
  Socket.prototype.write = function (this: Socket, ...args: unknown[]) {
    // Before it is connected a socket has no port yet; ioredis writes when it is.
    for (const one of watching) if (this.remotePort === one.port) one.writes += 1;
    return (write as (...args: unknown[]) => boolean).apply(this, args);
  };
}
