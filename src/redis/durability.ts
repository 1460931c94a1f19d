/**
 * Waiting until a completed record is where it survives: on replicas, in the append-only file.
 *
 * WAIT counts the writes of its own connection alone, and holds up what is behind it there. So it has a connection of the
 * library's own, which writes each record's expiry as it is and waits for that: replication is one sequence, and what came
 * before has then arrived as well. Calls that come while a WAIT is under way share the next one.
 */
import { createHash } from 'node:crypto';
import { monotonicMs } from '../clock.js';
import { InvalidOptionError, NotDurableError } from '../errors.js';
import type { DurabilitySettings } from '../settings.js';
import { Connection } from './connection.js';
import { ExchangeError, reasonOf } from './exchange.js';
import type { ServerConnection } from './ioredis.js';
import { ownConnection } from './own-connection.js';
import { SCRIPTS } from './scripts.generated.js';

/** A completed record, as its caller knows it. */
interface Ask {
  readonly key: string;
  readonly redisKey: string;
  readonly digest: string;
  settle(error?: Error): void;
}

/** The digest of what a record holds, nothing where it is not completed; and the server that has it, where that is known. */
interface Touched {
  readonly digest: string | undefined;
  readonly server: ServerConnection | undefined;
}

interface OwnRedis {
  readonly status: string;
  connect(): Promise<void>;
  disconnect(): void;
  on(event: 'error' | 'end', listener: () => void): unknown;
}

const LARGEST_ROUND = 128;

