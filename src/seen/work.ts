/** What a set of seen ids does: its options in, marks made and looked for, many in few round trips. */
import { COMMIT_TIMEOUTS } from '../call/finish.js';
import type { Parts } from '../call/parts.js';
import { checkServer, isChecked } from '../call/server-check.js';
import { storeUnavailable } from '../call/verdicts.js';
import { bucketPlan, type RecordMark, recordMarkWords } from '../effects/mark.js';
import { CrossSlotError, InvalidOptionError, OutcomeUnknownError } from '../errors.js';
import { given } from '../given.js';
import { areInOneSlot, checkKey, recordKey } from '../key.js';
import { ExchangeError } from '../redis/exchange.js';
import type { ScriptReply } from '../redis/scripts.js';
import { duration, hashTag, namespaceOption, wholeNumber } from '../rules.js';
import { readMethodOptions } from '../settings.js';
import { type Mark, SeenLayout, type SeenTerms } from './layout.js';
import { type SeenOptions, type SeenSet, type SeenWork, seenSetOf, workOf } from './set.js';

const DAY = 24 * 3_600_000;
const RULES = {
  window: duration(1_000, 365 * DAY, '1 year'),
  capacity: wholeNumber(1, 10_000_000_000),
  buckets: wholeNumber(1, 60),
  slot: hashTag,
};
const SHORTEST_BUCKET_MS = 100;
/** A record outlives all resends of its commit. */
const SHORTEST_KEPT_MS = 60_000;
/** Ids that are sent at a time. */
const MOST_AT_A_TIME = 20_000;
/** Digests of one entry: Lua takes no more than some 8,000 values in one call. */
const MOST_PER_ENTRY = 1_000;

/**
 * @param prefix the namespace and scopes of the set, escaped and joined
 * @param slot of the view, where the options have none
 * @throws InvalidOptionError
 */
export function openSet(
  parts: Parts,
  prefix: string,
  name: string,
  slot: string | undefined,
  options: SeenOptions | undefined,
): SeenSet {
  namespaceOption('name', name);
  const read = readMethodOptions(options, RULES);
  const terms: SeenTerms = {
    windowMs: read.window ?? DAY,
    capacity: read.capacity ?? 1_000_000,
    buckets: read.buckets ?? 2,
  };
  if (terms.windowMs < terms.buckets * SHORTEST_BUCKET_MS) {
    throw new InvalidOptionError(
      `Expected \`buckets\` to be as few that each has ${SHORTEST_BUCKET_MS} ms of \`window\`, got ${given(terms.buckets)}`,
    );
  }
  return seenSetOf(name, new Work(parts, name, prefix, new SeenLayout(prefix, name, read.slot ?? slot, terms)));
}

/**
 * How the record of a call is marked, where `record` is a set.
 *
 * @throws InvalidOptionError for a set of another connection; CrossSlotError
 */
export function recordMarkOf(
  parts: Parts,
  subject: { readonly key: string; readonly redisKey: string },
  record: 'full' | SeenSet,
): RecordMark | undefined {
  const work = workOf(record);
  if (!work) return undefined;
  const { connection, settings } = parts;
  const { key, redisKey } = subject;
  if (work.connection !== connection.origin) {
    throw new InvalidOptionError('Expected `record` to be a set on the connection of the call', { key });
  }
  const mark = work.markOfRecord(subject);
  if (connection.isCluster && !areInOneSlot(connection.keyPrefix, mark.keys[0] as string, redisKey)) {
    throw new CrossSlotError('Expected the set of `record` to be in the slot of the call: give both the same `slot`', {
      key,
    });
  }
  const keptMs = Math.max(SHORTEST_KEPT_MS, COMMIT_TIMEOUTS * settings.redisTimeoutMs);
  const words = recordMarkWords(1, mark, keptMs);
  const effects = { keys: mark.keys, plan: bucketPlan(mark), words, alone: false };
  return { mark, keptMs, effects, agree: () => work.agree() };
}

/** One entry of the script: ids of one shard. */
interface Entry {
  readonly keys: readonly string[];
  /** In the order in which they are sent, with where each came from. */
  readonly indexes: Map<string, number[]>;
}

class Work implements SeenWork {
  constructor(
    private readonly parts: Parts,
    private readonly name: string,
    private readonly prefix: string,
    private readonly layout: SeenLayout,
  ) {}

  get connection(): object {
    return this.parts.connection.origin;
  }

  get windowMs(): number {
    return this.layout.windowMs;
  }

  async add(id: string): Promise<boolean> {
    const [isNew] = await this.#ask('add', id, [id]);
    return isNew as boolean;
  }

  async addMany(ids: readonly string[]): Promise<boolean[]> {
    if (!Array.isArray(ids)) throw new InvalidOptionError(`Expected the ids to be an array, got ${given(ids)}`);
    return this.#ask('add', undefined, ids);
  }

  async has(id: string): Promise<boolean> {
    const [isNew] = await this.#ask('has', id, [id]);
    return !isNew;
  }

  markOf(id: string): Mark {
    checkKey(id, this.parts.settings.maxKeyBytes, 'the id');
    return this.layout.markOf(id);
  }

