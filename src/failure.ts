/** Stored failures: what is kept of a handler's error, as JSON, whatever the codec of results. */
import { parseStored } from './codec.js';
import type { StoredFailure } from './errors.js';

const LONGEST_NAME = 256;
const LONGEST_MESSAGE = 8 * 1024;

/** The bytes to store of what a handler threw. Long texts are cut. */
export function writeFailure(error: unknown): string {
  const { name, message, code } = propertiesOf(error);
  const failure: StoredFailure = {
    name: text(name, LONGEST_NAME) ?? 'Error',
    message: text(message, LONGEST_MESSAGE) ?? '',
  };
  const codeText = text(code, LONGEST_NAME);
  if (codeText !== undefined) failure.code = codeText;
  return JSON.stringify(failure);
}

export function readFailure(bytes: Buffer): StoredFailure {
  return parseStored(bytes.toString()) as StoredFailure;
}

/** What is thrown may be anything, an object whose properties throw included. */
function propertiesOf(error: unknown): { name?: unknown; message?: unknown; code?: unknown } {
  if (typeof error !== 'object' || error === null) return { message: error };
  try {
    const { name, message, code } = error as Record<string, unknown>;
    return { name, message, code };
  } catch {
    return {};
  }
}

function text(value: unknown, longest: number): string | undefined {
  return value === undefined || value === null || typeof value === 'object'
    ? undefined
    : String(value).slice(0, longest);
}
