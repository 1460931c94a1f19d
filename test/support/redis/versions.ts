/** Versions of servers that tests can ask for, and where each comes from. */
import type { DebianSuite } from './debian.js';

/** The command, a container's image, and the Debian suite that has it; sid and experimental move on to others. */
export const SOURCES = {
  'redis-7.0': { command: 'redis-server', image: 'redis:7.0-alpine', suite: 'bookworm' },
  'redis-8.0': { command: 'redis-server', image: 'redis:8.0-alpine', suite: 'trixie' },
  'redis-8.6': { command: 'redis-server', image: 'redis:8.6-alpine', suite: 'experimental' },
  'valkey-8.0': { command: 'valkey-server', image: 'valkey/valkey:8.0-alpine', suite: 'bookworm-backports' },
  'valkey-8.1': { command: 'valkey-server', image: 'valkey/valkey:8.1-alpine', suite: 'trixie' },
  'valkey-9.1': { command: 'valkey-server', image: 'valkey/valkey:9.1-alpine', suite: 'sid' },
} as const satisfies Record<string, { command: string; image: string; suite: DebianSuite }>;

export type ServerVersion = keyof typeof SOURCES;

export const SERVER_VERSIONS = Object.keys(SOURCES) as ServerVersion[];
