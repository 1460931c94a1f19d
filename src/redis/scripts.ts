/** One typed call a script: named arguments in, a status and its fields out. Calls of one tick share an exchange. */
import { monotonicMs } from '../clock.js';
import type { Connection, ScriptAnswer } from './connection.js';
import { ExchangeError } from './exchange.js';
import { type Argument, type Listed, LONGEST_LIST, listsBySlot, listsOf } from './lists.js';
import { SCRIPTS, type Statuses } from './scripts.generated.js';

export type ScriptName = keyof typeof SCRIPTS;
type Script<N extends ScriptName> = (typeof SCRIPTS)[N];
/** What a script is told per list is the caller's settings: calls with the same share a list. */
export type ScriptArgs<N extends ScriptName> = Record<Script<N>['perList'][number], string | number> &
  Record<Script<N>['perEntry'][number], Argument>;

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

/** A call that waits to be sent, or for its answer. */
interface Waiting extends Listed {
  readonly deadline: number;
  answer(answer: Answer<ScriptName>): void;
}

/** A queue that is no longer leaves as a whole: halves of it would cost more than they win. */
const LONGEST_WHOLE = 8;
const PAUSE_MS = 20;
/** Of `redisTimeout`, what an answer is left at least. */
const LEAST_SHARE = 0.1;

export class Scripts {
  /** Lists that have no answer yet. */
  #inFlight = 0;
  /** Calls that are about to be sent, by script. */
  #queues = new Map<ScriptName, Waiting[]>();
  /** Scripts that have answered, so that the server has them. */
  readonly #answered = new Set<ScriptName>();

  constructor(
    readonly connection: Connection,
    private readonly redisTimeoutMs: number,
  ) {}

