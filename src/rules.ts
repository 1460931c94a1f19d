/** Rules that read one option each: what it must be, and the sentence that says so where it is not. */
import type { Codec } from './codec.js';
import { formatMs, parseDuration } from './duration.js';
import { InvalidOptionError } from './errors.js';
import { given } from './given.js';
import { type SeenSet, workOf } from './seen/set.js';

/**
 * Reads one option; `undefined` never reaches it.
 *
 * @throws InvalidOptionError naming the option, what was expected and what was given
 */
export type Rule<V> = (name: string, value: unknown) => V;

/**
 * A duration option in ms.
 *
 * @throws InvalidOptionError where it is none, or out of range
 */
export function duration(min: number, max: number, maxText = formatMs(max)): Rule<number> {
  return (name, value) => {
    const ms = parseDuration(value);
    if (ms === undefined || ms < min || ms > max) {
      const form = ms === undefined ? 'a whole number of ms, or a string such as `30s`,' : '';
      throw new InvalidOptionError(
        `Expected \`${name}\` to be ${form} from ${formatMs(min)} to ${maxText}, got ${given(value)}`.replace(
          '  ',
          ' ',
        ),
      );
    }
    return ms;
  };
}

export function wholeNumber(min: number, max: number): Rule<number> {
  return (name, value) => {
    if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
      throw new InvalidOptionError(
        `Expected \`${name}\` to be a whole number from ${min} to ${max}, got ${given(value)}`,
      );
    }
    return value as number;
  };
}

export function oneOf(...choices: string[]): Rule<string> {
  return (name, value) => {
    if (!choices.includes(value as string)) {
      throw new InvalidOptionError(
        `Expected \`${name}\` to be ${choices.map((choice) => `\`${choice}\``).join(' or ')}, got ${given(value)}`,
      );
    }
    return value as string;
  };
}

export function flag(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean')
    throw new InvalidOptionError(`Expected \`${name}\` to be a boolean, got ${given(value)}`);
  return value;
}

export function namespaceOption(name: string, value: unknown): string {
  if (typeof value !== 'string' || value === '' || Buffer.byteLength(value) > 512) {
    throw new InvalidOptionError(`Expected \`${name}\` to be a string of 1 to 512 bytes, got ${given(value)}`);
  }
  return value;
}

export function hashTag(name: string, value: unknown): string {
  if (typeof value !== 'string' || !/^[^{}]{1,512}$/s.test(value) || !value.isWellFormed()) {
    throw new InvalidOptionError(
      `Expected \`${name}\` to be a hash tag: a string of 1 to 512 characters without braces, got ${given(value)}`,
    );
  }
  return value;
}

export function abortSignal(name: string, value: unknown): AbortSignal {
  const signal = value as Partial<AbortSignal> | null;
  if (
    typeof signal !== 'object' ||
    typeof signal?.aborted !== 'boolean' ||
    typeof signal.addEventListener !== 'function'
  ) {
    throw new InvalidOptionError(`Expected \`${name}\` to be an AbortSignal, got ${given(value)}`);
  }
  return value as AbortSignal;
}

export function errorPolicy(name: string, value: unknown): unknown {
  if (typeof value === 'function' || value === 'release' || value === 'store') return value;
  throw new InvalidOptionError(`Expected \`${name}\` to be \`release\`, \`store\` or a function, got ${given(value)}`);
}

export function recordOption(name: string, value: unknown): 'full' | SeenSet {
  if (value === 'full' || workOf(value)) return value as 'full' | SeenSet;
  throw new InvalidOptionError(`Expected \`${name}\` to be \`full\` or a SeenSet, got ${given(value)}`);
}

export function codecOption(name: string, value: unknown): Codec {
  const codec = value as Partial<Codec> | null;
  if (typeof codec !== 'object' || typeof codec?.encode !== 'function' || typeof codec.decode !== 'function') {
    throw new InvalidOptionError(
      `Expected \`${name}\` to be an object with \`encode\` and \`decode\`, got ${given(value)}`,
    );
  }
  return codec as Codec;
}
