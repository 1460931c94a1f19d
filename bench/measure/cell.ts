/** One square of the matrix: what is done, at which concurrency and size, and by whom. */
import type { Kind } from '../contenders/contender.js';
import type { Stage } from './stage.js';

type Family = 'first' | 'duplicate' | 'contended' | 'apply' | 'burst' | 'seen';

/** What one contender does in a cell. */
export interface Load {
  readonly name: string;
  readonly kind: Kind;
  /** Commands whose time on the server is that of the load. */
  readonly commands?: readonly string[] | undefined;
  /** How many keys one call is about. */
  readonly keysPerCall: number;
  /** How many calls are under way at once. */
  readonly lanes: number;
  /** Before the rounds, off the clock. */
  prepare?(): Promise<unknown>;
  /** The call number `n`, counted over all rounds. @throws Error where its answer is not what it must be */
  call(n: number): Promise<unknown>;
  /** After each turn, off the clock. @throws Error where the work ran more or less often than it must */
  finish(calls: number): Promise<unknown>;
  close(): Promise<unknown>;
}

export interface Cell {
  readonly family: Family;
  /** What it is, for people. */
  readonly name: string;
  readonly resultBytes: number;
  /** Calls, or in `contended` callers of one key, under way at once. */
  readonly concurrency: number;
  /** Each on a database of its own. */
  open(stage: Stage): Promise<Load[]>;
}
