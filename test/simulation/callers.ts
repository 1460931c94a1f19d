/**
 * Callers that know only what they were answered. How an attempt ends is the library's own: src/call/finish.ts and
 * src/call/claim.ts run on calls that leave when the history lets them, by a clock that it moves.
 */
import { createHash } from 'node:crypto';
import type { AttemptTerms } from '../../src/call/attempt.js';
import type { Call } from '../../src/call/call.js';
import { giveBack, ownerTerms } from '../../src/call/claim.js';
import { commit, type Settlement, settle, untilAnswered } from '../../src/call/finish.js';
import type { Parts } from '../../src/call/parts.js';
import { monotonicMs } from '../../src/clock.js';
import { ExchangeError } from '../../src/redis/exchange.js';
import type { EffectList } from '../../src/redis/scripts.js';
import { seededRandom } from '../support/random.js';
import { type AnyArgs, drawWriting, type Message, NO_WRITING, type Reply, type Writing } from './message.js';
import { RECORDS } from './transport.js';
import { RETENTION_MS, TTL_MS, type View } from './world.js';

/** Some three rounds for a commit, then it is settled. */
const REDIS_TIMEOUT_MS = 30;
const LEASES_MS = [30, 200, 2_000];

/** What a call was told in the end: `undefined` where its result is stored, else the error of the library. */
export type Told = (attempt: AttemptId, error: unknown) => void;

/** What names an attempt, by the answer to its claim. */
export interface AttemptId {
  readonly token: string;
  readonly fence: number;
  readonly born: number;
}

/** What an attempt stores and logs begins with it. */
export function nameOf({ token, fence, born }: AttemptId): string {
  return `${token}:${fence}:${born}`;
}

type Next =
  | { readonly do: 'nothing' }
  /** Sent, and nothing is known of it. */
  | { readonly do: 'claim' | 'apply'; readonly call: AnyArgs; readonly writing: Writing }
  | { readonly do: 'run'; readonly terms: AttemptTerms; readonly run: number };

interface Pending {
  readonly call: AnyArgs;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: ExchangeError) => void;
}

type Dice = (count: number) => number;

/** One process: it lives until it dies, and then another one comes. */
export class Caller {
  frozenUntil = 0;
  #next: Next = { do: 'nothing' };
  #tokens = 0;
  /** A call of the library's that is to be sent. */
  #pending: Pending | undefined;
  /** The library ends an attempt. */
  #ending = false;
  /** What its commit brings, while that is under way. */
  #writing = NO_WRITING;
  #call: Call | undefined;

  constructor(
    readonly key: number,
    private readonly name: string,
    private readonly told: Told,
  ) {}

