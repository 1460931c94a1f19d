/** Rounds in which every load of a cell has a turn, each in an order of its own. */
import type { Redis } from 'ioredis';
import { seededRandom } from '../../test/support/random.js';
import type { Load } from './cell.js';
import { meter } from './meter.js';
import { median } from './statistics.js';

/** Of one load: per round its rate, and medians of the rest. */
export interface Row {
  readonly name: string;
  readonly kind: Load['kind'];
  /** Keys per second, round by round; the rounds of all loads of a cell belong together. */
  readonly rates: readonly number[];
  readonly clientMicrosPerKey: number;
  readonly serverMicrosPerKey: number;
  /** By commandstats: without network and parsing. Only where no script of the load runs its commands. */
  readonly commandMicrosPerKey: number | null;
  readonly commandsPerKey: number | null;
}

interface Turn {
  readonly rate: number;
  readonly clientMicros: number;
  readonly serverMicros: number;
  readonly commandMicros: number;
  readonly commands: number;
}

export interface Pace {
  readonly rounds: number;
  readonly turnMs: number;
}

/** The first round warms up and is not counted. */
export async function measure(admin: Redis, loads: readonly Load[], { rounds, turnMs }: Pace): Promise<Row[]> {
  const turns = loads.map(() => [] as Turn[]);
  const done = loads.map(() => 0);
  for (const load of loads) await load.prepare?.();
  for (let round = 0; round <= rounds; round += 1) {
    for (const index of shuffled(loads.length)) {
      const load = loads[index] as Load;
      const { turn, calls } = await takeTurn(admin, load, done[index] as number, turnMs);
      done[index] = (done[index] as number) + calls;
      if (round > 0) turns[index]?.push(turn);
    }
  }
  return loads.map((load, index) => rowOf(load, turns[index] as Turn[]));
}

const random = seededRandom(6);

/** 0 to below `count`: what a load leaves behind, garbage to collect above all, is not always another one's burden. */
function shuffled(count: number): number[] {
  const keyed = Array.from({ length: count }, (_, index) => ({ index, at: random() }));
  return keyed.sort((a, b) => a.at - b.at).map(({ index }) => index);
}

/** Its lanes call until the time is up, and what is then under way is awaited and counted. */
async function takeTurn(
  admin: Redis,
  load: Load,
  from: number,
  turnMs: number,
): Promise<{ turn: Turn; calls: number }> {
  let next = from;
  const reading = await meter(admin, async () => {
    const until = performance.now() + turnMs;
    const lane = async () => {
      do {
        const n = next;
        next += 1;
        await load.call(n);
      } while (performance.now() < until);
    };
    await Promise.all(Array.from({ length: load.lanes }, lane));
  });
  const calls = next - from;
  await load.finish(calls);
  const keys = calls * load.keysPerCall;
  const ofLoad = (load.commands ?? []).map((name) => reading.commands.get(name));
  const sumOf = (part: 'calls' | 'micros') => ofLoad.reduce((sum, stat) => sum + (stat?.[part] ?? 0), 0);
  const turn = {
    rate: (keys / reading.elapsedMs) * 1_000,
    clientMicros: reading.clientCpuMicros / keys,
    serverMicros: reading.serverCpuMicros / keys,
    commandMicros: sumOf('micros') / keys,
    commands: sumOf('calls') / keys,
  };
  return { turn, calls };
}

function rowOf({ name, kind, commands }: Load, turns: readonly Turn[]): Row {
  const medianOf = (part: keyof Turn) => Number(median(turns.map((turn) => turn[part])).toPrecision(4));
  return {
    name,
    kind,
    rates: turns.map(({ rate }) => Number(rate.toPrecision(4))),
    clientMicrosPerKey: medianOf('clientMicros'),
    serverMicrosPerKey: medianOf('serverMicros'),
    commandMicrosPerKey: commands ? medianOf('commandMicros') : null,
    commandsPerKey: commands ? medianOf('commands') : null,
  };
}