  markOfRecord({ key, redisKey }: { key: string; redisKey: string }): Mark {
    // A key of the set's own namespace, scope and slot is an id of it. Keys from elsewhere never meet those.
    const isOwn = recordKey(this.prefix, key, this.layout.slot) === redisKey;
    return this.layout.markOf(isOwn ? key : Buffer.from(redisKey));
  }

  agree(): Promise<void> {
    return this.parts.agreements.ensure(this.layout);
  }

  /** For each id whether it is new. */
  async #ask(task: 'add' | 'has', key: string | undefined, ids: readonly string[]): Promise<boolean[]> {
    // A copy: the caller may change its list meanwhile.
    const asked = [...ids];
    for (const id of asked) checkKey(id, this.parts.settings.maxKeyBytes, 'the id');
    const { observer } = this.parts;
    if (!observer) return this.#askAll(task, key, asked);
    return observer.around(this.parts.observed(`seen.${task}`, this.layout.key), async (facts) => {
      facts.ids = asked.length;
      const news = await this.#askAll(task, key, asked);
      facts.newIds = news.filter((isNew) => isNew).length;
      facts.outcome = facts.newIds > 0 ? 'new' : 'seen';
      return news;
    });
  }

  async #askAll(task: 'add' | 'has', key: string | undefined, asked: readonly string[]): Promise<boolean[]> {
    this.parts.enter(key ?? this.name);
    try {
      const news: boolean[] = new Array(asked.length);
      for (let from = 0; from < asked.length; from += MOST_AT_A_TIME) {
        await this.#askSome(task, key, asked.slice(from, from + MOST_AT_A_TIME), from, news);
      }
      return news;
    } finally {
      this.parts.leave();
    }
  }

  async #askSome(
    task: 'add' | 'has',
    key: string | undefined,
    ids: readonly string[],
    from: number,
    news: boolean[],
  ): Promise<void> {
    try {
      if (!isChecked(this.parts)) await checkServer(this.parts, key ?? this.name);
      await this.agree();
    } catch (error) {
      if (!(error instanceof ExchangeError)) throw error;
      throw this.#failure(task, key, error, from > 0);
    }
    const entries = this.#entriesOf(ids);
    const answers = await Promise.allSettled(entries.map((entry) => this.#send(task, entry)));
    const errors = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []));
    const foreign = errors.find((error) => !(error instanceof ExchangeError));
    if (foreign) throw foreign;
    if (errors.length > 0) {
      const worst = errors.find((error) => (error as ExchangeError).failure === 'unknown') ?? errors[0];
      throw this.#failure(task, key, worst as ExchangeError, from > 0 || errors.length < answers.length);
    }
    for (const [index, entry] of entries.entries()) {
      const { fields, steady } = (answers[index] as PromiseFulfilledResult<ScriptReply<'seen'>>).value;
      const letters = String(fields[0]);
      // A copy that ran before may have made the very mark.
      if (task === 'add' && !steady && letters.includes('1')) throw unknown(key, undefined);
      let at = 0;
      for (const [first = 0, ...copies] of entry.indexes.values()) {
        const isNew = letters[at] === '0';
        news[from + first] = isNew;
        for (const copy of copies) news[from + copy] = isNew && task === 'has';
        at += 1;
      }
    }
  }

  #entriesOf(ids: readonly string[]): Entry[] {
    const entries: Entry[] = [];
    const open = new Map<string, Entry>();
    for (const [index, id] of ids.entries()) {
      const { keys, digest } = this.layout.markOf(id);
      const shard = keys[0] as string;
      let entry = open.get(shard);
      const indexes = entry?.indexes.get(digest);
      if (indexes) {
        indexes.push(index);
        continue;
      }
      if (!entry || entry.indexes.size === MOST_PER_ENTRY) {
        entry = { keys, indexes: new Map() };
        entries.push(entry);
        open.set(shard, entry);
      }
      entry.indexes.set(digest, [index]);
    }
    return entries;
  }

  #send(task: 'add' | 'has', { keys: [first, ...others], indexes }: Entry): Promise<ScriptReply<'seen'>> {
    const effects = { keys: others, plan: '1'.repeat(others.length), words: [...indexes.keys()], alone: false };
    return this.parts.scripts.call('seen', first as string, { task, bucket_ms: this.layout.bucketMs }, { effects });
  }

  /** @param others did other ids get an answer? */
  #failure(task: 'add' | 'has', key: string | undefined, error: ExchangeError, others: boolean): Error {
    const { name: setName, layout, parts } = this;
    parts.storeError({ key: key ?? setName, redisKey: layout.key }, 'seen', error);
    if (task === 'has') return storeUnavailable(key, error, 'nothing was read');
    if (others || error.failure === 'unknown') return unknown(key, error);
    return storeUnavailable(key, error, 'nothing was marked');
  }
}

function unknown(key: string | undefined, cause: ExchangeError | undefined): OutcomeUnknownError {
  const what =
    key === undefined
      ? 'Some or all of the ids are, or may be, marked'
      : 'The id is, or may be, marked: by whom is not known';
  return new OutcomeUnknownError(`${what}, since Redis did not answer, or the connection dropped`, { key, cause });
}
