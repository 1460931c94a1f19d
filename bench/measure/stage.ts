/** The server that everything is measured on: one of our own, with a database for each contender. */
import { Redis } from 'ioredis';
import { startRedis } from '../../test/support/redis/index.js';

const DATABASES = 32;

export interface Stage {
  /** Reads the server's account, and is used for nothing that is measured. */
  readonly admin: Redis;
  urlOf(database: number): string;
  /** `admin`, looking into a database. */
  select(database: number): Promise<Redis>;
  /** Empties a database; its memory is free when this resolves. */
  flush(database: number): Promise<void>;
  close(): Promise<void>;
}

export async function openStage(): Promise<Stage> {
  const server = await startRedis(['--databases', String(DATABASES)]);
  const admin = new Redis(server.url);
  return {
    admin,
    urlOf: (database) => `${server.url}/${database}`,
    async select(database) {
      await admin.select(database);
      return admin;
    },
    async flush(database) {
      // In one write: others may select another database meanwhile.
      for (const [error] of (await admin.pipeline().select(database).flushdb('SYNC').exec()) ?? [])
        if (error) throw error;
    },
    async close() {
      admin.disconnect();
      await server.stop();
    },
  };
}
