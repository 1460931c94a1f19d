/** Why a command could not run, as one sentence that holds no secret. */
import { isDedupError } from '../errors.js';
import { ExchangeError } from '../redis/exchange.js';
import { printable } from './text.js';

export type FailureCode =
  | 'USAGE'
  | 'NO_IOREDIS'
  | 'UNREACHABLE'
  | 'LOGIN_REFUSED'
  | 'NOT_REDIS'
  | 'REFUSED'
  | 'INTERRUPTED';

/** The command did not do what it is for: exit code 2, or 130 where it was interrupted. */
export class Failure extends Error {
  constructor(
    readonly code: FailureCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export interface Told {
  readonly code: string;
  readonly message: string;
}

/** Any error as a code and a sentence. */
export function tell(error: unknown): Told {
  if (error instanceof Failure || isDedupError(error)) return { code: error.code, message: sentence(error.message) };
  if (error instanceof ExchangeError) {
    const code = error.code === null ? 'UNREACHABLE' : 'REFUSED';
    return { code, message: sentence(error.message) };
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return { code: 'UNEXPECTED', message: sentence(message) };
}

function sentence(message: string): string {
  const text = printable(message.trim());
  return /[.?!]$/.test(text) ? text : `${text}.`;
}
