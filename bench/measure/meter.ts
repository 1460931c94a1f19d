/** What a stretch of work took: on the clock, of this process' CPU, and of the server's, by its own account. */
import type { Redis } from 'ioredis';

export interface Reading {
  readonly elapsedMs: number;
  readonly clientCpuMicros: number;
  /** All that the server did, network included. */
  readonly serverCpuMicros: number;
  /** By lower-case name; those within scripts are counted as well. */
  readonly commands: ReadonlyMap<string, { readonly calls: number; readonly micros: number }>;
}

const OUR_OWN = new Set(['info', 'config|resetstat']);

/** @param admin a connection to the server that nothing else uses meanwhile */
export async function meter(admin: Redis, work: () => Promise<unknown>): Promise<Reading> {
  await admin.config('RESETSTAT');
  const serverBefore = serverCpuMicros(await admin.info('cpu'));
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  await work();
  const elapsedMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  const serverAfter = serverCpuMicros(await admin.info('cpu'));
  return {
    elapsedMs,
    clientCpuMicros: user + system,
    serverCpuMicros: serverAfter - serverBefore,
    commands: commandsOf(await admin.info('commandstats')),
  };
}

function serverCpuMicros(info: string): number {
  const seconds = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1]);
  return Math.round((seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1e6);
}

function commandsOf(info: string): Reading['commands'] {
  const found = [...info.matchAll(/^cmdstat_(\S+?):calls=(\d+),usec=(\d+)/gm)];
  return new Map(
    found
      .filter(([, name = '']) => !OUR_OWN.has(name))
      .map(([, name = '', calls, micros]) => [name, { calls: Number(calls), micros: Number(micros) }]),
  );
}

/** Bytes that the server uses for data and itself. */
export async function usedMemory(admin: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await admin.info('memory'))?.[1]);
}