export class Durability {
  #own: (OwnRedis & Connection['redis']) | undefined;
  /** By server: what waits for the next round there. */
  readonly #queues = new Map<ServerConnection | Connection, Ask[]>();
  /** The connection that was found able to confirm. */
  #able: OwnRedis | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly settings: DurabilitySettings,
    private readonly redisTimeoutMs: number,
  ) {}

  /**
   * Can the server confirm what is asked for? Asked before anything is claimed.
   *
   * @throws InvalidOptionError where it cannot: WAITAOF is of Redis 7.2, and wants an append-only file; some services have no WAIT
   * @throws ExchangeError, `unsent`, where it is not reached, is a replica, or the user may not ask
   */
  async check(key: string): Promise<void> {
    const own = this.#open();
    if (own === this.#able) return;
    const { aof } = this.settings;
    const deadline = monotonicMs() + this.redisTimeoutMs;
    const connection = Connection.of(own);
    try {
      // Neither waits: nothing was written on this connection yet.
      if (aof) await connection.command('waitaof', ['1', '0', '1'], deadline);
      else await connection.command('wait', ['0', '1'], deadline);
      this.#able = own;
    } catch (error) {
      if ((error as ExchangeError).code === 'ERR') {
        // A replica confirms nothing either, and may be a primary soon.
        const info = await connection.command('info', ['replication'], deadline).catch(() => '');
        if (String(info).includes('role:slave')) {
          this.#giveUp(connection);
          throw new ExchangeError('unsent', 'READONLY', 'Redis is a read-only replica', { cause: error as Error });
        }
        const needed = aof
          ? '`durability.aof`: Redis 7.2 or later (WAITAOF), with `appendonly yes`'
          : '`durability.replicas` (WAIT)';
        throw new InvalidOptionError(`Expected a server that can confirm ${needed}`, { key, cause: error });
      }
      throw error instanceof ExchangeError ? error.as('unsent') : error;
    }
  }

  /**
   * Waits until the completed record, with that result, is confirmed: for twice `timeout` at most, where another's wait is
   * under way.
   *
   * @throws NotDurableError
   */
  async confirm({ key, redisKey }: { key: string; redisKey: string }, result: string | Buffer): Promise<void> {
    const digest = createHash('sha1').update(result).digest('hex');
    const connection = Connection.of(this.#open());
    await connection.ready(monotonicMs() + this.redisTimeoutMs).catch((error) => {
      throw notDurable(key, whyOf(error), error);
    });
    // Of a slot whose server is not known all go through the client, which then finds it.
    const server = connection.serverOf(redisKey) ?? connection;
    await new Promise<void>((resolve, reject) => {
      const ask: Ask = { key, redisKey, digest, settle: (error) => (error ? reject(error) : resolve()) };
      const queue = this.#queues.get(server);
      if (queue) queue.push(ask);
      else void this.#serve(connection, server, [ask]);
    });
  }

  close(): void {
    this.#own?.disconnect();
    this.#own = undefined;
  }

  /** Rounds at one server, until nobody waits. */
  async #serve(connection: Connection, server: ServerConnection | Connection, queue: Ask[]): Promise<void> {
    this.#queues.set(server, queue);
    while (queue.length > 0) {
      const asks = queue.splice(0, LARGEST_ROUND);
      try {
        await this.#round(connection, asks);
      } catch (error) {
        const failed = this.#giveUp(connection) ? [...asks, ...queue.splice(0)] : asks;
        for (const { key, settle } of failed) settle(notDurable(key, whyOf(error), error));
      }
    }
    this.#queues.delete(server);
  }

  async #round(connection: Connection, asks: readonly Ask[]): Promise<void> {
    const { epoch } = connection;
    const touched = await this.#touch(connection, asks);
    // Of one server, but where a slot is being moved.
    const present = new Map<ServerConnection, Ask[]>();
    for (const [index, ask] of asks.entries()) {
      const { digest, server } = touched[index] as Touched;
      if (digest !== ask.digest) ask.settle(notDurable(ask.key, 'its record is not the one of this result any more'));
      else if (!server) ask.settle(notDurable(ask.key, 'its slot is being moved'));
      else present.set(server, [...(present.get(server) ?? []), ask]);
    }
    for (const [server, there] of present) {
      const shortfall = await this.#wait(connection, server);
      // A connection that dropped has waited for nothing that was written before.
      const why = connection.epoch === epoch ? shortfall : 'the connection dropped';
      for (const { key, settle } of there) settle(why === undefined ? undefined : notDurable(key, why));
    }
  }

  /** Writes to each record, and tells what it holds, and where. */
  async #touch(connection: Connection, asks: readonly Ask[]): Promise<Touched[]> {
    const keys = asks.map(({ redisKey }) => redisKey);
    const lists = connection.isCluster ? keys.map((key) => [key]) : [keys];
    const deadline = monotonicMs() + this.redisTimeoutMs;
    const touch = (list: readonly string[]) => connection.run(SCRIPTS.touch, list, [], deadline);
    const answers = await Promise.all(
      lists.map(async (list) => {
        const answer = await touch(list);
        // A client that had to find the server knows it now.
        return answer.server ? answer : touch(list);
      }),
    );
    return answers.flatMap(({ entries, server }) =>
      entries.map(([status, word]) => {
        // Such as READONLY, of a server that was made a replica.
        if (String(status) === 'refused') throw new ExchangeError('refused', String(word), `Redis answered ${word}`);
        return { digest: String(status) === 'completed' ? String(word) : undefined, server };
      }),
    );
  }

  /** What is lacking when the time is over; nothing where all is confirmed. */
  async #wait(connection: Connection, server: ServerConnection): Promise<string | undefined> {
    const { replicas, aof, timeoutMs } = this.settings;
    const args = [String(replicas), String(timeoutMs)];
    const reply = await connection.within(
      aof ? server.call('waitaof', ['1', ...args]) : server.call('wait', args),
      monotonicMs() + timeoutMs + this.redisTimeoutMs,
    );
    const [files, confirmed] = (Array.isArray(reply) ? reply : [1, reply]).map(Number) as [number, number];
    if (files < 1) return 'the append-only file of the primary did not have it in time';
    return confirmed < replicas ? `${confirmed} of ${replicas} replicas had it in time` : undefined;
  }

  /** Whatever it was: a new connection finds the server that is there now. That of a Cluster finds them by itself. */
  #giveUp({ redis, isCluster }: Connection): boolean {
    if (isCluster || redis !== this.#own) return false;
    this.#own.disconnect();
    this.#own = undefined;
    return true;
  }

  #open(): OwnRedis & Connection['redis'] {
    // It never reconnects: one that has closed has ended, though a Cluster that never opened does not say so.
    if (!this.#own || /^(close|end)$/.test(this.#own.status)) {
      this.#own = ownConnection<OwnRedis & Connection['redis']>(this.connection);
      this.#own.on('error', () => {});
    }
    return this.#own;
  }
}

function whyOf(error: unknown): string {
  return error instanceof ExchangeError ? reasonOf(error) : 'Redis did not answer';
}

function notDurable(key: string, why: string, cause?: unknown): NotDurableError {
  return new NotDurableError(`The result is stored, and not known to be durable: ${why}. A later call asks again`, {
    key,
    cause,
  });
}
