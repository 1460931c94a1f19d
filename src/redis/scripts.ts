/** One typed call a script: named arguments in, a status and its fields out. Calls of one tick share an exchange. */
import { monotonicMs } from '../clock.js';
import { type Connection, ExchangeError } from './connection.js';
import { SCRIPTS, type Statuses } from './scripts.generated.js';

export type ScriptName = keyof typeof SCRIPTS;
export type ScriptArgs<N extends ScriptName> = Record<(typeof SCRIPTS)[N]['args'][number], string | number | Buffer>;

/** Keys and words of an entry's own, for a script that takes effects; lua/lib/effects.lua reads them. */
export interface EffectList {
  readonly keys: readonly (string | Buffer)[];
  /** One letter a key. */
  readonly plan: string;
  readonly words: readonly (string | Buffer)[];
  /** Its time grows with the data: it shares no script call with others, which would wait for it. */
  readonly alone: boolean;
}

export const NO_EFFECTS: EffectList = { keys: [], plan: '', words: [], alone: false };

/** One entry's answer. */
export interface ScriptReply<N extends ScriptName> {
  readonly status: Exclude<Statuses[N], 'refused'>;
  /** Numbers that Redis counts come as integers, bytes as they are. */
  readonly fields: readonly (Buffer | number)[];
  /** The script provably ran once. */
  readonly steady: boolean;
  /** When the copy that may have run first was sent, on the monotonic clock. */
  readonly sentAt: number;
}

export interface ScriptCall<N extends ScriptName> {
  readonly redisKey: string;
  readonly args: ScriptArgs<N>;
  readonly effects?: EffectList;
}

type Answer<N extends ScriptName> = ScriptReply<N> | ExchangeError;

interface Queued {
  readonly call: ScriptCall<ScriptName>;
  readonly deadline: number;
  readonly answer: (answer: Answer<ScriptName>) => void;
}

/** A list is bounded, so that no call of others waits long behind it. */
const LONGEST_LIST = 128;
const LARGEST_LIST_BYTES = 256 * 1024;
const PAUSE_MS = 20;

export class Scripts {
  /** Calls of this tick, by script. */
  readonly #queues = new Map<ScriptName, Queued[]>();

  constructor(
    readonly connection: Connection,
    private readonly redisTimeoutMs: number,
  ) {}

