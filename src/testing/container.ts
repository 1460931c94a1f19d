/** A Redis server in a container, where a Docker engine answers. */
import { freePort, type RedisServer } from './server.js';

const DEFAULT_IMAGE = 'redis:7-alpine';

/** The image that containers are made of: `TEST_REDIS_IMAGE`, of Redis or Valkey. */
export function containerImage(): string {
  return process.env.TEST_REDIS_IMAGE ?? DEFAULT_IMAGE;
}

/** Is testcontainers installed, and does a Docker engine answer? */
export async function hasContainers(): Promise<boolean> {
  try {
    const { getContainerRuntimeClient } = await import('testcontainers');
    await getContainerRuntimeClient();
    return true;
  } catch {
    return false;
  }
}

/** @param args as on the server's command line: `['--appendonly', 'yes']` */
export async function startContainer(image: string, args: readonly string[] = []): Promise<RedisServer> {
  const { GenericContainer, getContainerRuntimeClient, Wait } = await import('testcontainers');
  const port = await freePort();
  const server = /valkey/.test(image) ? 'valkey-server' : 'redis-server';
  const container = await new GenericContainer(image)
    .withCommand([server, '--save', '', ...args])
    // A fixed port: it stays the same when the container is started again.
    .withExposedPorts({ container: 6379, host: port })
    .withWaitStrategy(Wait.forLogMessage(/Ready to accept connections/))
    .start();
  const engine = (await getContainerRuntimeClient()).container.getById(container.getId());
  return {
    url: `redis://${container.getHost()}:${port}`,
    port,
    kill: async () => {
      await engine.kill();
    },
    restart: async () => {
      await engine.start();
    },
    freeze: async () => {
      await engine.pause();
    },
    wake: async () => {
      await engine.unpause();
    },
    stop: async () => {
      await container.stop({ timeout: 0 });
    },
  };
}