  /**
   * Runs one call, together with those that the same tick makes. A refusal that passes by itself, and a connection that
   * dropped, are tried again until the deadline: every script may be sent again. `forget` alone is not, since it might
   * remove what came since.
   *
   * @param options `deadline` on the monotonic clock, `redisTimeout` from now where it is not given
   * @throws ExchangeError when there is no answer, or a refusal
   */
  call<N extends ScriptName>(
    name: N,
    redisKey: string,
    args: ScriptArgs<N>,
    { deadline = this.deadline(), effects = NO_EFFECTS }: { deadline?: number; effects?: EffectList } = {},
  ): Promise<ScriptReply<N>> {
    return new Promise((resolve, reject) => {
      // A copy that may have run before the one that answers: what was steady about the answer is not steady of the call.
      let earlier: { sentAt: number } | undefined;
      const waiting: Waiting = {
        redisKey,
        args,
        effects,
        deadline,
        answer: (reply) => {
          if (!(reply instanceof ExchangeError)) {
            resolve((earlier ? unsteady(reply, earlier.sentAt) : reply) as ScriptReply<N>);
            return;
          }
          if (reply.failure === 'unknown') earlier ??= { sentAt: reply.sentAt };
          const again =
            name !== 'forget' && (reply.passes || (reply.code === null && this.connection.redis.status !== 'end'));
          // A last copy that had no time to be answered would make unknown what is surely not done.
          const leastMs = earlier ? 0 : this.redisTimeoutMs * LEAST_SHARE;
          if (again && monotonicMs() + PAUSE_MS + leastMs < deadline)
            setTimeout(() => this.#enqueue(name, waiting), PAUSE_MS);
          else reject(earlier ? reply.as('unknown') : reply);
        },
      };
      this.#enqueue(name, waiting);
    });
  }

  /**
   * Runs independent calls together. Answers stand in the order of the calls; one's failure is no other's. Where a list
   * is refused as a whole, as by one key that the user may not touch, its entries are sought singly; not where the server
   * is busy, or does not answer.
   */
  callMany<N extends ScriptName>(
    name: N,
    calls: readonly ScriptCall<N>[],
    deadline = this.deadline(),
  ): Promise<Answer<N>[]> {
    const waiting: Waiting[] = [];
    const answers = calls.map(
      ({ redisKey, args, effects = NO_EFFECTS }) =>
        new Promise<Answer<N>>((resolve) => {
          waiting.push({ redisKey, args, effects, deadline, answer: (answer) => resolve(answer as Answer<N>) });
        }),
    );
    this.connection.together(() => this.#sendAll(name, waiting));
    return Promise.all(answers);
  }

  /** `redisTimeout` from now, on the monotonic clock. */
  deadline(): number {
    return monotonicMs() + this.redisTimeoutMs;
  }

  /**
   * Waits for no time: where nothing is in flight a call leaves as soon as the code that made it has run, else at the end
   * of this turn of the event loop, with all that it makes (docs/adr/0009).
   */
  #enqueue(name: ScriptName, waiting: Waiting): void {
    if (this.#queues.size === 0) {
      if (this.#inFlight === 0) queueMicrotask(() => this.#flushToIdle());
      else setImmediate(() => this.#flush());
    }
    const queue = this.#queues.get(name);
    if (queue) queue.push(waiting);
    else this.#queues.set(name, [waiting]);
  }

  /**
   * Nothing is in flight: the server would be idle while this process writes all calls, and this process while the server
   * runs them. So half of a long queue, or a list of it, leaves now, the rest at the end of this turn (docs/adr/0009).
   */
  #flushToIdle(): void {
    const [[name, queue], others] = this.#queues as unknown as [[ScriptName, Waiting[]], unknown];
    // Queues of several scripts, and calls that may be slow, have an order; a script that is missing is sent for each part;
    // and in Cluster a turn is one write a server.
    const whole = others || !this.#answered.has(name) || this.connection.isCluster;
    if (!whole && queue.length > LONGEST_WHOLE && !queue.some(({ effects }) => effects.alone)) {
      const half = queue.splice(0, Math.min(Math.ceil(queue.length / 2), LONGEST_LIST));
      setImmediate(() => this.#flush());
      this.connection.together(() => this.#sendAll(name, half));
    } else this.#flush();
  }

  #flush(): void {
    const queues = this.#queues;
    this.#queues = new Map();
    this.connection.together(() => {
      for (const [name, queue] of queues) this.#sendAll(name, queue);
    });
  }

  #sendAll(name: ScriptName, calls: readonly Waiting[]): void {
    const { isCluster, keyPrefix } = this.connection;
    const lists = isCluster ? listsBySlot(SCRIPTS[name], calls, keyPrefix) : listsOf(SCRIPTS[name], calls);
    for (const list of lists) void this.#send(name, list);
  }

  /** Each call gets its answer, or why there is none. */
  async #send(name: ScriptName, list: readonly Waiting[]): Promise<void> {
    const script = SCRIPTS[name];
    const keys: (string | Buffer)[] = [];
    const args: Argument[] = script.perList.map((arg) => list[0]?.args[arg] as Argument);
    let deadline = Number.POSITIVE_INFINITY;
    for (const call of list) {
      keys.push(call.redisKey);
      for (const arg of script.perEntry) args.push(call.args[arg] as Argument);
      // The nearest deadline holds for all: a call that has longer asks again.
      deadline = Math.min(deadline, call.deadline);
      if (!script.effects) continue;
      const { keys: own, plan, words } = call.effects;
      args.push(words.length);
      if (words.length === 0) continue;
      args.push(plan);
      for (const key of own) keys.push(key);
      for (const word of words) args.push(word);
    }
    let answer: ScriptAnswer;
    this.#inFlight += 1;
    try {
      answer = await this.connection.run(script, keys, args, deadline);
    } catch (error) {
      const failure = error as ExchangeError;
      if (list.length > 1 && failure.ofWholeList && failure.splits) {
        this.#sendSingly(name, list, failure.failure === 'unknown' ? failure.sentAt : undefined);
      } else {
        for (const call of list) call.answer(failure);
      }
      return;
    } finally {
      this.#inFlight -= 1;
    }
    this.#answered.add(name);
    const { entries, steady, sentAt } = answer;
    const large: Waiting[] = [];
    list.forEach((call, index) => {
      const entry = entries[index] as (Buffer | number)[];
      const word = (entry[0] as Buffer).toString('latin1');
      if (word === 'large') large.push(call);
      else if (word === 'refused') {
        const code = String(entry[1]);
        const failure = steady ? 'refused' : 'unknown';
        if (steady) this.connection.entryRefused(code);
        call.answer(new ExchangeError(failure, code, `Redis answered ${code}`, { sentAt }));
      } else {
        call.answer({ status: word as ScriptReply<ScriptName>['status'], fields: entry.slice(1), steady, sentAt });
      }
    });
    if (large.length > 0) this.#sendSingly(name, large, steady ? undefined : sentAt);
  }

  /** @param firstSentAt where a copy may have run as one of a list: when that was sent */
  #sendSingly(name: ScriptName, calls: readonly Waiting[], firstSentAt: number | undefined): void {
    this.connection.together(() => {
      for (const call of calls) {
        void this.#send(name, [firstSentAt === undefined ? call : afterCopy(call, firstSentAt)]);
      }
    });
  }
}

function afterCopy(call: Waiting, sentAt: number): Waiting {
  return { ...call, answer: (reply) => call.answer(unsteady(reply, sentAt)) };
}

/** What a copy is answered where one that was sent before may have run. */
function unsteady<N extends ScriptName>(reply: Answer<N>, sentAt: number): Answer<N> {
  return reply instanceof ExchangeError ? reply.as('unknown', sentAt) : { ...reply, steady: false, sentAt };
}
