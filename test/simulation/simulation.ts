/** Plays a history on a server, round by round, every key's message of a round in as few lists as their fates allow. */
import type { Redis } from 'ioredis';
import { vi } from 'vitest';
import { isDedupError } from '../../src/index.js';
import type { ExchangeError } from '../../src/redis/exchange.js';
import type { ScriptCall, ScriptName } from '../../src/redis/scripts.js';
import { Caller, nameOf } from './callers.js';
import { Checker } from './checker.js';
import type { Fate, KeyStep, Step } from './history.js';
import { type AnyArgs, type Message, NO_WRITING, type Reply } from './message.js';
import { type Entries, type Exchange, RECORDS, Wire } from './transport.js';
import { Violation } from './violation.js';
import { type View, World } from './world.js';

/** How long a round takes by the callers' own clock. */
const ROUND_MS = 20;

export interface Played {
  /** Steps that did something. */
  readonly steps: number;
  readonly violation: Violation | undefined;
  readonly lastRound: number;
  /** How often each script answered what, and callers were told what. */
  readonly answers: ReadonlyMap<string, number>;
}

/** @param tell told of each list that the server ran, in words */
export async function play(redis: Redis, history: readonly Step[], tell?: (line: string) => void): Promise<Played> {
  const simulation = new Simulation(redis, history, tell);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  try {
    return await simulation.play();
  } finally {
    vi.useRealTimers();
  }
}

class Simulation {
  readonly #world: World;
  readonly #wire: Wire;
  readonly #keys: number[];
  readonly #checkers = new Map<number, Checker>();
  readonly #callers = new Map<string, Caller>();
  readonly #answers = new Map<string, number>();
  #failure: Error | undefined;
  /** All that ran so far is judged. */
  #heardOf = Promise.resolve();
  #steps = 0;
  #round = 0;

  constructor(
    redis: Redis,
    private readonly history: readonly Step[],
    private readonly tell: ((line: string) => void) | undefined,
  ) {
    this.#world = new World(redis);
    this.#wire = new Wire(redis, (exchange, entries) => this.#ran(exchange, entries));
    this.#keys = [...new Set(history.flatMap((step) => ('key' in step ? [step.key] : [])))].sort((a, b) => a - b);
    for (const key of this.#keys) this.#checkers.set(key, new Checker(key));
  }

  async play(): Promise<Played> {
    await this.#world.open(this.#keys);
    for (const [round, steps] of byRound(this.history)) {
      await this.#pass(round);
      await this.#play(steps);
      if (this.#failure) break;
    }
    return { steps: this.#steps, violation: this.#violation(), lastRound: this.#round, answers: this.#answers };
  }

  #violation(): Violation | undefined {
    const failure = this.#failure;
    if (!failure || failure instanceof Violation) return failure;
    return new Violation('G7', `a script raised, or the simulation itself: ${failure.message}`, failure);
  }

  /** The callers' clock goes on to that round, with what was held back until then. */
  async #pass(round: number): Promise<void> {
    while (this.#round < round && !this.#failure) {
      this.#round = Math.min(round, Math.max(this.#round + 1, this.#wire.nextDue));
      if (this.#round < round) await this.#wire.release(this.#round);
    }
  }

  async #play(steps: readonly Step[]): Promise<void> {
    vi.advanceTimersByTime(ROUND_MS);
    await settled();
    await this.#outside(steps);
    await this.#wire.release(this.#round);
    const sending = this.#gather(steps);
    const replies = await Promise.all(this.#send(sending));
    for (const [index, { message }] of sending.entries()) message.answer(replies[index] as Reply | ExchangeError);
    await settled();
    for (const [index, view] of (await this.#world.look(this.#keys)).entries()) {
      this.#judge(() => this.#checker(this.#keys[index] as number).untouched(view));
    }
  }

  /** What is not done by the library: time, and others. */
  async #outside(steps: readonly Step[]): Promise<void> {
    const changed: number[] = [];
    for (const step of steps) {
      if (step.do === 'clock') this.#world.move(step.byMs);
      else if (step.do === 'flush') this.#world.flushScripts();
      else if (step.do === 'version') this.#world.changeVersion(step.key);
      else if (step.do === 'flag') this.#world.turnFlag(step.key, this.#checker(step.key).view);
      else if (step.do === 'break') this.#world.breakRecord(step.key, this.#checker(step.key).view);
      else continue;
      this.#say(() => JSON.stringify(step));
      if ('key' in step) {
        this.#steps += 1;
        changed.push(step.key);
      }
    }
    changed.push(...this.#world.expire());
    for (const [index, view] of (await this.#world.look(changed)).entries()) {
      this.#checker(changed[index] as number).changed(view);
    }
  }

  #gather(steps: readonly Step[]): Sending[] {
    const sending: Sending[] = [];
    for (const step of steps) {
      if (!('key' in step)) continue;
      const message = this.#messageOf(step);
      if (!message || !('fate' in step)) continue;
      this.#steps += 1;
      sending.push({ message, fate: step.fate, until: step.until ?? 0 });
    }
    return sending;
  }

  #messageOf(step: KeyStep): Message | undefined {
    const { key } = step;
    if (step.do === 'go') {
      const caller = this.#caller(key, step.caller);
      return caller.frozenUntil > this.#round ? undefined : caller.next(step.roll, this.#checker(key).view);
    }
    if (step.do === 'die') this.#callers.delete(`${key} ${step.caller}`);
    if (step.do === 'freeze') this.#caller(key, step.caller).frozenUntil = step.until;
    if (step.do === 'die' || step.do === 'freeze') this.#steps += 1;
    const call: AnyArgs | undefined =
      step.do === 'forget'
        ? { name: 'forget', args: { force: step.force ? '1' : '0' } }
        : step.do === 'inspect'
          ? { name: 'inspect', args: {} }
          : undefined;
    return call && { key, call, writing: NO_WRITING, answer: () => {} };
  }

  /** Their answers, in their order. Those of one fate and script leave as one list. */
  #send(sending: readonly Sending[]): Promise<Reply | ExchangeError>[] {
    this.#wire.sending = new Map(sending.map(({ message }) => [message.key, message]));
    const groups = groupBy(sending, ({ message, fate, until }) => `${message.call.name} ${fate} ${until}`);
    const answers = new Map<Message, Promise<Reply | ExchangeError>>();
    for (const group of groups.values()) {
      const { fate, until, message } = group[0] as Sending;
      const calls = group.map(({ message: { key, call, writing } }) => ({
        redisKey: RECORDS + key,
        args: call.args,
        effects: writing.effects,
      }));
      const scripts = this.#wire.scripts(fate, until);
      const replies = scripts.callMany(message.call.name as ScriptName, calls as ScriptCall<ScriptName>[]);
      for (const [index, one] of group.entries()) {
        answers.set(
          one.message,
          replies.then((all) => all[index] as Reply),
        );
      }
    }
    return sending.map(({ message }) => answers.get(message) as Promise<Reply | ExchangeError>);
  }

  /** The server ran a list: what it left is looked at before anything else comes, and judged in the order of all that ran. */
  #ran(exchange: Exchange, entries: Promise<Entries>): Promise<void> {
    const looked = this.#world.look(exchange.messages.map(({ key }) => key));
    const known = Promise.all([entries.catch((error: Error) => error), looked, this.#heardOf]);
    this.#heardOf = known.then(([answered, seen]) => {
      // Thrown from here it would be taken for a failure of the connection.
      if (!(answered instanceof Error)) this.#judge(() => this.#heard(exchange, answered, seen));
      else if (!answered.message.startsWith('NOSCRIPT')) this.#failure ??= answered;
    });
    return this.#heardOf;
  }

