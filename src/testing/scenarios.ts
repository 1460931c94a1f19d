/** What happens to messages, made to happen: delivered twice, cut off before or after the commit, answered in vain. */
import { AssertionError } from 'node:assert';
import type { AttemptTerms } from '../call/attempt.js';
import type { Codec, JsonCodec, Stored } from '../codec.js';
import type { Dedup } from '../dedup.js';
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';
import { INSIDE } from '../inside.js';
import type { Handler } from '../outcome.js';
import type { ScriptAnswer } from '../redis/connection.js';
import { ExchangeError } from '../redis/exchange.js';
import { ConsumerProcess, type Deliver, type DeliveryReport } from './consumer-process.js';

/** What a scenario came to, where nothing went wrong that it can see. */
export interface ScenarioReport<T> {
  /** What the last delivery returned. */
  readonly value: T;
  /** How often handlers ran, in all deliveries. */
  readonly runs: number;
  readonly deliveries: readonly DeliveryReport<T>[];
}

/**
 * Delivers one message in the way that its name says, each time to another process, as far as Redis can tell: a Dedup like the one
 * given, on a connection of its own. Look at your data afterwards: they must be as after one delivery that nothing happened to.
 *
 * Give a function that does with the Dedup that it is handed what your consumer does with a message, or a key and a handler for
 * `once`.
 *
 * @throws what a delivery throws, but for `InProgressError` of a copy that came while the first was at work
 * @throws AssertionError where the deliveries do not ask for the same key, or what is to be cut off never comes
 */
export interface Scenario {
  <T, C extends Codec = JsonCodec>(dedup: Dedup<C>, deliver: Deliver<T, C>): Promise<ScenarioReport<T>>;
  <T, C extends Codec = JsonCodec>(
    dedup: Dedup<C>,
    key: string,
    handler: Handler<T>,
  ): Promise<ScenarioReport<Stored<T, C>>>;
}

type Message = [deliver: Deliver<unknown, Codec>, handler?: undefined] | [key: string, handler: Handler<unknown>];

/** A copy's commit is held for the other no longer than this: code of the caller's may let only one of them go on. */
const HELD_MS = 1_000;
/** What a script answers whose entry completed its record. */
const COMPLETED = ['done', 'applied'];

/**
 * Two copies at once, both of which have asked for the key before one is done, and a third when both are over. The handler runs
 * once; the others get its result.
 *
 * @example
 * ```ts
 * import { deliverTwice } from 'redis-once/testing';
 *
 * const { runs } = await deliverTwice(dedup, payment.id, ({ tx }) => void tx.incrby('total', payment.cents));
 * console.assert(runs === 1);
 * ```
 */
export const deliverTwice: Scenario = (dedup: Dedup<Codec>, ...message: Message) =>
  scenario(message, async (deliver) => {
    const one: ConsumerProcess<Codec> = new ConsumerProcess(dedup, async (send) => {
      await atMost(HELD_MS, two.answered);
      return send();
    });
    const two = new ConsumerProcess(dedup, async (send) => {
      await atMost(HELD_MS, one.answered);
      return send();
    });
    const both = await Promise.allSettled([deliver(one, true), deliver(two, true)]);
    const reports = both.map((delivery) => {
      if (delivery.status === 'rejected') throw delivery.reason;
      return delivery.value;
    });
    return [...reports, await deliver(new ConsumerProcess(dedup))];
  });

/**
 * The handler has run, and its process dies before the commit reaches Redis; the lease ends, and the message is delivered again.
 * The handler runs a second time, with `attempt` 2: what it wrote on `tx` was dropped with the first, what it did elsewhere was done.
 *
 * @example
 * ```ts
 * import { crashBeforeCommit } from 'redis-once/testing';
 *
 * await crashBeforeCommit(dedup, payment.id, ({ tx }) => void tx.incrby('total', payment.cents));
 * console.assert((await redis.get('total')) === String(payment.cents));
 * ```
 */
export const crashBeforeCommit: Scenario = (dedup: Dedup<Codec>, ...message: Message) =>
  scenario(message, async (deliver) => {
    const first = new ConsumerProcess(dedup, (_send, process) => process.die());
    const crashed = await deliver(first);
    expectCut(crashed);
    await endLeases(dedup, first.held);
    return [crashed, await deliver(new ConsumerProcess(dedup))];
  });

