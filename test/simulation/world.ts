/**
 * What is on the server: its clock, the records and the data beside them, read together. A record expires when the
 * simulation's clock has passed its time: scripts are given times to live of whole hours, so that what is left on the
 * server's own clock still tells which of them a record has.
 */
import type { Redis } from 'ioredis';
import { dataKeys, FLAG } from './message.js';
import { readRecord, type StoredRecord } from './record.js';
import { CLOCK_KEY, RECORDS } from './transport.js';

const HOUR_MS = 3_600_000;
export const TTL_MS = HOUR_MS;
export const RETENTION_MS = 2 * HOUR_MS;
const START_MS = 2_000_000_000_000;

export interface Data {
  readonly count: number;
  readonly logged: number;
  readonly lastEntry: string;
  readonly version: number;
  readonly flag: boolean;
}

export interface View extends Data {
  readonly record: StoredRecord | undefined;
  /** TTL_MS or RETENTION_MS, as was last set; -1 without an expiry. */
  readonly ttlMs: number;
}

export const NOTHING: View = {
  record: undefined,
  ttlMs: -2,
  count: 0,
  logged: 0,
  lastEntry: '',
  version: 0,
  flag: false,
};

/** Records and data in one step. */
const LOOK = `
local seen = {}
for at, key in ipairs(ARGV) do
  local record, data = "${RECORDS}" .. key, "data:" .. key .. ":"
  seen[at] = {
    redis.call("GET", record), redis.call("PTTL", record), redis.call("GET", data .. "count"),
    redis.call("LLEN", data .. "log"), redis.call("LINDEX", data .. "log", -1),
    redis.call("HGET", data .. "hash", "version"), redis.call("EXISTS", data .. "flag"),
  }
end
return seen`;

type Row = [Buffer | null, number, Buffer | null, number, Buffer | null, Buffer | null, number];

export class World {
  nowMs = START_MS;
  readonly #sent: Promise<unknown>[] = [];
  readonly #expiries = new Map<number, number>();

  constructor(readonly redis: Redis) {}

  /** An empty server, that knows no script. */
  async open(keys: readonly number[]): Promise<void> {
    this.#send(this.redis.flushdb(), this.redis.script('FLUSH'));
    for (const { text, hash } of keys.map(dataKeys)) {
      this.#send(this.redis.set(text, 'no number'), this.redis.hset(hash, 'version', 0));
    }
    this.move(0);
    await Promise.all(this.#sent.splice(0));
  }

  move(byMs: number): void {
    this.nowMs += byMs;
    this.#send(this.redis.set(CLOCK_KEY, `${this.nowMs * 1_000}`));
  }

  flushScripts(): void {
    this.#send(this.redis.script('FLUSH'));
  }

  /** Nothing waits for what is sent so: a look comes behind it. */
  #send(...commands: Promise<unknown>[]): void {
    for (const command of commands) this.#sent.push(command);
  }

  async look(keys: readonly number[]): Promise<View[]> {
    if (keys.length === 0) return [];
    const redis = this.redis as unknown as { evalBuffer(...args: unknown[]): Promise<unknown> };
    const rows = redis.evalBuffer(LOOK, 0, keys);
    await Promise.all(this.#sent.splice(0));
    return ((await rows) as Row[]).map(viewOf);
  }

  /** A record was written: its time to live is counted from now. */
  wrote(key: number, { record, ttlMs }: View): void {
    if (record && ttlMs >= 0) this.#expiries.set(key, this.nowMs + ttlMs);
    else this.#expiries.delete(key);
  }

  /** What the server would do by itself at this time. Returns the keys whose records are gone. */
  expire(): number[] {
    const gone = [...this.#expiries].filter(([, at]) => at < this.nowMs).map(([key]) => key);
    for (const key of gone) {
      this.#expiries.delete(key);
      this.#send(this.redis.unlink(RECORDS + key));
    }
    return gone;
  }

  changeVersion(key: number): void {
    this.#send(this.redis.hincrby(dataKeys(key).hash, 'version', 1));
  }

  turnFlag(key: number, { flag }: View): void {
    const name = dataKeys(key).flag;
    this.#send(flag ? this.redis.del(name) : this.redis.set(name, FLAG));
  }

  /** As a commit leaves it whose writes broke off. */
  breakRecord(key: number, { record }: View): void {
    if (record?.state !== 'R') return;
    this.#expiries.delete(key);
    this.#send(this.redis.persist(RECORDS + key), this.redis.setrange(RECORDS + key, 1, 'B'));
  }
}

function viewOf([raw, ttl, count, logged, lastEntry, version, flag]: Row): View {
  return {
    record: raw ? readRecord(raw) : undefined,
    ttlMs: ttl < 0 ? ttl : Math.ceil(ttl / HOUR_MS) * HOUR_MS,
    count: Number(count ?? 0),
    logged,
    lastEntry: String(lastEntry ?? ''),
    version: Number(version ?? 0),
    flag: flag === 1,
  };
}
