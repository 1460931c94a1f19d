/** What a whole run leaves, as data. */
import type { Cell } from '../measure/cell.js';
import type { Pace, Row } from '../measure/rounds.js';

export interface Run {
  readonly command: string;
  readonly startedAt: string;
  readonly tookS: number;
  readonly quick: boolean;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryGB: number; readonly node: string };
  readonly server: string;
  /** Of the library, its peers and their clients. */
  readonly versions: Readonly<Record<string, string>>;
  readonly pace: Pace;
  readonly cells: readonly CellResult[];
  readonly dedupes: readonly DedupeResult[];
  readonly wire: readonly WireResult[];
  readonly memory: readonly MemoryResult[];
  /** Nothing where the library has no SeenSet. */
  readonly seenMemory: SeenMemoryResult | null;
  readonly crash: { readonly holdMs: number; readonly watchedMs: number; readonly rows: readonly CrashResult[] };
  readonly growth: readonly GrowthResult[];
}

export interface CellResult extends Pick<Cell, 'family' | 'name' | 'resultBytes' | 'concurrency'> {
  readonly rows: readonly Row[];
}

/** How often the work ran for a key: 1 is right. */
export interface DedupeResult {
  readonly name: string;
  readonly claims: string;
  readonly inSequence: number;
  readonly atTheSameTime: number;
  /** Of the callers at the same time, the share that was refused at least once. */
  readonly refusedShare: number;
}

/** Per call, with nothing else under way. */
export interface WireResult {
  readonly name: string;
  readonly what: 'first' | 'duplicate';
  readonly commands: readonly string[];
  readonly writes: number;
  readonly roundTrips: number;
}

/** Per completed record: a result that is stored in 22 bytes, and Redis keys of 19 bytes where the contender lets one choose. */
export interface MemoryResult {
  readonly name: string;
  readonly keyBytes: number;
  readonly keysPerRecord: number;
  /** By MEMORY USAGE. */
  readonly bytes: number;
  /** What the server's memory grew by, tables of keys included. */
  readonly grownBytes: number;
}

export interface SeenMemoryResult {
  readonly ids: number;
  readonly bytesPerId: number;
  /** Of as many ids that were never added, how many are called seen. */
  readonly falselySeen: number;
}

export interface CrashResult {
  readonly name: string;
  /** What had happened when the worker was killed. */
  readonly killed: 'before the work' | 'after the work';
  /** How often the work's effect is there, at the end. */
  readonly effects: number;
  /** When the next caller had its result, counted from the kill; nothing where it had none when the watch ended. */
  readonly answeredMs: number | null;
  readonly refusals: number;
  /** Without an answer: for how long the record of the dead still stands; nothing where none has an end. */
  readonly standsMs: number | null;
}

interface GrowthPoint {
  readonly x: number;
  /** By the name of what was measured. */
  readonly y: Readonly<Record<string, number>>;
}

export interface GrowthResult {
  readonly name: 'keys' | 'waiters' | 'result' | 'effects';
  readonly points: readonly GrowthPoint[];
}
