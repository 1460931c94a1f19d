/**
 * A line before Redis that does what networks do to bytes, whatever they say: takes time, is narrow, or is cut as a partition
 * cuts it. Then nothing is closed and nothing arrives, and what was sent meanwhile does when it heals.
 */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** Little enough for a narrow line to be one. */
const SLICE_BYTES = 1_024;

export class Line {
  /** How long each way takes. */
  latencyMs = 0;
  /** How many bytes the way back carries a second. */
  bytesPerSecond = Number.POSITIVE_INFINITY;
  readonly #sockets = new Set<Socket>();
  #isCut: (connection: number) => boolean = () => false;
  #healed = Promise.resolve();
  #heal = () => {};
  #connections = 0;

  private constructor(
    private readonly server: Server,
    private readonly redisPort: number,
  ) {
    server.on('connection', (client) => this.#serve(client));
  }

  /** Stopped with the test. */
  static async before(redisPort: number): Promise<Line> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const line = new Line(server, redisPort);
    onTestFinished(() => line.#stop());
    return line;
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.server.address() as { port: number }).port}`;
  }

  /** @param which connections, by their number, from 0; those that are made meanwhile as well */
  cut(which: (connection: number) => boolean = () => true): void {
    this.#isCut = which;
    this.#healed = new Promise((resolve) => {
      this.#heal = resolve;
    });
  }

  heal(): void {
    this.#isCut = () => false;
    this.#heal();
  }

  #serve(client: Socket): void {
    const number = this.#connections++;
    const upstream = createConnection(this.redisPort, '127.0.0.1');
    this.#carry(number, client, upstream, () => Number.POSITIVE_INFINITY);
    this.#carry(number, upstream, client, () => this.bytesPerSecond);
  }

  #carry(number: number, from: Socket, to: Socket, bytesPerSecond: () => number): void {
    this.#sockets.add(from);
    // One after the other, as they came.
    let last = Promise.resolve();
    const deliver = (arrive: () => void, bytes: number) => {
      const dueAt = performance.now() + this.latencyMs;
      last = last.then(async () => {
        await sleep(Math.max(dueAt - performance.now(), (bytes / bytesPerSecond()) * 1_000));
        while (this.#isCut(number)) await this.#healed;
        arrive();
      });
    };
    from.on('error', () => {});
    from.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
        const slice = chunk.subarray(at, at + SLICE_BYTES);
        deliver(() => to.write(slice), slice.length);
      }
    });
    from.once('close', () => {
      this.#sockets.delete(from);
      deliver(() => to.destroy(), 0);
    });
  }

  async #stop(): Promise<void> {
    this.heal();
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.server, 'close');
  }
}

function sleep(ms: number): Promise<void> | undefined {
  return ms > 0 ? new Promise((resolve) => setTimeout(resolve, ms)) : undefined;
}
