/** Adding to a stream or a list once per key, however often the producer tries. */
import type { Codec } from '../codec.js';
import type { Dedup } from '../dedup.js';
import type { EffectValue } from '../effects/effects.js';
import { InvalidOptionError } from '../errors.js';
import { given } from '../given.js';
import type { ApplyOptions } from '../options.js';
import { checkTarget, inSlotOf } from './options.js';

/** An entry for a stream. */
export interface StreamTarget {
  readonly stream: string;
  readonly fields: Readonly<Record<string, EffectValue>>;
  /** Removes the oldest entries beyond some so many (`MAXLEN ~`): also ones that no consumer has done. */
  readonly maxLength?: number | undefined;
}

/** Elements for a list, put at its end. */
export interface ListTarget {
  readonly list: string;
  readonly values: readonly EffectValue[];
}

/** Of the call that added, for every call. */
export interface ProducedEntry {
  readonly status: 'executed' | 'replayed';
  /** The entry's id. */
  readonly id: string;
}

export interface ProducedElements {
  readonly status: 'executed' | 'replayed';
  /** How long the list was then. */
  readonly length: number;
}

/**
 * Adds an entry to a stream, or elements to a list, once per key, in one round trip (`apply`). A copy of the call gets the
 * first one's answer, within the retention.
 *
 * @throws as `apply`; InvalidOptionError for a target that is none
 * @example
 * ```ts
 * import { produceOnce } from 'redis-once/streams';
 *
 * const { id } = await produceOnce(dedup, order.id, { stream: 'orders', fields: { id: order.id } });
 * ```
 */
export function produceOnce(
  dedup: Dedup<Codec>,
  key: string,
  target: StreamTarget,
  options?: ApplyOptions,
): Promise<ProducedEntry>;
export function produceOnce(
  dedup: Dedup<Codec>,
  key: string,
  target: ListTarget,
  options?: ApplyOptions,
): Promise<ProducedElements>;
export async function produceOnce(
  dedup: Dedup<Codec>,
  key: string,
  target: StreamTarget | ListTarget,
  options: ApplyOptions = {},
): Promise<ProducedEntry | ProducedElements> {
  if (typeof target !== 'object' || target === null) throw noTarget(target);
  if ('stream' in target && target.stream !== undefined) {
    const { stream, fields, maxLength, ...others } = target;
    checkNoOthers(others, 'stream, fields, maxLength');
    if (typeof fields !== 'object' || fields === null) {
      throw new InvalidOptionError(`Expected \`fields\` to be an object, got ${given(fields)}`);
    }
    const limit = maxLength === undefined ? [] : ['MAXLEN', '~', maxLength];
    const words = [...limit, '*', ...Object.entries(fields).flat()] as [string, string, string, ...EffectValue[]];
    const view = viewFor(dedup, 'stream', stream, options);
    const { status, replies } = await view.apply<[string]>(key, (tx) => tx.xadd(stream, ...words), options);
    return { status, id: replies[0] };
  }
  if ('list' in target && target.list !== undefined) {
    const { list, values, ...others } = target;
    checkNoOthers(others, 'list, values');
    const view = viewFor(dedup, 'list', list, options);
    const { status, replies } = await view.apply<[number]>(key, (tx) => tx.rpush(list, values), options);
    return { status, length: replies[0] };
  }
  throw noTarget(target);
}

function checkNoOthers(others: object, names: string): void {
  const [other] = Object.entries(others).find(([, value]) => value !== undefined) ?? [];
  if (other !== undefined) throw new InvalidOptionError(`\`${other}\` is not part of a target. There is: ${names}`);
}

function noTarget(target: unknown): InvalidOptionError {
  return new InvalidOptionError(`Expected a target with \`stream\` or \`list\`, got ${given(target)}`);
}

function viewFor(dedup: Dedup<Codec>, name: string, key: string, { slot }: ApplyOptions): Dedup<Codec> {
  checkTarget(dedup, name, key);
  return slot === undefined ? inSlotOf(dedup, name, key) : dedup;
}
