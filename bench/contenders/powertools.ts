/**
 * Powertools for AWS Lambda, on its cache persistence and @redis/client. It belongs into a Lambda, whose context tells how
 * much time is left: from that it knows for how long a run under way is to be left alone. Without one it warns at every
 * call, and a copy that comes meanwhile runs as well.
 */
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache';
import { createClient } from '@redis/client';
import type { ContenderType, Work } from './contender.js';

type LambdaContext = Parameters<IdempotencyConfig['registerLambdaContext']>[0];

const LIKE_NONE_UNDER_WAY = new Set(['IdempotencyAlreadyInProgressError', 'IdempotencyItemAlreadyExistsError']);

function powertoolsWith(name: string, dedupes: ContenderType['dedupes'], hasContext: boolean): ContenderType {
  return {
    name,
    kind: 'peer',
    dedupes,
    commands: ['set', 'get'],
    async open({ url, holdMs }) {
      if (!hasContext) swallowWarnings();
      const client = await createClient({ url }).connect();
      const config = new IdempotencyConfig({});
      if (hasContext) config.registerLambdaContext({ getRemainingTimeInMillis: () => holdMs } as LambdaContext);
      const persistenceStore = new CachePersistenceLayer({ client } as never);
      // The first argument alone is what it hashes to a key.
      const once = makeIdempotent((_key: string, work: Work) => work(), { persistenceStore, config });
      return {
        call: async (key, work) => (await once(key, work)) as string,
        isBusy: (error) => LIKE_NONE_UNDER_WAY.has((error as Error).name),
        close: () => client.close(),
      };
    },
  };
}

export const powertools = powertoolsWith('Powertools', 'at the same time', true);

export const powertoolsWithoutContext = powertoolsWith('Powertools, no Lambda context', 'in sequence', false);

function swallowWarnings(): void {
  const { warn } = console;
  console.warn = (...said: unknown[]) => {
    if (!/registerLambdaContext/.test(String(said[0]))) warn(...said);
  };
}
