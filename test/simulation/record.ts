/** A record as its bytes have it, read by the tests themselves; docs/protocol.md draws them. */

type State = 'R' | 'C' | 'F' | 'X' | 'L' | 'B';

export interface StoredRecord {
  readonly raw: Buffer;
  readonly state: State;
  readonly ofApply: boolean;
  readonly attempt: number;
  readonly fence: number;
  /** What the record has of its owner's token: 16 bytes in progress, else 8. */
  readonly token: string;
  readonly leaseEndMs: number;
  readonly leaseMs: number;
  readonly run: number;
  readonly failures: number;
  readonly born: number;
  /** As hex. */
  readonly fingerprint: string;
  /** The result, the failure, or the given-up tokens. */
  readonly rest: Buffer;
}

const HAS_FINGERPRINT = 1;
const HAS_BORN = 2;
const OF_APPLY = 8;

export function readRecord(raw: Buffer): StoredRecord {
  const state = String.fromCharCode(raw[1] as number) as State;
  const shape = raw[2] as number;
  const isRunning = state === 'R' || state === 'B';
  let at = 14;
  const take = (bytes: number): Buffer => {
    at += bytes;
    return raw.subarray(at - bytes, at);
  };
  const number = (bytes: number): number => numberOf(take(bytes));
  const fence = numberOf(raw.subarray(7, 14));
  const token = take(isRunning ? 16 : 8).toString('latin1');
  const [leaseEndMs, leaseMs, run] = isRunning ? [number(6), number(4), number(2)] : [0, 0, 0];
  const failures = state === 'C' || state === 'F' ? 0 : number(4);
  const born = shape & HAS_BORN ? number(7) : fence;
  const fingerprint = shape & HAS_FINGERPRINT ? take(16).toString('hex') : '';
  return {
    raw,
    state,
    ofApply: (shape & OF_APPLY) !== 0,
    attempt: raw.readUInt32BE(3),
    fence,
    token,
    leaseEndMs: leaseEndMs as number,
    leaseMs: leaseMs as number,
    run: run as number,
    failures,
    born,
    fingerprint,
    rest: raw.subarray(at),
  };
}

function numberOf(bytes: Buffer): number {
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0);
}
