/**
 * One heartbeat for all running attempts of a Dedup: renews each lease at a third of it, in lists, and tells an attempt
 * when its lease is lost. A courtesy to handlers; the safety is the token at commit.
 *
 * Time is the process's own and monotonic: a lease counts as lost where `sent + lease - margin` has passed without an
 * answer from Redis.
 */
import { monotonicMs } from '../clock.js';
import type { LeaseLostReason } from '../events.js';
import { ExchangeError } from '../redis/exchange.js';
import type { Scripts } from '../redis/scripts.js';

/** What the heartbeat needs to know of an attempt. */
export interface LeaseTerms {
  readonly key: string;
  readonly redisKey: string;
  readonly token: string;
  /** 0 for an attempt without a claim: there is nothing to renew. */
  readonly fence: number;
  readonly leaseMs: number;
  readonly ttlMs: number;
  readonly maxRunTimeMs: number;
  /** When the claim was sent, on the monotonic clock. */
  readonly claimedAt: number;
}

/** What is told to the attempt. */
export interface LeaseHolder {
  /** Once: the lease is lost, or will be, since it is renewed no more. */
  leaseLost(reason: LeaseLostReason): void;
  /** The attempt ran longer than `maxRunTime`, and its lease has ended since. */
  overrun(): void;
}

/** A renewal without an answer is sent again after this, or sooner. */
const LONGEST_RETRY_MS = 250;

/** One attempt's hold on its key, as this process knows it. */
export class Lease {
  #endsAt: number;
  #renewAt: number;
  readonly #runEndsAt: number;
  #lost = false;
  #overrun = false;
  #renewing = false;

  constructor(
    readonly terms: LeaseTerms,
    private readonly holder: LeaseHolder,
  ) {
    this.#endsAt = terms.claimedAt + terms.leaseMs;
    this.#renewAt = terms.fence === 0 ? Number.POSITIVE_INFINITY : terms.claimedAt + terms.leaseMs / 3;
    this.#runEndsAt = monotonicMs() + terms.maxRunTimeMs;
  }

  /** What is left of the lease without another renewal, in ms. */
  get remainingMs(): number {
    return Math.max(0, this.#endsAt - monotonicMs());
  }

  /** Looks at the clock: says what has passed. */
  check(now = monotonicMs()): void {
    const tooLong = now >= this.#runEndsAt;
    if (tooLong) this.lose('max_run_time');
    if (now >= this.#lostAt) {
      this.lose('no_heartbeat');
      if (tooLong && !this.#overrun) {
        this.#overrun = true;
        this.holder.overrun();
      }
    }
  }

  /** When the heartbeat must look at this lease again, on the monotonic clock. */
  get nextAt(): number {
    let nextAt = this.#runEndsAt;
    if (nextAt <= monotonicMs()) return this.#overrun ? Number.POSITIVE_INFINITY : this.#lostAt;
    if (!this.#lost) nextAt = Math.min(nextAt, this.#lostAt);
    if (this.#renewAt < this.#runEndsAt && !this.#renewing) nextAt = Math.min(nextAt, this.#renewAt);
    return nextAt;
  }

  /** Is a renewal due? A lease that was lost for want of an answer is still asked for: nobody may have taken it. */
  isDue(now: number): boolean {
    return !this.#renewing && now >= this.#renewAt && now < this.#runEndsAt;
  }

  renewalSent(): void {
    this.#renewing = true;
  }

  renewalAnswered(sentAt: number, status: 'renewed' | 'lost' | 'broken' | 'unanswered'): void {
    this.#renewing = false;
    if (status === 'lost' || status === 'broken') {
      this.#renewAt = Number.POSITIVE_INFINITY;
      this.lose('taken_over');
      return;
    }
    if (status === 'unanswered') {
      this.#renewAt = monotonicMs() + Math.min(this.terms.leaseMs / 10, LONGEST_RETRY_MS);
      return;
    }
    this.#renewAt = sentAt + this.terms.leaseMs / 3;
    this.#endsAt = sentAt + this.terms.leaseMs;
  }

  /** Before the server lets go: an answer under way, and a clock that runs a little differently, must not matter. */
  get #lostAt(): number {
    return this.#endsAt - Math.min(this.terms.leaseMs / 10, 1_000);
  }

  /** The lease is known to be lost: tells the holder, once. */
  lose(reason: LeaseLostReason): void {
    if (this.#lost) return;
    this.#lost = true;
    this.holder.leaseLost(reason);
  }
}

export class Heartbeat {
  readonly #leases = new Set<Lease>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  /** @param storeError told of every renewal without an answer */
  constructor(
    private readonly scripts: Scripts,
    private readonly storeError: (lease: LeaseTerms, error: ExchangeError) => void,
  ) {}

  add(lease: Lease): void {
    if (this.#leases.size === 0) this.#timer?.ref();
    this.#leases.add(lease);
    this.#schedule(lease.nextAt);
  }

  remove(lease: Lease): void {
    this.#leases.delete(lease);
    // Kept for the next one, which comes soon where calls come one by one: but it keeps no process alive.
    if (this.#leases.size === 0) this.#timer?.unref();
  }

  #schedule(at: number): void {
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#beat(), Math.min(at - monotonicMs(), 2 ** 31 - 1));
  }

  #beat(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = monotonicMs();
    for (const lease of this.#leases) lease.check(now);
    const due = [...this.#leases].filter((lease) => lease.isDue(now));
    if (due.length > 0) void this.#renew(due);
    for (const lease of this.#leases) this.#schedule(lease.nextAt);
  }

  async #renew(leases: Lease[]): Promise<void> {
    for (const lease of leases) lease.renewalSent();
    const sentAt = monotonicMs();
    const calls = leases.map(({ terms: { redisKey, token, fence, leaseMs, ttlMs } }) => ({
      redisKey,
      args: { token, fence, lease_ms: leaseMs, ttl_ms: ttlMs },
    }));
    // No longer than to the next beat: a renewal that is not answered is sent again.
    const patience = Math.min(...leases.map((lease) => lease.terms.leaseMs)) / 3;
    const replies = await this.scripts.callMany('renew', calls, Math.min(this.scripts.deadline(), sentAt + patience));
    replies.forEach((reply, index) => {
      const lease = leases[index] as Lease;
      const failed = reply instanceof ExchangeError;
      lease.renewalAnswered(sentAt, failed ? 'unanswered' : reply.status);
      if (!this.#leases.has(lease)) return;
      if (failed) this.storeError(lease.terms, reply);
      this.#schedule(lease.nextAt);
    });
  }
}
