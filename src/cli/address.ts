/**
 * How a record is named on the command line: as the program names it (KEY, `--scope`, `--slot`), or, where its names cannot
 * be read back or shown, by its Redis key. What `list` prints is what `inspect` and `forget` take.
 */
import { InvalidOptionError } from '../errors.js';
import { checkKey, escapePart, escapeText, type RecordNames, readRecordKey, recordKey, unescapeText } from '../key.js';
import { hashTag, namespaceOption } from '../rules.js';
import { Failure } from './failure.js';

export interface Address {
  readonly redisKey: string;
  readonly names: RecordNames;
}

export interface AddressOptions {
  readonly namespace: string;
  readonly scope: readonly string[];
  readonly slot?: string | undefined;
  /** KEY is a Redis key. */
  readonly redisKey?: boolean | undefined;
}

/** As large as `maxKeyBytes` may be. */
const LONGEST_KEY_BYTES = 64 * 1024;
const SHOWN_AS_IT_IS = /^[\p{L}\p{N}\p{P}\p{S} ]+$/u;
/** Means the same to every shell without quotes. */
const PLAIN_WORD = /^[\p{L}\p{N}_./:@%+,-]+$/u;

/** The start of the Redis keys of a namespace and scopes, escaped and joined. */
export function prefixOf(namespace: string, scope: readonly string[]): string {
  namespaceOption('--namespace', namespace);
  for (const segment of scope) checkKey(segment, LONGEST_KEY_BYTES);
  return [namespace, ...scope].map(escapePart).join(':');
}

/** @throws Failure, InvalidKeyError, InvalidOptionError for what names no record */
export function addressOf(key: string, { namespace, scope, slot, redisKey }: AddressOptions): Address {
  const prefix = prefixOf(namespace, scope);
  if (!redisKey) {
    checkKey(key, LONGEST_KEY_BYTES);
    if (slot !== undefined) hashTag('--slot', slot);
    return { redisKey: recordKey(prefix, key, slot), names: { slot: slot ?? null, scope, key } };
  }
  if (scope.length > 0 || slot !== undefined) {
    throw new InvalidOptionError('Expected no `--scope` and no `--slot` with `--redis-key`, which holds them');
  }
  const whole = key.replace(/^\{([^{}]+)\}:/, (_, escaped: string) => `{${unescapeText(escaped)}}:`);
  const names = readRecordKey(whole, prefix);
  if (!names) {
    throw new Failure('USAGE', `That is not the Redis key of a record in the namespace ${namespace}`);
  }
  return { redisKey: whole, names };
}

/** The words by which `inspect` and `forget` take the record, all of which can be shown. */
export function argumentsOf({ redisKey, names: { slot, scope, key } }: Address): string[] {
  const words = [...scope, key];
  if (slot !== null) words.push(slot);
  if (words.every((word) => word !== null && SHOWN_AS_IT_IS.test(word) && !word.startsWith('-'))) {
    return [
      ...(slot === null ? [] : ['--slot', slot]),
      ...scope.flatMap((segment) => ['--scope', segment as string]),
      key as string,
    ];
  }
  const shown = redisKey.replace(/^\{([^{}]+)\}:/, (_, tag: string) => `{${escapeText(tag)}}:`);
  return ['--redis-key', shown];
}

/** Words as a POSIX shell reads them back. */
export function shellWords(words: readonly string[]): string {
  return words.map((word) => (PLAIN_WORD.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`)).join(' ');
}
