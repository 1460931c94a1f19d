/**
 * A consumer group as one of its consumers has it: every command on the stream.
 *
 * What makes the group and hands out entries goes by a connection of its own, since it blocks, and which prefixes no key:
 * ioredis 5 leaves that out for XGROUP. All else goes by the caller's.
 */
import type { Parts } from '../call/parts.js';
import { Connection } from '../redis/connection.js';
import { ExchangeError } from '../redis/exchange.js';
import { ownConnection } from '../redis/own-connection.js';
import type { ScriptCall, ScriptReply } from '../redis/scripts.js';
import type { Held } from './hand.js';
import { type Entry, messageOf, type StreamMessage } from './message.js';

/** Who reads what. */
export interface Place {
  readonly stream: string;
  readonly group: string;
  readonly consumer: string;
}

/** Entries of consumers that have not been heard of. */
export interface TakenOver {
  readonly messages: readonly StreamMessage[];
  /** Ids of entries that were removed from the stream before they were done. */
  readonly trimmed: readonly string[];
  /** Not all of the group's pending entries were looked at. */
  readonly more: boolean;
}

type Reader = Connection['redis'] & {
  disconnect(): void;
  on(event: 'error' | 'end', listener: () => void): unknown;
};

const START = '0-0';

export class Group {
  #reader: Promise<Reader> | undefined;
  #cursor = START;

  /** @param claimIdleMs after so long without a word an entry may be taken over */
  constructor(
    private readonly parts: Parts,
    private readonly place: Place,
    private readonly claimIdleMs: number,
  ) {}

  /**
   * Makes the group, and the stream, where they are missing.
   *
   * @throws ExchangeError, as all methods here
   */
  async create(startId: string): Promise<void> {
    const { connection, scripts } = this.parts;
    const deadline = scripts.deadline();
    // A server that is away for a moment is waited for; the reader's connection is tried once.
    await connection.ready(deadline);
    try {
      const reader = Connection.of(await this.#connected());
      await reader.command('xgroup', ['CREATE', this.#key, this.place.group, startId, 'MKSTREAM'], deadline);
    } catch (error) {
      if ((error as ExchangeError).code === 'BUSYGROUP') return;
      this.close();
      throw error;
    }
  }

  /** Entries that no consumer of the group has been given. */
  async read(count: number, blockMs: number): Promise<StreamMessage[]> {
    const { group, consumer } = this.place;
    const block = blockMs > 0 ? ['BLOCK', blockMs] : [];
    const args = ['GROUP', group, consumer, 'COUNT', count, ...block, 'STREAMS', this.#key, '>'];
    const reply = (await this.#ask('xreadgroup', args, blockMs)) as [unknown, Entry[]][] | null;
    return (reply?.[0]?.[1] ?? []).map((entry) => messageOf(entry, 1));
  }

  async takeOver(count: number): Promise<TakenOver> {
    const { group, consumer } = this.place;
    const args = [this.#key, group, consumer, this.claimIdleMs, this.#cursor, 'COUNT', count];
    const reply = (await this.#ask('xautoclaim', args)) as [Buffer, Entry[], Buffer[]];
    const [cursor, entries, trimmed] = reply;
    this.#cursor = String(cursor);
    const messages = await Promise.all(entries.map((entry) => this.#withDeliveries(entry)));
    return {
      messages: messages.filter((message) => message !== undefined),
      trimmed: trimmed.map(String),
      more: this.#cursor !== START,
    };
  }

  /** Nothing where the entry was acknowledged, or taken by another, meanwhile. */
  async #withDeliveries(entry: Entry): Promise<StreamMessage | undefined> {
    const { group, consumer } = this.place;
    const id = String(entry[0]);
    const reply = await this.#ask('xpending', [this.#key, group, id, id, 1, consumer]);
    const [pending] = reply as [unknown, unknown, unknown, deliveries: number][];
    return pending && messageOf(entry, Number(pending[3]));
  }

  async acknowledge(id: string): Promise<void> {
    const { stream, group } = this.place;
    const { connection, scripts } = this.parts;
    await connection.command('xack', [stream, group, id], scripts.deadline());
  }

  /** Says that this consumer is still at work on them. One that was handed out again since is not its own any more. */
  async keep(held: readonly Held[]): Promise<void> {
    const calls = held.map((one) => this.#holding(one, 0, one.handedOut));
    for (const answer of await this.parts.scripts.callMany('hold', calls)) {
      if (answer instanceof ExchangeError) throw answer;
    }
  }

  /** Leaves the entry to whoever looks for idle ones when so many ms have passed, as if it had not been handed out. */
  async giveBack(held: Pick<Held, 'message' | 'handedOut'>, inMs: number): Promise<void> {
    const idleMs = Math.max(0, Math.ceil(this.claimIdleMs - inMs));
    const { redisKey, args } = this.#holding(held, idleMs, held.message.deliveries - 1);
    await this.parts.scripts.call('hold', redisKey, args);
  }

  #holding(
    { message: { id }, handedOut }: Pick<Held, 'message' | 'handedOut'>,
    idleMs: number,
    asDeliveries: number,
  ): ScriptCall<'hold'> {
    const { stream, group, consumer } = this.place;
    const args = { group, consumer, id, deliveries: handedOut, idle_ms: idleMs, as_deliveries: asDeliveries };
    return { redisKey: stream, args };
  }

  /** @param words names and values, put behind the entry's own */
  bury(
    { message: { id }, handedOut }: Held,
    deadLetter: string,
    words: readonly string[],
  ): Promise<ScriptReply<'bury'>> {
    const { stream, group, consumer } = this.place;
    const effects = { keys: [deadLetter], plan: '1', words, alone: false };
    return this.parts.scripts.call('bury', stream, { group, consumer, id, deliveries: handedOut }, { effects });
  }

  /** Closes the connection of its own. */
  close(): void {
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.then(
      (open) => open.disconnect(),
      () => {},
    );
  }

  /** The stream as Redis has it. */
  get #key(): string {
    return this.parts.connection.keyPrefix + this.place.stream;
  }

  async #ask(name: string, args: (string | number)[], waitMs = 0): Promise<unknown> {
    const { connection, scripts } = this.parts;
    try {
      const reader = await this.#connected();
      return await connection.within(reader.callBuffer(name, args), scripts.deadline() + waitMs);
    } catch (error) {
      // Whatever it was: a new connection finds the server that is there now.
      this.close();
      throw error;
    }
  }

  #connected(): Promise<Reader> {
    this.#reader ??= this.#open();
    return this.#reader;
  }

  async #open(): Promise<Reader> {
    const { connection, scripts } = this.parts;
    if (connection.redis.status === 'end') {
      throw new ExchangeError('unsent', null, 'The connection to Redis is closed');
    }
    const reader = ownConnection<Reader>(connection, { keyPrefix: '' });
    reader.on('error', () => {});
    try {
      await connection.within(reader.connect(), scripts.deadline());
    } catch (error) {
      reader.disconnect();
      throw error;
    }
    return reader;
  }
}
