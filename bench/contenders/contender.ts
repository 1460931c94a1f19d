/** What stands in the ring: ways to run work once per key, and floors that only pretend to. */

/** What a call is for. Its result is what later calls of the key are given. */
export type Work = () => string | Promise<string>;

/** One way, on connections of its own. */
export interface Contender {
  /** Runs the work unless the key was done before; the result of the run that counts. */
  call(key: string, work: Work): Promise<string>;
  /** Did the call fail because another one is at work on the key? Its caller comes again. */
  isBusy(error: unknown): boolean;
  close(): Promise<void>;
}

export type Kind = 'ours' | 'peer' | 'floor';

export interface Opening {
  /** With a database of the contender's own as its path. */
  readonly url: string;
  /** For how long a claim or a lock holds, where the contender lets one say so. */
  readonly holdMs: number;
}

export interface ContenderType {
  readonly name: string;
  readonly kind: Kind;
  /** What it claims: that copies one after another, or also copies at the same time, run the work once. */
  readonly dedupes: 'nothing' | 'in sequence' | 'at the same time';
  /** The commands that it sends, where their time on the server can be told from that of commands within scripts. */
  readonly commands?: readonly string[];
  open(opening: Opening): Promise<Contender>;
}

/** The lease of redis-once by default; locks of others get the same. */
export const HOLD_MS = 30_000;

/** For how long all keep a completed record. */
export const RETENTION_MS = 86_400_000;

/** How long a refused caller waits before it comes again. */
const RETRY_MS = 5;

/** Calls until there is a result, as the caller of one that refuses must. */
export async function callUntilAnswered(
  contender: Contender,
  key: string,
  work: Work,
  onRefused: () => void = () => {},
): Promise<string> {
  for (;;) {
    try {
      return await contender.call(key, work);
    } catch (error) {
      if (!contender.isBusy(error)) throw error;
      onRefused();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