  /** What it sends next, if anything. */
  next(roll: number, view: View): Message | undefined {
    const random = seededRandom(roll);
    const below = (count: number) => Math.floor(random() * count);
    if (!this.#pending && !this.#ending) {
      if (this.#next.do === 'run') {
        const renewal = this.#goOn(this.#next, view, below);
        if (renewal) return renewal;
      } else return this.#ask(view, below);
    }
    const pending = this.#pending;
    if (!pending) return undefined;
    this.#pending = undefined;
    return this.#message(pending.call, pending.call.name === 'commit' ? this.#writing : NO_WRITING, (reply) => {
      if (reply instanceof ExchangeError) pending.reject(reply);
      else pending.resolve(reply);
    });
  }

  #message(call: AnyArgs, writing: Writing, answer: Message['answer']): Message {
    return { key: this.key, call, writing, answer };
  }

  /** A claim or an apply, which may have been asked before. */
  #ask(view: View, below: Dice): Message | undefined {
    let next = this.#next;
    if (next.do === 'run') return undefined;
    if (next.do === 'nothing') next = this.#begin(view, below);
    else if (below(4) === 0) {
      // It has waited long enough: a claim is given back, an apply is not heard of again.
      this.#next = { do: 'nothing' };
      if (next.call.name !== 'claim') return undefined;
      this.#give(next.call.args.token as string);
      return this.next(0, view);
    }
    this.#next = next;
    const { call, writing } = next as Exclude<Next, { do: 'nothing' | 'run' }>;
    return this.#message(call, writing, (reply) => {
      if (reply instanceof ExchangeError) return;
      this.#next = { do: 'nothing' };
      if (call.name !== 'claim' || reply.status !== 'owned') return;
      const terms = ownerTerms(this.#call as Call, call.args.token as string, reply as never);
      this.#next = { do: 'run', terms, run: 0 };
    });
  }

  #begin(view: View, below: Dice): Next {
    const token = this.#newToken();
    const letter = ['', 'b'][below(30)] ?? 'a';
    const fingerprint = letter && Buffer.alloc(16, letter);
    const maxAttempts = below(4) === 0 ? 2 + below(5) : 0;
    // One key in five is of apply; a few calls take a key for the other kind.
    const isApply = (this.key % 5 === 1) !== (below(25) === 0);
    const terms = { token, fingerprint, ttl_ms: TTL_MS, retention_ms: RETENTION_MS, max_attempts: maxAttempts };
    if (isApply) {
      const writing = drawWriting(this.key, token, view, below);
      return { do: 'apply', call: { name: 'apply', args: terms }, writing };
    }
    const leaseMs = LEASES_MS[below(LEASES_MS.length)] as number;
    const settings = { leaseMs, retentionMs: RETENTION_MS, maxAttempts, maxRunTimeMs: TTL_MS, onInProgress: 'throw' };
    const redisKey = RECORDS + this.key;
    this.#call = { key: this.name, redisKey, fingerprint: Buffer.from(fingerprint), settings } as unknown as Call;
    const args = { ...terms, lease_ms: leaseMs, waits: below(2) === 0 ? '1' : '0' };
    return { do: 'claim', call: { name: 'claim', args }, writing: NO_WRITING };
  }

  /** The handler runs: a renewal, or its end. */
  #goOn({ terms, run }: Next & { do: 'run' }, view: View, below: Dice): Message | undefined {
    const { token, fence, leaseMs } = terms;
    const choice = below(10);
    if (choice < 2) {
      const args = { token, fence, lease_ms: leaseMs, ttl_ms: TTL_MS };
      // One that is told that its lease is lost may still try to commit.
      return this.#message({ name: 'renew', args }, NO_WRITING, () => {});
    }
    if (choice === 2) this.#settle(terms, { as: 'failed', ended: 'failed', ttlMs: RETENTION_MS, failure: 'failure' });
    else if (choice < 5) {
      const ended = (['failed', 'failed', 'interrupted', 'unstarted'] as const)[below(4)] as Settlement['ended'];
      this.#settle(terms, { as: 'released', ended, ttlMs: TTL_MS });
    } else this.#commit(terms, run, view, below);
    return undefined;
  }

  #commit(terms: AttemptTerms, run: number, view: View, below: Dice): void {
    const result = `${nameOf(terms)}:${run}`;
    this.#writing = drawWriting(this.key, result, view, below);
    const { effects } = this.#writing;
    this.#ending = true;
    commit(this.#parts(), terms, { retentionMs: RETENTION_MS, result, effects, run }).then(
      (refusal) => {
        this.#ending = false;
        if (!refusal) {
          this.#next = { do: 'nothing' };
          this.told(terms, undefined);
        } else if (refusal.reason === null) this.#next = { do: 'run', terms, run: run + 1 };
        else this.#settle(terms, { as: 'released', ended: 'failed', ttlMs: TTL_MS });
      },
      (error: unknown) => {
        this.#ending = false;
        this.#next = { do: 'nothing' };
        this.told(terms, error);
      },
    );
  }

  #settle(terms: AttemptTerms, settlement: Settlement): void {
    const parts = this.#parts();
    this.#endBy(untilAnswered(parts, monotonicMs() + terms.leaseMs, () => settle(parts, terms, settlement)));
  }

  #give(token: string): void {
    this.#endBy(giveBack(this.#parts(), this.#call as Call, token));
  }

  #endBy(ending: Promise<void>): void {
    this.#ending = true;
    this.#next = { do: 'nothing' };
    const ended = () => {
      this.#ending = false;
    };
    ending.then(ended, ended);
  }

  /** What the library's ends of an attempt need: their calls wait until they are let go. */
  #parts(): Parts {
    const scripts = {
      deadline: () => monotonicMs() + REDIS_TIMEOUT_MS,
      call: (name: string, _key: string, args: unknown, _options?: { effects?: EffectList }) =>
        new Promise<Reply>((resolve, reject) => {
          this.#pending = { call: { name, args } as AnyArgs, resolve, reject };
        }),
    };
    return {
      settings: { redisTimeoutMs: REDIS_TIMEOUT_MS },
      scripts,
      events: { tell: {} },
      storeError: () => {},
      hints: { channel: 'hints' },
      connection: { redis: { status: 'ready' } },
    } as unknown as Parts;
  }

  /** The same in each play of a history. */
  #newToken(): string {
    this.#tokens += 1;
    return createHash('sha256').update(`${this.name} ${this.#tokens}`).digest('base64url').slice(0, 16);
  }
}
