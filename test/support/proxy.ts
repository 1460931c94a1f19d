/**
 * A TCP proxy before Redis that does to single commands what networks do: cuts before or after the server ran them, tears
 * them, loses one direction, delays, and delivers what was held back when nobody expects it any more.
 *
 * Commands of a connection are forwarded one at a time, so that each reply is known to be whose.
 */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { Redis } from 'ioredis';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { type RedisServer, startRedis } from './redis/index.js';
import { endOfValue, wordsOf } from './resp.js';

/** What becomes of a command. */
export type Fate =
  | 'pass'
  /** The connection drops and the server never sees the command. */
  | 'cut before'
  /** The server runs the command, and the connection drops before the answer. */
  | 'cut after'
  /** The server gets half of the command's bytes, then the connection drops. */
  | 'tear'
  /** Half-open: the command goes nowhere, and the connection stays silent. */
  | 'lose request'
  /** Half-open: the server runs the command, its answer goes nowhere, and the connection stays silent. */
  | 'lose reply'
  /** The connection drops, and the command reaches the server when the test says so. */
  | 'hold'
  /** The server runs the command now and once more when the test says so; the answer to the first is passed on. */
  | 'double'
  | { readonly delayMs: number };

export interface ProxiedCommand {
  /** In lower case: `evalsha`, `info`. */
  readonly name: string;
  /** The library's script that it runs. */
  readonly script: keyof typeof SCRIPTS | undefined;
  readonly words: readonly Buffer[];
}

const SCRIPT_BY_SHA = new Map(Object.values(SCRIPTS).map(({ sha1, name }) => [sha1 as string, name]));
const SCRIPT_BY_SOURCE = new Map(Object.values(SCRIPTS).map(({ source, name }) => [source as string, name]));

export class FaultProxy {
  /** Decides over each command of a script; everything else passes. */
  fate: (command: ProxiedCommand) => Fate = () => 'pass';
  /** How many commands each fate has befallen. */
  readonly counts = new Map<string, number>();
  readonly #held: Buffer[] = [];
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    private readonly redisPort: number,
  ) {
    server.on('connection', (client) => this.#serve(client));
  }

  static async start(redisPort: number): Promise<FaultProxy> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new FaultProxy(server, redisPort);
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.server.address() as { port: number }).port}`;
  }

  get heldCount(): number {
    return this.#held.length;
  }

  /** Delivers what was held back, oldest first or in the order given, each on a connection of its own; the server's answers. */
  async deliverHeld(order: (held: Buffer[]) => Buffer[] = (held) => held): Promise<string[]> {
    const answers: string[] = [];
    for (const request of order(this.#held.splice(0))) answers.push(await this.#deliver(request));
    return answers;
  }

  /** Lets everything pass, and forgets what was held back. */
  reset(): void {
    this.fate = () => 'pass';
    this.#held.length = 0;
    this.counts.clear();
  }

  /** Drops all connections that stand. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.server.close();
    this.cutAll();
    await once(this.server, 'close');
  }

  #connectUpstream(): Socket {
    const upstream = createConnection(this.redisPort, '127.0.0.1');
    upstream.on('error', () => {});
    this.#keep(upstream);
    return upstream;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  async #deliver(request: Buffer): Promise<string> {
    const upstream = this.#connectUpstream();
    upstream.write(request);
    const reply = await new ValueReader(upstream).next();
    upstream.destroy();
    return String(reply);
  }

  #serve(client: Socket): void {
    const upstream = this.#connectUpstream();
    this.#keep(client);
    client.on('error', () => {});
    const cut = () => {
      client.destroy();
      upstream.destroy();
    };
    client.once('close', cut);
    upstream.once('close', cut);
    const requests = new ValueReader(client);
    const replies = new ValueReader(upstream);
    void (async () => {
      for (;;) {
        const request = await requests.next();
        if (!request) return;
        const command = describe(request);
        if (command.name === 'subscribe') {
          // From here on the server speaks unasked.
          replies.pipeTo(client);
          requests.pipeTo(upstream);
          upstream.write(request);
          return;
        }
        await this.#befall(command.script ? this.fate(command) : 'pass', request, { client, upstream, replies, cut });
      }
    })();
  }

  async #befall(fate: Fate, request: Buffer, { client, upstream, replies, cut }: Conversation): Promise<void> {
    const name = typeof fate === 'string' ? fate : 'delay';
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    if (typeof fate !== 'string') await new Promise((resolve) => setTimeout(resolve, fate.delayMs));
    switch (fate) {
      case 'cut before':
        return cut();
      case 'hold':
        this.#held.push(request);
        return cut();
      case 'tear':
        upstream.write(request.subarray(0, request.length / 2), cut);
        return;
      case 'lose request':
        return new Promise<never>(() => {});
      case 'double':
        this.#held.push(request);
    }
    upstream.write(request);
    const reply = await replies.next();
    if (fate === 'cut after') return cut();
    if (fate === 'lose reply') return new Promise<never>(() => {});
    if (reply) client.write(reply);
  }
}

interface Conversation {
  readonly client: Socket;
  readonly upstream: Socket;
  readonly replies: ValueReader;
  readonly cut: () => void;
}

function describe(request: Buffer): ProxiedCommand {
  const words = wordsOf(request);
  const name = String(words[0]).toLowerCase();
  const text = String(words[1]);
  const script =
    name === 'evalsha' ? SCRIPT_BY_SHA.get(text) : name === 'eval' ? SCRIPT_BY_SOURCE.get(text) : undefined;
  return { name, script, words };
}

/** Reads a socket value by value. */
class ValueReader {
  #bytes = Buffer.alloc(0);
  #more: (() => void) | undefined;
  #ended = false;

  constructor(private readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#more?.();
    });
    socket.once('close', () => {
      this.#ended = true;
      this.#more?.();
    });
  }

  /** The bytes of the next whole value; nothing where the socket has closed before its end. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      const end = this.#bytes.length > 0 ? endOfValue(this.#bytes) : -1;
      if (end !== -1) {
        const value = this.#bytes.subarray(0, end);
        this.#bytes = this.#bytes.subarray(end);
        return value;
      }
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#more = resolve;
      });
    }
  }

  /** Passes on what was read and what comes, as it is. */
  pipeTo(other: Socket): void {
    this.socket.removeAllListeners('data');
    if (this.#bytes.length > 0) other.write(this.#bytes);
    this.socket.on('data', (chunk) => other.write(chunk));
  }
}

/** A server behind a proxy. It knows the scripts: an answer that is lost is then one of a script that ran. */
export async function startProxied(): Promise<{ server: RedisServer; proxy: FaultProxy }> {
  const server = await startRedis();
  const redis = new Redis(server.url);
  for (const { source } of Object.values(SCRIPTS)) await redis.script('LOAD', source);
  redis.disconnect();
  return { server, proxy: await FaultProxy.start(server.port) };
}
