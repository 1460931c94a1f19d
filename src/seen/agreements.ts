/**
 * Clients with different options for one set would look for an id in different places, and each would be new to the other.
 * So the layout of a set is kept in Redis, and each client compares its own before it uses the set: at first, after a
 * reconnect, and again after the longest life of a mark. The layout is kept for three times that, from each comparison: it
 * outlives every mark that was made by it, and goes when the set has not been used for so long that nothing is in it.
 */
import { monotonicMs } from '../clock.js';
import { InvalidOptionError } from '../errors.js';
import { ExchangeError } from '../redis/exchange.js';
import type { Scripts } from '../redis/scripts.js';
import type { SeenLayout } from './layout.js';

interface Agreement {
  readonly epoch: number;
  /** On the monotonic clock. */
  readonly until: number;
  readonly answer: Promise<void>;
}

/** Of more sets the oldest are compared again. */
const MOST_KNOWN = 10_000;

export class Agreements {
  readonly #known = new Map<string, Agreement>();

  constructor(
    private readonly scripts: Scripts,
    private readonly redisTimeoutMs: number,
  ) {}

  /**
   * @throws InvalidOptionError where the set is in use with other options
   * @throws ExchangeError, `unsent`: nothing but the question may have been sent
   */
  async ensure(layout: SeenLayout): Promise<void> {
    const { epoch } = this.scripts.connection;
    const id = `${layout.key} ${layout.text}`;
    const known = this.#known.get(id);
    if (known && known.epoch === epoch && monotonicMs() < known.until) return known.answer;
    const agreement = { epoch, until: monotonicMs() + layout.longestLifeMs, answer: this.#ask(layout) };
    this.#known.delete(id);
    this.#known.set(id, agreement);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST_KNOWN) this.#known.delete(oldest as string);
    try {
      await agreement.answer;
    } catch (error) {
      if (this.#known.get(id) === agreement) this.#known.delete(id);
      throw error;
    }
  }

  async #ask(layout: SeenLayout): Promise<void> {
    const ttlMs = 3 * (layout.longestLifeMs + this.redisTimeoutMs);
    const reply = await this.scripts
      .call('agree', layout.key, { layout: layout.text, ttl_ms: ttlMs })
      .catch((error: unknown) => {
        throw error instanceof ExchangeError ? error.as('unsent') : error;
      });
    if (reply.status === 'agreed') return;
    throw new InvalidOptionError(
      `Expected the options of the set to be those that it is used with (\`${reply.fields[0]}\`), got \`${layout.text}\``,
    );
  }
}