/**
 * The commit is made, and the process dies before it hears so; the message is delivered again. Nothing runs a second time: the
 * redelivery gets the stored result.
 *
 * @example
 * ```ts
 * import { crashAfterCommit } from 'redis-once/testing';
 *
 * const { runs } = await crashAfterCommit(dedup, payment.id, ({ tx }) => void tx.incrby('total', payment.cents));
 * console.assert(runs === 1);
 * ```
 */
export const crashAfterCommit: Scenario = (dedup: Dedup<Codec>, ...message: Message) =>
  scenario(message, async (deliver) => {
    const first = new ConsumerProcess(dedup, async (send, process) => {
      const answer = await send();
      return isCompletion(answer) ? process.die() : answer;
    });
    const crashed = await deliver(first);
    expectCut(crashed);
    await endLeases(dedup, first.held);
    return [crashed, await deliver(new ConsumerProcess(dedup))];
  });

/**
 * The commit is made, its answer is lost with the connection, and the library sends it again: the caller learns that it is done.
 * Then a copy comes, and gets the stored result.
 *
 * @example
 * ```ts
 * import { loseReply } from 'redis-once/testing';
 *
 * const { runs } = await loseReply(dedup, payment.id, ({ tx }) => void tx.incrby('total', payment.cents));
 * console.assert(runs === 1);
 * ```
 */
export const loseReply: Scenario = (dedup: Dedup<Codec>, ...message: Message) =>
  scenario(message, async (deliver) => {
    let lost = false;
    const first = new ConsumerProcess(dedup, async (send, process) => {
      const answer = await send();
      if (lost || !isCompletion(answer)) return answer;
      lost = true;
      return process.loseAnswer();
    });
    const told = await deliver(first);
    if (!lost) throw neverCut();
    return [told, await deliver(new ConsumerProcess(dedup))];
  });

/** @param play delivers as often as it likes; the processes that it names must begin with the same key */
async function scenario(
  [first, handler]: Message,
  play: (
    deliver: (to: ConsumerProcess<Codec>, early?: boolean) => Promise<DeliveryReport<never>>,
  ) => Promise<DeliveryReport<never>[]>,
): Promise<ScenarioReport<never>> {
  const deliverTo: Deliver<unknown, Codec> =
    handler === undefined ? (first as Deliver<unknown, Codec>) : (to) => to.once(first as string, handler);
  if (typeof deliverTo !== 'function') {
    throw new InvalidOptionError(`Expected a function that delivers, or a key and a handler, got ${given(first)}`);
  }
  let key: string | undefined;
  const deliveries = await play(async (to, early) => {
    const report = await to.deliver(deliverTo, early);
    expectKey(to.firstKey, key);
    key = to.firstKey;
    return report as DeliveryReport<never>;
  });
  return {
    value: deliveries.at(-1)?.value as never,
    runs: deliveries.reduce((sum, { runs }) => sum + runs, 0),
    deliveries,
  };
}

/** @throws AssertionError */
function expectKey(key: string | undefined, earlier: string | undefined): void {
  if (key === undefined) {
    throw new AssertionError({
      message:
        'Expected each delivery to call the Dedup that it is given, got one that asked for no key: does it use another?',
    });
  }
  if (earlier !== undefined && key !== earlier) {
    throw new AssertionError({
      message: `Expected each delivery to ask for the same key, got \`${earlier}\` and then \`${key}\`: take it from the message`,
      expected: earlier,
      actual: key,
      operator: 'strictEqual',
    });
  }
}

function expectCut(report: DeliveryReport<unknown>): void {
  if (report.end !== 'crashed') throw neverCut();
}

function neverCut(): AssertionError {
  return new AssertionError({
    message: 'Expected the first delivery to complete its key, got none that did: was the key completed before?',
  });
}

function isCompletion({ entries }: ScriptAnswer): boolean {
  return entries.some(([status]) => COMPLETED.includes(String(status)));
}

/**
 * What time does for a dead holder, done at once: the records stay as it left them, but for when their leases end. Those that
 * are completed, or taken over, are left alone.
 */
async function endLeases(dedup: Dedup<Codec>, held: readonly AttemptTerms[]): Promise<void> {
  const calls = held.map(({ redisKey, token, fence, ttlMs }) => ({
    redisKey,
    args: { token, fence, lease_ms: 0, ttl_ms: ttlMs },
  }));
  const answers = await dedup[INSIDE].parts.scripts.callMany('renew', calls);
  const failure = answers.find((answer) => answer instanceof ExchangeError);
  if (failure) throw failure;
}

async function atMost(ms: number, promise: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([promise, late]);
  clearTimeout(timer);
}
