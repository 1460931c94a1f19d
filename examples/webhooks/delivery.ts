/** What every way to deliver a feed is given, and what it tells in the end. */
import type { Webhook } from './feed.js';
import type { WayName } from './ways.js';

/** Returns when every delivery is acknowledged and every worker has ended. */
export type Deliver = (task: Task) => Promise<Delivered>;

export interface Task {
  readonly feed: readonly Webhook[];
  readonly worker: WorkerOptions;
  /** After every `KILL_AFTER` acknowledgements, the worker that next begins a run is killed and replaced. */
  readonly kill: boolean;
  /** Its abort ends it all. */
  readonly signal: AbortSignal;
  /** Told how many deliveries are acknowledged. */
  readonly onAcknowledged: (count: number) => void;
}

export interface WorkerOptions {
  readonly url: string;
  readonly way: WayName;
  /** Begins every Redis key. */
  readonly prefix: string;
}

export interface Delivered {
  /** Workers, each while it ran a handler. */
  readonly killed: number;
  /** Handler runs, finished or not. */
  readonly begun: number;
  /** Of those begun: the first after a kill that cut off a run for the same webhook. */
  readonly repeated: number;
  readonly replayed: number;
  readonly tookMs: number;
  /** What should have come to nothing, by its name in the table. */
  readonly left?: Readonly<Record<string, number>>;
}

export const WORKERS = 4;
export const KILL_AFTER = 100;
