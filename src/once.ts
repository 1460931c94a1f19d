/** The life of one call: claim and run, or replay, wait, take over, reject. */
import { Attempt } from './attempt.js';
import { monotonicMs } from './clock.js';
import {
  AttemptsExhaustedError,
  ClosedError,
  CodecError,
  FingerprintMismatchError,
  InProgressError,
  type StoredFailure,
  StoredFailureError,
  UnsafeServerError,
} from './errors.js';
import { decodeResult, encodeResult, execute } from './execute.js';
import { readFailure } from './failure.js';
import { brokenRecord, settle, storeUnavailable, untilAnswered } from './finish.js';
import type { Flight } from './flight.js';
import type { CallSettings } from './options.js';
import type { Handler, Outcome } from './outcome.js';
import type { Answer, Parts } from './parts.js';
import { ExchangeError } from './redis/connection.js';
import type { ScriptArgs, ScriptReply } from './redis/scripts.js';
import { evictionReport } from './redis/server.js';
import { onAbort } from './signals.js';
import { newToken } from './token.js';
import { Wait } from './wait.js';

/** One call, checked. */
export interface Call {
  readonly key: string;
  readonly redisKey: string;
  readonly fingerprint: Buffer;
  readonly settings: CallSettings;
  readonly handler: Handler<unknown>;
}

/** A waiter outlasts the lease of a holder that died by this much. */
const WAIT_BEYOND_LEASE_MS = 5_000;
/** A record that is not completed outlives its lease and a slow redelivery. */
const SHORTEST_TTL_MS = 60_000;

/** Runs the handler once per key, or tells what another call came to. */
export async function runOnce(parts: Parts, call: Call): Promise<Outcome<unknown>> {
  parts.refuseReentry(call.key, call.redisKey);
  call.settings.signal?.throwIfAborted();
  return parts.track(call.key, () => new Life(parts, call).live());
}

class Life {
  /** What the key stands at, once it is known: given to those who follow. */
  #answer: Answer | undefined;
  #wait: Wait | undefined;
  #waitStartedAt: number | undefined;
  #waitedMs = 0;

  constructor(
    private readonly parts: Parts,
    private readonly call: Call,
  ) {}

  async live(): Promise<Outcome<unknown>> {
    const { settings, redisKey, fingerprint } = this.call;
    try {
      // Callers with another fingerprint make a flight of their own: the record decides which of them is right.
      const flightId = `${redisKey}\0${fingerprint.toString('latin1')}`;
      const outcome = settings.onInProgress === 'throw' ? await this.#lead(undefined) : await this.#fly(flightId);
      return outcome ?? (await this.#replay(this.#answer as Answer));
    } finally {
      this.#endWait();
    }
  }

  /** What this call came to, or nothing where the key's answer is known. */
  async #fly(id: string): Promise<Outcome<unknown> | undefined> {
    const { flights } = this.parts;
    let flight = flights.get(id);
    if (flight) {
      this.#answer = await this.#follow(flight);
      if (this.#answer) return undefined;
    } else {
      flight = flights.open(id);
    }
    try {
      return await this.#lead(flight);
    } finally {
      flights.close(id, flight, this.#answer);
    }
  }

  /** The leader's answer; nothing where this call is to lead now. */
  async #follow(flight: Flight<Answer>): Promise<Answer | undefined> {
    const { key, settings } = this.call;
    const deadline = this.#waitDeadline();
    const seat = flight.follow();
    const undo: (() => void)[] = [seat.leave];
    try {
      const gaveUp = new Promise<never>((_, reject) => {
        const timer = setTimeout(() => reject(inProgress(key, flight.retryAt())), deadline - monotonicMs());
        undo.push(() => clearTimeout(timer), onAbort(settings.signal, reject));
      });
      const verdict = await Promise.race([seat.verdict, gaveUp]);
      return verdict.kind === 'answer' ? verdict.answer : undefined;
    } finally {
      for (const step of undo) step();
    }
  }

  /** Speaks with Redis until the key is ours, and runs the handler, or until the key's answer is known. */
  async #lead(flight: Flight<Answer> | undefined): Promise<Outcome<unknown> | undefined> {
    const { parts, call } = this;
    let token = newToken();
    for (;;) {
      this.#throwIfUnwanted();
      let reply: ScriptReply<'claim'>;
      try {
        await this.#checkServer();
        reply = await parts.scripts.call('claim', call.redisKey, claimArgs(parts, call, token));
      } catch (error) {
        if (!(error instanceof ExchangeError)) throw error;
        if (error.failure === 'unknown') void giveBack(parts, call, token);
        parts.events.emit('storeError', parts.subject(call), { operation: 'claim', code: error.code });
        this.#answer = { status: 'unavailable', error };
        return undefined;
      }
      const { status, fields, sentAt } = reply;
      switch (status) {
        case 'owned':
          return await this.#execute(this.#attempt(token, sentAt, fields), flight);
        case 'completed':
          this.#answer = { status, attempt: Number(fields[0]), result: fields[1] as Buffer };
          return undefined;
        case 'failed':
          this.#answer = { status, attempt: Number(fields[0]), failure: fields[1] as Buffer };
          return undefined;
        case 'exhausted':
          this.#answer = { status, failures: Number(fields[0]) };
          if (String(fields[1]) === 'now') {
            parts.events.emit('failed', parts.subject(call), { attempt: Number(fields[2]), ranMs: 0 });
          }
          return undefined;
        case 'broken':
          this.#answer = { status };
          return undefined;
        case 'busy':
          await this.#waitForOther(monotonicMs() + Number(fields[0]), flight);
          break;
        case 'stale':
          token = newToken();
          break;
        case 'mismatch':
          throw new FingerprintMismatchError('The key was used with another fingerprint', { key: call.key });
        case 'unreadable':
          throw unreadable(call.key);
      }
    }
  }

