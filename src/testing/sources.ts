/** Where a Redis for tests may come from, without anything being fetched but a container's image, by its engine. */
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { containerImage, hasContainers, startContainer } from './container.js';
import { type RedisServer, type ServerBinary, startBinary } from './server.js';

/** How to start a server, and a word on where it comes from. */
export interface ServerSource {
  readonly origin: string;
  /**
   * @param args as on the server's command line: `['--appendonly', 'yes']`
   * @param config the text of a file of settings, which a sentinel has and writes to
   * @throws Error where a file is given and the server is a container
   */
  start(args: readonly string[], config?: string): Promise<RedisServer>;
}

/** `redis-server`, else `valkey-server`, on the `PATH`; else a container, where an engine answers. */
export async function sourceAtHand(): Promise<ServerSource | undefined> {
  for (const name of ['redis-server', 'valkey-server']) {
    const command = await onPath(name);
    if (command) return ofBinary({ command }, `${name} on the PATH`);
  }
  return (await hasContainers()) ? ofImage(containerImage()) : undefined;
}

export function ofImage(image: string): ServerSource {
  return {
    origin: `a container of ${image}`,
    start: async (args, config) => {
      if (config !== undefined) throw new Error('Sentinels are run of a server on this machine, not of a container.');
      return startContainer(image, args);
    },
  };
}

export function ofBinary(binary: ServerBinary, origin: string): ServerSource {
  return { origin, start: (args, config) => startBinary(binary, args, config) };
}

async function onPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const command = join(folder, name);
    const runs = access(command, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (await runs) return command;
  }
  return undefined;
}