  /**
   * Runs one call. A refusal that passes by itself, and a connection that dropped, are tried again until the deadline:
   * every script may be sent again. `forget` alone is not, since it might remove what came since.
   *
   * @param options `deadline` on the monotonic clock, `redisTimeout` from now where it is not given
   * @throws ExchangeError when there is no answer, or a refusal
   */
  async call<N extends ScriptName>(
    name: N,
    redisKey: string,
    args: ScriptArgs<N>,
    { deadline = this.deadline(), effects = NO_EFFECTS }: { deadline?: number; effects?: EffectList } = {},
  ): Promise<ScriptReply<N>> {
    // A copy that may have run before the one that answers: what was steady about the answer is not steady of the call.
    let earlier: { sentAt: number } | undefined;
    for (;;) {
      const reply = await this.#enqueue(name, { redisKey, args, effects }, deadline);
      if (!(reply instanceof ExchangeError)) return earlier ? { ...reply, ...earlier, steady: false } : reply;
      if (reply.failure === 'unknown') earlier ??= { sentAt: reply.sentAt };
      const again =
        name !== 'forget' && (reply.passes || (reply.code === null && this.connection.redis.status !== 'end'));
      if (!again || monotonicMs() + PAUSE_MS >= deadline) throw earlier ? reply.as('unknown') : reply;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /**
   * Runs independent calls together. Answers stand in the order of the calls; one's failure is no other's. Where a list
   * is refused as a whole, as by one key that the user may not touch, its entries are sought singly; not where the server
   * is busy, or does not answer.
   */
  async callMany<N extends ScriptName>(
    name: N,
    calls: readonly ScriptCall<N>[],
    deadline = this.deadline(),
  ): Promise<Answer<N>[]> {
    const replies = await Promise.all(this.#lists(calls).map((list) => this.#sendList(name, list, deadline)));
    return replies.flat();
  }

  /** `redisTimeout` from now, on the monotonic clock. */
  deadline(): number {
    return monotonicMs() + this.redisTimeoutMs;
  }

  /** Waits for no time: the calls that the same tick makes are sent together at its end. */
  #enqueue<N extends ScriptName>(name: N, call: ScriptCall<N>, deadline: number): Promise<Answer<N>> {
    return new Promise((resolve) => {
      const queued = { call, deadline, answer: resolve } as unknown as Queued;
      const queue = this.#queues.get(name);
      if (queue) {
        queue.push(queued);
        return;
      }
      this.#queues.set(name, [queued]);
      queueMicrotask(() => void this.#flush(name));
    });
  }

  async #flush(name: ScriptName): Promise<void> {
    const queue = this.#queues.get(name) as Queued[];
    this.#queues.delete(name);
    // The nearest deadline holds for all: a call that has longer asks again.
    const deadline = Math.min(...queue.map((queued) => queued.deadline));
    const answers = await this.callMany(
      name,
      queue.map(({ call }) => call),
      deadline,
    );
    queue.forEach(({ answer }, index) => {
      answer(answers[index] as Answer<ScriptName>);
    });
  }

  /**
   * The calls in their order, cut into lists. In Cluster each key goes by itself, since a list may hold one slot only.
   */
  #lists<N extends ScriptName>(calls: readonly ScriptCall<N>[]): ScriptCall<N>[][] {
    const lists: ScriptCall<N>[][] = [];
    let room = 0;
    let bytes = 0;
    for (const call of calls) {
      const size = bytesOf(call);
      const alone = this.connection.isCluster || call.effects?.alone === true;
      if (room === 0 || alone || bytes + size > LARGEST_LIST_BYTES) {
        lists.push([]);
        room = alone ? 1 : LONGEST_LIST;
        bytes = 0;
      }
      lists.at(-1)?.push(call);
      room -= 1;
      bytes += size;
    }
    return lists;
  }

  async #sendList<N extends ScriptName>(name: N, list: ScriptCall<N>[], deadline: number): Promise<Answer<N>[]> {
    const replies = await this.#send(name, list, deadline);
    const whole = replies.every((reply) => reply instanceof ExchangeError && reply.ofWholeList && !reply.passes);
    if (!whole || list.length === 1) return replies;
    return (await Promise.all(list.map((call) => this.#send(name, [call], deadline)))).flat();
  }

  /** An answer or a failure for each call. */
  async #send<N extends ScriptName>(name: N, list: readonly ScriptCall<N>[], deadline: number): Promise<Answer<N>[]> {
    const script = SCRIPTS[name];
    const names = script.args as readonly (keyof ScriptArgs<N>)[];
    const keys: (string | Buffer)[] = [];
    const args: (string | number | Buffer)[] = [];
    for (const { redisKey, args: own, effects = NO_EFFECTS } of list) {
      keys.push(redisKey);
      for (const arg of names) args.push(own[arg]);
      if (!script.effects) continue;
      for (const key of effects.keys) keys.push(key);
      args.push(effects.plan, effects.words.length);
      for (const word of effects.words) args.push(word);
    }
    try {
      const { entries, steady, sentAt } = await this.connection.run(script, keys, args, deadline);
      return entries.map(([status, ...fields]) => {
        const word = String(status) as Statuses[N];
        if (word !== 'refused') return { status: word as Exclude<Statuses[N], 'refused'>, fields, steady, sentAt };
        const code = String(fields[0]);
        return new ExchangeError(steady ? 'refused' : 'unknown', code, `Redis answered ${code}`, { sentAt });
      });
    } catch (error) {
      if (!(error instanceof ExchangeError)) throw error;
      return list.map(() => error);
    }
  }
}

/** What a call brings to its list, nearly. */
function bytesOf<N extends ScriptName>({ args, effects = NO_EFFECTS }: ScriptCall<N>): number {
  let bytes = 0;
  for (const value of [...Object.values<string | number | Buffer>(args), ...effects.words]) {
    bytes += typeof value === 'number' ? 8 : 8 + value.length;
  }
  return bytes;
}
