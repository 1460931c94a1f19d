/**
 * The way between the library's own `Scripts` and the server: it loses requests and answers, doubles them, holds whole
 * lists back and lets them go later. What the server does with each list is told together with what it left behind.
 *
 * The clock is the simulation's: where a script asks for the TIME, its text is made to read a key instead.
 */
import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { Redis } from 'ioredis';
import { Connection } from '../../src/redis/connection.js';
import type { RedisConnection } from '../../src/redis/ioredis.js';
import { SCRIPTS } from '../../src/redis/scripts.generated.js';
import { Scripts } from '../../src/redis/scripts.js';
import type { Fate } from './history.js';
import type { Message } from './message.js';

export const CLOCK_KEY = 'clock';
/** Longer than any simulation takes, by its own clock. */
const NO_DEADLINE_MS = 100_000_000;

type Word = string | number | Buffer;

/** A list on its way. */
export interface Exchange {
  /** What its entries are, in their order. */
  readonly messages: readonly Message[];
  readonly script: { readonly sha1: string; readonly source: string };
  readonly keys: readonly Word[];
  readonly args: readonly Word[];
}

interface Scripting {
  evalshaBuffer(...args: (Word | readonly Word[])[]): Promise<unknown>;
  evalBuffer(...args: (Word | readonly Word[])[]): Promise<unknown>;
}

/** What leaves in one turn. */
interface Wave {
  readonly answers: Promise<unknown>[];
  readonly over: Promise<unknown>;
}

/** The script whose clock the simulation holds, by the sha1 or the text of the library's. */
const clocked = new Map<string, Exchange['script']>();

/** @param change breaks scripts on purpose */
export function holdClock(change = (_name: string, text: string) => text): void {
  for (const { name, sha1, source } of Object.values(SCRIPTS)) {
    const held = source.replaceAll('redis.call("TIME")', `{ 0, redis.call("GET", "${CLOCK_KEY}") }`);
    const text = change(name, held);
    const script = { sha1: createHash('sha1').update(text).digest('hex'), source: text };
    clocked.set(sha1, script).set(source, script);
  }
}

holdClock();

export type Entries = (Buffer | number)[][];

export class Wire {
  readonly #held: { due: number; exchange: Exchange }[] = [];
  readonly #links = new Map<Fate, Link>();
  #wave: Wave | undefined;
  /** What is sent in this round, by the key. */
  sending = new Map<number, Message>();

  /** @param ran told of each list that the server ran, before anything else reaches it; looks at what it left */
  constructor(
    readonly redis: Redis,
    readonly ran: (exchange: Exchange, entries: Promise<Entries>) => Promise<void>,
  ) {}

  /** What sends with that fate, held copies arriving in the round `until`. */
  scripts(fate: Fate, until: number): Scripts {
    const link = this.#links.get(fate) ?? new Link(this, fate);
    this.#links.set(fate, link);
    link.until = until;
    return link.scripts;
  }

  hold(exchange: Exchange, due: number): void {
    this.#held.push({ due, exchange });
  }

  get nextDue(): number {
    return Math.min(...this.#held.map(({ due }) => due));
  }

  /** Lets go what is due, in the order in which it was held back, and in the other where the round is odd. */
  release(round: number): Promise<unknown> {
    const due = this.#held.filter((held) => held.due <= round);
    for (const held of due) this.#held.splice(this.#held.indexOf(held), 1);
    if (round % 2 === 1) due.reverse();
    return Promise.allSettled(due.map(({ exchange }) => this.deliverSurely(exchange)));
  }

  /**
   * As the server answers, NOSCRIPT as well. Nobody hears an answer before all that left in the same turn are answered:
   * what is sent because of it must not depend on how the replies come in.
   */
  async deliver(exchange: Exchange, bySource = false): Promise<Entries> {
    const answer = this.#ask(exchange, bySource);
    answer.catch(() => {});
    this.#wave ??= this.#openWave();
    this.#wave.answers.push(answer);
    await this.#wave.over;
    return answer;
  }

  #openWave(): Wave {
    const answers: Promise<unknown>[] = [];
    const turn = new Promise((resolve) => setImmediate(resolve));
    const over = turn.then(() => {
      this.#wave = undefined;
      return Promise.allSettled(answers);
    });
    return { answers, over };
  }

