/** Who takes part in what. Databases are handed out in the order of a list. */
import { getPipelined, getPlain, setPipelined, setPlain } from './commands.js';
import type { ContenderType } from './contender.js';
import { nodeIdempotency } from './node-idempotency.js';
import { powertools, powertoolsWithoutContext } from './powertools.js';
import { redisOnce } from './redis-once.js';
import { redlock } from './redlock.js';
import { scriptPipelined, scriptPlain } from './script.js';

const WHOLE = [redisOnce, nodeIdempotency, powertools, redlock];

export const FIRST_CALLS: readonly ContenderType[] = [...WHOLE, setPlain, setPipelined, scriptPlain, scriptPipelined];

export const DUPLICATES: readonly ContenderType[] = [...WHOLE, getPlain, getPipelined, scriptPlain, scriptPipelined];

export const CONTENDED: readonly ContenderType[] = [...WHOLE, setPipelined];

/** All that keep copies from running the work, whether or not at the same time. */
export const DEDUPING: readonly ContenderType[] = [...WHOLE, powertoolsWithoutContext, setPlain, getPlain];

/** All that leave a record. */
export const RECORDING: readonly ContenderType[] = [...WHOLE, setPlain];

/** All that a crash can befall between the work and its record. */
export const CRASHING: readonly ContenderType[] = [...WHOLE, powertoolsWithoutContext, setPlain];
