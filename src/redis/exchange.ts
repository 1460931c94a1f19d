/** What comes of an exchange with Redis that failed: surely nothing, a refusal, or nobody knows. */
import { monotonicMs } from '../clock.js';

/** What is known of an exchange that failed: never given to ioredis, refused by the server, or nothing. */
export type ExchangeFailure = 'unsent' | 'refused' | 'unknown';

/** Refusals that pass by themselves. */
const PASSING = new Set(['LOADING', 'BUSY', 'TRYAGAIN', 'CLUSTERDOWN', 'MASTERDOWN', 'READONLY', 'NOREPLICAS']);

/** Why an exchange failed. Its message and cause hold no arguments of the command. */
export class ExchangeError extends Error {
  /** When the command was handed over, on the monotonic clock. */
  readonly sentAt: number;
  /** It was not one entry of a list that was refused, but the list. */
  readonly ofWholeList: boolean;

  constructor(
    readonly failure: ExchangeFailure,
    /** The server's error code, such as `OOM`; null where there was no answer. */
    readonly code: string | null,
    message: string,
    { cause, sentAt, ofWholeList = false }: { cause?: Error | undefined; sentAt?: number; ofWholeList?: boolean } = {},
  ) {
    super(message, cause && { cause });
    this.sentAt = sentAt ?? monotonicMs();
    this.ofWholeList = ofWholeList;
  }

  /** The server refused for a reason that passes by itself: the same may be asked again. */
  get passes(): boolean {
    return this.code !== null && PASSING.has(this.code);
  }

  /** The server refused a list for what one of its entries alone may be to blame for: the others may be asked singly. */
  get splits(): boolean {
    return this.code === 'TRYAGAIN' || !this.passes;
  }

  /** The same reason, where more, or less, is known of the exchange as a whole. */
  as(failure: ExchangeFailure, sentAt = this.sentAt): ExchangeError {
    const { code, message } = this;
    return new ExchangeError(failure, code, message, { cause: this.cause as Error | undefined, sentAt });
  }
}

/** What each refusal says, in the middle of a sentence. */
const REFUSALS: Record<string, string> = {
  OOM: 'Redis is out of memory (`maxmemory`)',
  READONLY: 'Redis is a read-only replica',
  NOPERM: 'the Redis user lacks a permission (`ACL LOG` on the server names it)',
  NOAUTH: 'the connection is not authenticated',
  MISCONF: 'Redis refuses writes since it cannot persist them',
  NOREPLICAS: 'Redis refuses writes for want of replicas',
  LOADING: 'Redis is loading its data',
  BUSY: 'Redis is busy with a script',
  MASTERDOWN: 'the replica has lost its primary',
  CLUSTERDOWN: 'the cluster is down',
  TRYAGAIN: 'a slot is being moved',
};

/** Why there was no answer, or which refusal it was, in the middle of a sentence. */
export function reasonOf(failure: ExchangeError | undefined): string {
  if (!failure) return 'Redis did not answer';
  const { code, message } = failure;
  return code ? (REFUSALS[code] ?? `Redis answered ${code}`) : message.replace(/\.$/, '');
}

/** The promise's value, or an `unknown` failure when the deadline comes first. */
export function withDeadline<T>(promise: Promise<T>, deadline: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new ExchangeError('unknown', null, 'Redis did not answer in time'));
    const timer = setTimeout(late, Math.max(0, deadline - monotonicMs()));
    // No `finally`: it makes two promises more.
    const settled =
      <V>(settle: (value: V) => void) =>
      (value: V) => {
        clearTimeout(timer);
        settle(value);
      };
    promise.then(settled(resolve), settled(reject));
  });
}

/** ioredis says these of a command that it has neither sent nor kept; it gives them no code. */
const KEPT_BACK = /enableOfflineQueue options is false/;

/** What an error of ioredis says of the exchange. Its `command.args` hold payloads and are left behind. */
export function explain(error: unknown, steady: boolean, sentAt: number): ExchangeError {
  if (error instanceof ExchangeError) return error;
  const { name, message } = error as Error;
  if (name === 'ReplyError') {
    const code = /^[A-Z][A-Z0-9]*/.exec(message)?.[0] ?? 'ERR';
    // A refusal after a reconnect may follow a first copy that ran.
    const failure = steady ? 'refused' : 'unknown';
    return new ExchangeError(failure, code, `Redis answered ${code}`, { sentAt, ofWholeList: true });
  }
  const cause = Object.assign(new Error(message), { name });
  return new ExchangeError(steady && KEPT_BACK.test(message) ? 'unsent' : 'unknown', null, message, { cause, sentAt });
}
