/**
 * One exchange with Redis, with a deadline of its own and a failure that says what is known.
 *
 * ioredis may hold a command back, resend it after a reconnect, or never settle it, all by its options. So scripts go
 * only to a connection that is ready, every exchange has the library's deadline, and what comes of it is one of: an
 * answer, surely nothing (`unsent`, `refused`), or unknown.
 */
import calculateSlot from 'cluster-key-slot';
import { monotonicMs } from '../clock.js';
import { ExchangeError, explain, withDeadline } from './exchange.js';
import {
  type ClusterConnection,
  type Node,
  type RedisConnection,
  replyError,
  type ServerConnection,
  type SingleConnection,
} from './ioredis.js';
import type { SCRIPTS } from './scripts.generated.js';

export type ScriptText = (typeof SCRIPTS)[keyof typeof SCRIPTS];

export interface ScriptAnswer {
  /** One flat array a key, a status word first. */
  readonly entries: (Buffer | number)[][];
  /** The connection provably did not drop between sending and answer, so the script ran once. */
  readonly steady: boolean;
  /** When the copy that may have run first was handed over, on the monotonic clock. */
  readonly sentAt: number;
  /** Where it ran; not known where the client was left to find it. */
  readonly server: ServerConnection | undefined;
}

const PAUSE_MS = 20;
/** A connection to a node is opened by its first command. */
const USABLE = /^(wait|connecting|connect|ready)$/;

const connections = new WeakMap<RedisConnection, Connection>();

export class Connection {
  /** The library's view of a caller's connection: one for all Dedups on it, so that its listeners are added once. */
  static of(redis: RedisConnection): Connection {
    const connection = connections.get(redis) ?? new Connection(redis);
    connections.set(redis, connection);
    return connection;
  }

  /**
   * Itself, or the connection that it stands in for as one of another process (src/testing): what is compared where a set, or
   * a handler that the present code runs in, must be of the same connection.
   */
  origin: Connection = this;
  /** Rises whenever the connection drops; in Cluster, whenever one to a node does. */
  epoch = 0;
  readonly #statusListeners = new Set<() => void>();
  /** The epoch whose connection was left for what its server refused. */
  #leftEpoch = -1;

  private constructor(readonly redis: RedisConnection) {
    const told = () => {
      for (const listener of [...this.#statusListeners]) listener();
    };
    const dropped = () => {
      this.epoch += 1;
    };
    redis.on('close', dropped);
    if (redis.isCluster) {
      // What was under way on a node's connection is sent again only after that has dropped.
      const cluster = this.#cluster;
      for (const node of cluster.nodes('all')) node.on('close', dropped);
      cluster.on('+node', (node) => node.on('close', dropped));
    }
    redis.on('ready', told);
    redis.on('end', told);
  }

  get isCluster(): boolean {
    return this.redis.isCluster;
  }

  /** Where it is no Cluster, or for what both have. */
  get #single(): SingleConnection {
    return this.redis as unknown as SingleConnection;
  }

  get #cluster(): ClusterConnection {
    return this.redis as unknown as ClusterConnection;
  }

  get keyPrefix(): string {
    return String(this.redis.options.keyPrefix ?? '');
  }

  /** Calls back at every `ready` and `end` of the connection. Returns what takes the listener away. */
  onStatus(listener: () => void): () => void {
    this.#statusListeners.add(listener);
    return () => this.#statusListeners.delete(listener);
  }

  /** Whatever is handed over meanwhile leaves in one write per server. */
  together(send: () => void): void {
    // A connection that is not open yet has no stream; one that drops meanwhile, another.
    const streams = this.primaries.map(({ stream }) => stream);
    for (const stream of streams) stream?.cork?.();
    try {
      send();
    } finally {
      for (const stream of streams) stream?.uncork?.();
    }
  }

