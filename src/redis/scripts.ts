/** One typed call a script: named arguments in, a status and its fields out. */
import { monotonicMs } from '../clock.js';
import { type Connection, ExchangeError } from './connection.js';
import { SCRIPTS, type Statuses } from './scripts.generated.js';

export type ScriptName = keyof typeof SCRIPTS;
export type ScriptArgs<N extends ScriptName> = Record<(typeof SCRIPTS)[N]['args'][number], string | number | Buffer>;

/** One entry's answer. */
export interface ScriptReply<N extends ScriptName> {
  readonly status: Exclude<Statuses[N], 'refused'>;
  readonly fields: readonly Buffer[];
  /** The script provably ran once. */
  readonly steady: boolean;
  /** When the copy that may have run first was sent, on the monotonic clock. */
  readonly sentAt: number;
}

export interface ScriptCall<N extends ScriptName> {
  readonly redisKey: string;
  readonly args: ScriptArgs<N>;
}

/** A list is bounded, so that no call of others waits long behind it. */
const LONGEST_LIST = 128;
const PAUSE_MS = 20;

export class Scripts {
  constructor(
    readonly connection: Connection,
    private readonly redisTimeoutMs: number,
  ) {}

  /**
   * Runs one call. A refusal that passes by itself, and a connection that dropped, are tried again until the deadline:
   * every script may be sent again. `forget` alone is not, since it might remove what came since.
   *
   * @param deadline on the monotonic clock; `redisTimeout` from now where it is not given
   * @throws ExchangeError when there is no answer, or a refusal
   */
  async call<N extends ScriptName>(
    name: N,
    redisKey: string,
    args: ScriptArgs<N>,
    deadline = this.deadline(),
  ): Promise<ScriptReply<N>> {
    // A copy that may have run before the one that answers: what was steady about the answer is not steady of the call.
    let earlier: { sentAt: number } | undefined;
    for (;;) {
      const [answer] = await this.#send(name, [{ redisKey, args }], deadline);
      const reply = answer as ScriptReply<N> | ExchangeError;
      if (!(reply instanceof ExchangeError)) return earlier ? { ...reply, ...earlier, steady: false } : reply;
      if (reply.failure === 'unknown') earlier ??= { sentAt: reply.sentAt };
      const again =
        name !== 'forget' && (reply.passes || (reply.code === null && this.connection.redis.status !== 'end'));
      if (!again || monotonicMs() + PAUSE_MS >= deadline) throw earlier ? reply.as('unknown') : reply;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /**
   * Runs independent calls together. Answers stand in the order of the calls; one's failure is no other's. In Cluster
   * each key goes by itself, since a list may hold one slot only. Where a list fails as a whole, as by one key that the
   * user may not touch, its entries are sought singly.
   */
  async callMany<N extends ScriptName>(
    name: N,
    calls: readonly ScriptCall<N>[],
    deadline = this.deadline(),
  ): Promise<(ScriptReply<N> | ExchangeError)[]> {
    const size = this.connection.isCluster ? 1 : LONGEST_LIST;
    const lists: ScriptCall<N>[][] = [];
    for (let at = 0; at < calls.length; at += size) lists.push(calls.slice(at, at + size));
    const replies = await Promise.all(lists.map((list) => this.#sendList(name, list, deadline)));
    return replies.flat();
  }

  /** `redisTimeout` from now, on the monotonic clock. */
  deadline(): number {
    return monotonicMs() + this.redisTimeoutMs;
  }

  async #sendList<N extends ScriptName>(
    name: N,
    list: ScriptCall<N>[],
    deadline: number,
  ): Promise<(ScriptReply<N> | ExchangeError)[]> {
    const replies = await this.#send(name, list, deadline);
    const whole = list.length > 1 && replies.every((reply) => reply instanceof ExchangeError && reply.ofWholeList);
    if (!whole || (replies[0] as ExchangeError).code === null) return replies;
    return (await Promise.all(list.map((call) => this.#send(name, [call], deadline)))).flat();
  }

  /** An answer or a failure for each call. */
  async #send<N extends ScriptName>(
    name: N,
    list: readonly ScriptCall<N>[],
    deadline: number,
  ): Promise<(ScriptReply<N> | ExchangeError)[]> {
    const script = SCRIPTS[name];
    const names = script.args as readonly (keyof ScriptArgs<N>)[];
    try {
      const { entries, steady, sentAt } = await this.connection.run(
        script,
        list.map(({ redisKey }) => redisKey),
        list.flatMap(({ args }) => names.map((arg) => args[arg])),
        deadline,
      );
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