  async #ask(exchange: Exchange, bySource: boolean): Promise<Entries> {
    const { script, keys, args } = exchange;
    const redis = this.redis as unknown as Scripting;
    const answer = bySource
      ? redis.evalBuffer(script.source, keys.length, keys, args)
      : redis.evalshaBuffer(script.sha1, keys.length, keys, args);
    const entries = answer as Promise<Entries>;
    await this.ran(exchange, entries);
    return entries;
  }

  async deliverSurely(exchange: Exchange): Promise<Entries> {
    return this.deliver(exchange).catch((error: Error) => {
      if (!error.message.startsWith('NOSCRIPT')) throw error;
      return this.deliver(exchange, true);
    });
  }
}

/** What the library takes for a connection, all whose messages have one fate. */
class Link extends EventEmitter {
  readonly status = 'ready';
  readonly isCluster = false;
  readonly options = {};
  readonly scripts = new Scripts(Connection.of(this as unknown as RedisConnection), NO_DEADLINE_MS);
  until = 0;

  constructor(
    private readonly wire: Wire,
    private readonly fate: Fate,
  ) {
    super();
  }

  get stream() {
    return (this.wire.redis as unknown as { stream: unknown }).stream;
  }

  evalshaBuffer(sha1: string, _count: number, keys: Word[], args: Word[]): Promise<unknown> {
    return this.#send(this.#exchange(sha1, keys, args), false);
  }

  evalBuffer(source: string, _count: number, keys: Word[], args: Word[]): Promise<unknown> {
    return this.#send(this.#exchange(source, keys, args), true);
  }

  #exchange(script: string, keys: Word[], args: Word[]): Exchange {
    const messages = recordsAmong(keys).map((key) => this.wire.sending.get(key) as Message);
    return { messages, script: scriptOf(script), keys, args };
  }

  async #send(exchange: Exchange, bySource: boolean): Promise<unknown> {
    const { wire } = this;
    switch (this.fate) {
      case 'pass':
        return wire.deliver(exchange, bySource);
      case 'twice':
        if (!bySource) wire.hold(exchange, this.until);
        return wire.deliver(exchange, bySource);
      case 'resent': {
        const first = wire.deliver(exchange, bySource);
        const second = wire.deliver(exchange, bySource);
        await first.catch(() => {});
        this.emit('close');
        return second;
      }
      case 'deaf':
        await wire.deliverSurely(exchange);
        return this.#drop();
      case 'late':
        wire.hold(exchange, this.until);
        return this.#drop();
      case 'lost':
        return this.#drop();
      case 'unsent':
        throw new Error("Stream isn't writeable and enableOfflineQueue options is false");
      case 'busy':
        throw replyError('BUSY Redis is busy running a script');
      case 'refused':
        if (exchange.messages.length > 1) throw replyError('OOM command not allowed');
        return wire.deliver(exchange, bySource);
    }
  }

  #drop(): never {
    this.emit('close');
    throw new Error('Connection is closed.');
  }
}

function scriptOf(name: string): Exchange['script'] {
  const script = clocked.get(name);
  if (!script) throw new Error('The library sent a script that is none of its own');
  return script;
}

function replyError(message: string): Error {
  return Object.assign(new Error(message), { name: 'ReplyError' });
}

export const RECORDS = 'once:';

/** The records among the keys of a list, in the order of its entries. */
function recordsAmong(keys: readonly Word[]): number[] {
  return keys
    .map(String)
    .filter((key) => key.startsWith(RECORDS))
    .map((key) => Number(key.slice(RECORDS.length)));
}