  /** @throws the signal's reason, or ClosedError: no handler is to begin */
  #throwIfUnwanted(): void {
    this.call.settings.signal?.throwIfAborted();
    if (this.parts.closing.aborted) throw new ClosedError('The Dedup is closing', { key: this.call.key });
  }

  /** @throws UnsafeServerError, ExchangeError */
  async #checkServer(): Promise<void> {
    const { parts, call } = this;
    const { epoch } = parts.connection;
    if (parts.settings.allowEviction || parts.checkedEpoch === epoch) return;
    const { evicts, policy } = await evictionReport(parts.connection, parts.scripts.deadline()).catch(
      (error: unknown) => {
        // Whatever became of the question, no key was claimed by it.
        throw error instanceof ExchangeError ? error.as('unsent') : error;
      },
    );
    if (parts.checkedEpoch === epoch) return;
    if (evicts || policy === null) parts.events.emitUnsafeServer({ namespace: parts.settings.namespace, policy });
    if (evicts) {
      throw new UnsafeServerError(
        `The server may evict records (maxmemory-policy ${policy}), and what is evicted runs again: ` +
          'set maxmemory-policy to noeviction, or accept the risk with `allowEviction: true`',
        { key: call.key },
      );
    }
    parts.checkedEpoch = epoch;
  }

  async #waitForOther(leaseEndsAt: number, flight: Flight<Answer> | undefined): Promise<void> {
    const { parts, call } = this;
    const { key, redisKey, settings } = call;
    if (flight) flight.retryAt = () => leaseEndsAt;
    const deadline = settings.onInProgress === 'throw' ? 0 : this.#waitDeadline();
    if (monotonicMs() >= deadline) throw inProgress(key, leaseEndsAt);
    this.#wait ??= new Wait(parts.hints, redisKey);
    await this.#wait.pause(leaseEndsAt - monotonicMs(), deadline, [settings.signal, parts.closing]);
  }

  /** When this call gives up waiting, counted from the first time that it asks. */
  #waitDeadline(): number {
    const { leaseMs, waitTimeoutMs = leaseMs + WAIT_BEYOND_LEASE_MS } = this.call.settings;
    this.#waitStartedAt ??= monotonicMs();
    return this.#waitStartedAt + waitTimeoutMs;
  }

  #endWait(): void {
    if (this.#waitStartedAt === undefined || this.#waitedMs > 0) return;
    this.#waitedMs = monotonicMs() - this.#waitStartedAt;
    this.#wait?.end();
    this.parts.events.emit('waited', this.parts.subject(this.call), { waitedMs: this.#waitedMs });
  }

  #attempt(token: Buffer, claimedAt: number, fields: readonly Buffer[]): Attempt {
    const { parts, call } = this;
    const { key, redisKey, settings } = call;
    const { leaseMs, maxRunTimeMs } = settings;
    const [attempt, fence, born] = fields.map(Number) as [number, number, number];
    if (String(fields[3]) === 'lapsed') parts.events.emit('takenOver', parts.subject(call), { attempt });
    const terms = {
      key,
      redisKey,
      token,
      fence,
      born,
      attempt,
      leaseMs,
      maxRunTimeMs,
      claimedAt,
      ttlMs: ttlMs(settings),
    };
    return new Attempt(terms, (reason, ranMs) => {
      parts.events.emit('leaseLost', parts.subject(call), { attempt, ranMs, reason });
    });
  }

  async #execute(attempt: Attempt, flight: Flight<Answer> | undefined): Promise<Outcome<unknown>> {
    const { parts, call } = this;
    this.#endWait();
    if (flight) flight.retryAt = () => monotonicMs() + attempt.lease.remainingMs;
    const result = await execute(parts, call, attempt, (answer) => {
      this.#answer = answer;
    });
    const { attempt: number } = attempt.terms;
    const [waitedMs, ranMs] = [this.#waitedMs, attempt.ranMs];
    parts.events.emit('executed', parts.subject(call), { attempt: number, waitedMs, ranMs });
    return { status: 'executed', value: decodeResult(call, result), attempt: number, waitedMs };
  }

  /** What an answer is to this call. */
  async #replay(answer: Answer): Promise<Outcome<unknown>> {
    const { parts, call } = this;
    const { key } = call;
    this.#endWait();
    const waitedMs = this.#waitedMs;
    switch (answer.status) {
      case 'completed': {
        const { attempt, result } = answer;
        parts.events.emit('replayed', parts.subject(call), { attempt, waitedMs });
        return { status: 'replayed', value: decodeResult(call, result), attempt, waitedMs };
      }
      case 'failed': {
        const failure = readStored(key, answer.failure);
        throw new StoredFailureError('The handler failed, and its failure was stored (see `failure`)', {
          key,
          failure,
        });
      }
      case 'exhausted': {
        const attempts = answer.failures;
        throw new AttemptsExhaustedError(`${attempts} attempts did not complete (maxAttempts)`, { key, attempts });
      }
      case 'broken':
        throw brokenRecord(key);
      case 'unavailable':
        // A claim without an answer may stand: then another handler may run, and this one must not.
        if (parts.settings.onStoreFailure === 'proceed' && answer.error.failure !== 'unknown') return this.#bypass();
        throw storeUnavailable(key, answer.error, 'the handler did not run');
    }
  }

  /** Runs the handler without dedup: Redis was not reached, and surely nothing was claimed. */
  async #bypass(): Promise<Outcome<unknown>> {
    const { parts, call } = this;
    const { settings, key, redisKey } = call;
    const { leaseMs, maxRunTimeMs } = settings;
    this.#throwIfUnwanted();
    const terms = { key, redisKey, token: newToken(), fence: 0, born: 0, attempt: 1, ttlMs: 0 };
    const claim = { claimedAt: monotonicMs(), leaseMs: maxRunTimeMs + leaseMs, maxRunTimeMs };
    const attempt = new Attempt({ ...terms, ...claim }, () => {});
    const unlisten = onAbort(settings.signal, (reason) => attempt.interrupt(reason));
    try {
      const value = await parts.whileRunning(attempt, () => attempt.run(call.handler));
      const result = encodeResult(parts, call, value);
      return { status: 'bypassed', value: decodeResult(call, result), attempt: 1, waitedMs: this.#waitedMs };
    } finally {
      unlisten();
    }
  }
}

