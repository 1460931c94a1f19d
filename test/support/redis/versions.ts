/** Versions newer than the server at hand, for tests that must hold on them too, and where each comes from. */
import type { DebianSuite } from './debian.js';

/** The command, a container's image, and the Debian suite that has it. */
export const SOURCES = {
  'redis-8.0': { command: 'redis-server', image: 'redis:8.0-alpine', suite: 'trixie' },
  'valkey-8.0': { command: 'valkey-server', image: 'valkey/valkey:8.0-alpine', suite: 'bookworm-backports' },
  'valkey-8.1': { command: 'valkey-server', image: 'valkey/valkey:8.1-alpine', suite: 'trixie' },
} as const satisfies Record<string, { command: string; image: string; suite: DebianSuite }>;

export type ServerVersion = keyof typeof SOURCES;

export const SERVER_VERSIONS = Object.keys(SOURCES) as ServerVersion[];
