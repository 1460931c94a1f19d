/** Watching calls from their beginning to their end, for telemetry. Without an observer a call pays for one look. */

/** A call as its observer is told of it: neither what it was given, nor what it came to. */
export interface ObservedCall {
  readonly operation: 'once' | 'apply' | 'seen.add' | 'seen.has';
  readonly namespace: string;
  readonly redisKey: string;
}

/** What becomes known of a call while it lives. */
export interface CallFacts {
  /** Of a set `'new'` where any of the ids was. Missing where the call failed. */
  outcome?: 'executed' | 'replayed' | 'bypassed' | 'new' | 'seen';
  attempt?: number;
  waitedMs?: number;
  /** How many writes on `tx` were committed. */
  effects?: number;
  /** How many ids a set was asked for, and how many of them were new. */
  ids?: number;
  newIds?: number;
}

export interface Observer {
  /**
   * Returns what `live` comes to, which is called exactly once; whatever goes wrong with the watching is no failure of the
   * call.
   *
   * @param live the call; never throws at once
   */
  around<R>(call: ObservedCall, live: (facts: CallFacts) => Promise<R>): Promise<R>;
  /** Another takes its place. */
  end(): void;
}