/**
 * A claim without an answer may stand, or may still come: it is asked for again until it answers, and given back, so
 * that every later copy is stale. Where the server refuses to claim, none stands.
 */
async function giveBack(parts: Parts, call: Call, token: Buffer): Promise<void> {
  const { settings, key, redisKey } = call;
  const { leaseMs, maxRunTimeMs } = settings;
  const claimedAt = monotonicMs();
  await untilAnswered(parts, claimedAt + leaseMs, async () => {
    const args = { ...claimArgs(parts, call, token), waits: '0' };
    const { status, fields } = await parts.scripts.call('claim', redisKey, args);
    if (status !== 'owned') return;
    const [attempt, fence, born] = fields.map(Number) as [number, number, number];
    const own = {
      key,
      redisKey,
      token,
      attempt,
      fence,
      born,
      claimedAt,
      leaseMs,
      maxRunTimeMs,
      ttlMs: ttlMs(settings),
    };
    await settle(parts, own, { as: 'released', ended: 'unstarted', ttlMs: own.ttlMs });
  });
}

function claimArgs(parts: Parts, { fingerprint, settings }: Call, token: Buffer): ScriptArgs<'claim'> {
  const { leaseMs, retentionMs, maxAttempts, onInProgress } = settings;
  return {
    token,
    fingerprint,
    lease_ms: leaseMs,
    ttl_ms: ttlMs(settings),
    retention_ms: retentionMs,
    max_attempts: maxAttempts,
    waits: onInProgress === 'wait' && parts.hints.channel !== '' ? '1' : '0',
  };
}

/** How long a record that is not completed lives, from each write. */
function ttlMs({ retentionMs, leaseMs }: CallSettings): number {
  return Math.max(retentionMs, 2 * leaseMs, SHORTEST_TTL_MS);
}

/** @throws CodecError */
function readStored(key: string, bytes: Buffer): StoredFailure {
  try {
    return readFailure(bytes);
  } catch (cause) {
    throw new CodecError('The stored failure cannot be read', { key, cause });
  }
}

function inProgress(key: string, leaseEndsAt: number): InProgressError {
  const retryAfterMs = Math.max(0, Math.ceil(leaseEndsAt - monotonicMs()));
  return new InProgressError('Another attempt holds the key', { key, retryAfterMs });
}

export function unreadable(key: string): CodecError {
  return new CodecError('What is stored under the key is no record of a layout that this version knows', { key });
}