  /**
   * Runs a script over a list of keys, in Cluster at the server of their slot: where that cannot run it now (TRYAGAIN,
   * CLUSTERDOWN) it says so, while the client would go on asking, past the deadline.
   *
   * @param deadline on the monotonic clock
   * @throws ExchangeError when there is no answer by the deadline, or a refusal
   */
  async run(
    script: ScriptText,
    keys: readonly (string | Buffer)[],
    args: readonly (string | number | Buffer)[],
    deadline: number,
  ): Promise<ScriptAnswer> {
    if (this.redis.status !== 'ready') await this.ready(deadline);
    const { epoch } = this;
    const sentAt = monotonicMs();
    const steady = () => this.epoch === epoch;
    let node = this.isCluster ? this.#nodeOf(keys[0] as string) : undefined;
    let [isKnown, isAsked] = [true, false];
    for (;;) {
      try {
        const redis = node ?? this.#single;
        // Nested, as ioredis takes them: a call's arguments proper are limited by the stack.
        const rest = [keys.length, node ? this.#prefixedFor(node, keys) : keys, args] as const;
        if (isAsked) redis.asking().catch(() => {});
        const sent = isKnown ? redis.evalshaBuffer(script.sha1, ...rest) : redis.evalBuffer(script.source, ...rest);
        const entries = (await withDeadline(sent, deadline)) as (Buffer | number)[][];
        const server = this.isCluster ? node : this.#single;
        return { entries, steady: steady(), sentAt, server };
      } catch (error) {
        const [, word, address] = /^(NOSCRIPT|(?:MOVED|ASK) \d+)(?: (\S+))?/.exec((error as Error).message) ?? [];
        if (word === 'NOSCRIPT' && isKnown) isKnown = false;
        else if (node && word && word !== 'NOSCRIPT') {
          // What the slot's server has not is asked of the one that it is moved to. Any other way the client finds, and keeps.
          node = word.startsWith('ASK') && !isAsked ? this.#nodeAt(address) : undefined;
          isAsked = node !== undefined;
        } else throw explain(error, steady(), sentAt);
      }
    }
  }

  /**
   * Runs a plain command that may be sent again, whose arguments are no payload. A refusal that passes by itself is asked
   * again until the deadline.
   *
   * @throws ExchangeError as `run`
   */
  async command(name: string, args: string[], deadline: number): Promise<unknown> {
    for (;;) {
      await this.ready(deadline);
      try {
        return await this.within(this.redis.call(name, args), deadline);
      } catch (error) {
        if (!(error as ExchangeError).passes || monotonicMs() + PAUSE_MS >= deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  /**
   * What a command that is under way comes to.
   *
   * @throws ExchangeError as `run`
   */
  async within<T>(reply: Promise<T>, deadline: number): Promise<T> {
    try {
      return await withDeadline(reply, deadline);
    } catch (error) {
      throw explain(error, false, monotonicMs());
    }
  }

  /**
   * One entry of a list was refused. The list was answered, so that ioredis has seen no error: its `reconnectOnError` is
   * asked here as it would ask it itself. So a primary that was made a replica is left where ioredis is told to leave it.
   */
  entryRefused(code: string): void {
    if (this.isCluster || this.#leftEpoch === this.epoch) return;
    const redis = this.#single;
    if (!redis.options.reconnectOnError?.(replyError(code))) return;
    this.#leftEpoch = this.epoch;
    redis.disconnect(true);
  }

  /** Every primary: of a Cluster that is ready all that it knows, else the one server. */
  get primaries(): readonly Node[] {
    return this.isCluster ? this.#cluster.nodes('master') : [this.#single];
  }

  /** The connection to the server that has a key; none where that is not known. */
  serverOf(key: string): ServerConnection | undefined {
    return this.isCluster ? this.#nodeOf(key) : this.#single;
  }

  #nodeOf(key: string): Node | undefined {
    const { slots } = this.#cluster;
    return this.#nodeAt(slots[calculateSlot(this.keyPrefix + key)]?.[0]);
  }

  #nodeAt(address: string | undefined): Node | undefined {
    return this.primaries.find(
      ({ status, options }) => USABLE.test(status) && `${options.host}:${options.port}` === address,
    );
  }

  /** Keys as the client itself would prefix them for a server. */
  #prefixedFor({ options }: Node, keys: readonly (string | Buffer)[]): readonly (string | Buffer)[] {
    const { keyPrefix } = this;
    if (keyPrefix === '' || options.keyPrefix) return keys;
    return keys.map((key) =>
      typeof key === 'string' ? keyPrefix + key : Buffer.concat([Buffer.from(keyPrefix), key]),
    );
  }

  /**
   * Returns when the connection is ready; opens one that waits to be.
   *
   * @throws ExchangeError, `unsent`
   */
  async ready(deadline: number): Promise<void> {
    while (this.redis.status !== 'ready') {
      if (this.redis.status === 'end') {
        throw new ExchangeError('unsent', null, 'The connection to Redis is closed');
      }
      if (this.redis.status === 'wait') this.redis.connect().catch(() => {});
      if (!(await this.#statusChange(deadline))) {
        throw new ExchangeError(
          'unsent',
          null,
          `Redis was not reached in time (the connection is \`${this.redis.status}\`)`,
        );
      }
    }
  }

  /** Waits for `ready` or `end`; false when the deadline comes first. */
  #statusChange(deadline: number): Promise<boolean> {
    return new Promise((resolve) => {
      const done = (changed: boolean) => {
        clearTimeout(timer);
        off();
        resolve(changed);
      };
      const timer = setTimeout(done, Math.max(0, deadline - monotonicMs()), false);
      const off = this.onStatus(() => done(true));
    });
  }
}
