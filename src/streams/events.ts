/** What a consumer tells its listeners. */

/** What every event about an entry carries. */
export interface EntryEvent {
  readonly stream: string;
  readonly group: string;
  readonly id: string;
  readonly deliveries: number;
}

export interface StreamConsumerEvents {
  /** An entry is done and acknowledged: by this call's handler, or `replayed`, since its key was done before. */
  processed: EntryEvent & {
    readonly status: 'executed' | 'replayed';
    readonly attempt: number;
    readonly tookMs: number;
  };
  /** A handler threw, or the key's answer is final. The entry is handed out again, unless `deadLettered` is told next. */
  failed: EntryEvent & { readonly error: unknown; readonly tookMs: number };
  /** The entry was left for later, uncounted: its key is in progress elsewhere, Redis was away, or the consumer stops. */
  postponed: EntryEvent & { readonly error: unknown; readonly inMs: number };
  /** An entry was handed out before, to a consumer that died or failed, and is now this one's. */
  takenOver: EntryEvent;
  /** The entry was moved to the stream of dead letters, under another id. */
  deadLettered: EntryEvent & { readonly deadLetterId: string; readonly reason: string };
  /** An entry was removed from the stream before it was done: it is lost. */
  trimmed: { readonly stream: string; readonly group: string; readonly id: string };
  /** An exchange with Redis failed; it is tried again. */
  error: { readonly stream: string; readonly group: string; readonly operation: string; readonly error: Error };
}

/** The closed list. */
export const STREAM_EVENTS: { [E in keyof StreamConsumerEvents]: true } = {
  processed: true,
  failed: true,
  postponed: true,
  takenOver: true,
  deadLettered: true,
  trimmed: true,
  error: true,
};
