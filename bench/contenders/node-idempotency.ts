/** @node-idempotency/core on its own Redis adapter, options at their defaults: a copy of a request under way is refused. */
import { Idempotency } from '@node-idempotency/core';
import { RedisStorageAdapter } from '@node-idempotency/storage-adapter-redis';
import type { ContenderType } from './contender.js';

export const nodeIdempotency: ContenderType = {
  name: 'node-idempotency',
  kind: 'peer',
  dedupes: 'at the same time',
  commands: ['set', 'get'],
  async open({ url }) {
    const storage = new RedisStorageAdapter({ url });
    await storage.connect();
    const idempotency = new Idempotency(storage);
    return {
      async call(key, work) {
        const request = { headers: { 'Idempotency-Key': key }, path: '/orders', method: 'POST' };
        const earlier = await idempotency.onRequest<string, unknown>(request);
        if (earlier) return earlier.body as string;
        const result = await work();
        await idempotency.onResponse(request, { body: result });
        return result;
      },
      isBusy: (error) => (error as { code?: string }).code === 'REQUEST_IN_PROGRESS',
      close: () => storage.disconnect(),
    };
  },
};