  #heard({ messages }: Exchange, answered: Entries, seen: readonly View[]): void {
    const { nowMs } = this.#world;
    this.#count('lists');
    for (const [index, message] of messages.entries()) {
      const [word, ...fields] = answered[index] as (Buffer | number)[];
      const [status, view, { name }] = [String(word), seen[index] as View, message.call];
      const checker = this.#checker(message.key);
      this.#count(`${name} ${status}`);
      this.#say(
        () =>
          `key ${message.key}: ${name} ${describe(message)} → ${[status, ...(name === 'inspect' ? [] : fields)].join(' ')}; ` +
          `${checker.view.record?.state ?? '-'} → ${view.record?.state ?? '-'}`,
      );
      if (
        checker.view.record === undefined ||
        !view.record?.raw.equals(checker.view.record.raw) ||
        status === 'renewed'
      ) {
        this.#world.wrote(message.key, view);
      }
      checker.ran({ message, status, fields, after: view, nowMs });
    }
  }

  #count(what: string): void {
    this.#answers.set(what, (this.#answers.get(what) ?? 0) + 1);
  }

  /** The first violation stands. */
  #judge(check: () => void): void {
    if (this.#failure) return;
    try {
      check();
    } catch (error) {
      this.#failure = error as Error;
      this.#say(() => `violated: ${(error as Error).message}`);
    }
  }

  #say(line: () => string): void {
    this.tell?.(`round ${this.#round}, ${this.#world.nowMs} ms: ${line()}`);
  }

  #checker(key: number): Checker {
    return this.#checkers.get(key) as Checker;
  }

  #caller(key: number, number: number): Caller {
    const id = `${key} ${number}`;
    const known = this.#callers.get(id);
    if (known) return known;
    const caller = new Caller(key, `${id} ${this.#round}`, (attempt, error) => {
      const what = isDedupError(error) ? error.code : error === undefined ? 'stored' : String(error);
      this.#count(`told ${what}`);
      this.#say(() => `key ${key}: ${nameOf(attempt)} was told ${what}`);
      this.#judge(() => this.#checker(key).told(attempt, error));
    });
    this.#callers.set(id, caller);
    return caller;
  }
}

interface Sending {
  readonly message: Message;
  readonly fate: Fate;
  readonly until: number;
}

function byRound(history: readonly Step[]): [round: number, steps: Step[]][] {
  return [...groupBy(history, ({ at }) => at)].sort(([a], [b]) => a - b);
}

function groupBy<K, V>(values: readonly V[], keyOf: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) {
    const group = groups.get(keyOf(value));
    if (group) group.push(value);
    else groups.set(keyOf(value), [value]);
  }
  return groups;
}

/** All that follows from what was answered has been done. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function describe({ call }: Message): string {
  const { token, fence, run } = call.args as { token?: string; fence?: number; run?: number };
  return [token?.slice(0, 8), fence, run].filter((word) => word !== undefined).join(' ');
}
