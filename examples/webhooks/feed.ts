/** The feed: GitHub's webhook examples, each delivered one to four times, in an order made by a seed. */
import { createRequire } from 'node:module';

interface Payload {
  readonly repository?: { readonly full_name: string };
}

export interface Webhook {
  readonly id: string;
  readonly payload: Payload;
}

const require = createRequire(import.meta.url);
const kinds = require('@octokit/webhooks-examples') as { examples: Payload[] }[];

const MOST_COPIES = 4;
/** The copies of a webhook come among those of about this many others: close enough to be in hand at the same time. */
const NEIGHBOURS = 30;

/** Every delivery of the first `most` webhooks, in order. */
export function makeFeed(seed: number, most: number): Webhook[] {
  const random = mulberry32(seed);
  const webhooks = kinds
    .flatMap(({ examples }) => examples)
    .slice(0, most)
    .map((payload, index) => ({ id: `webhook-${index + 1}`, payload }));
  const deliveries = webhooks.flatMap((webhook) => {
    const sentAt = random() * webhooks.length;
    const copies = 1 + Math.floor(random() * MOST_COPIES);
    return Array.from({ length: copies }, () => ({ webhook, comesAt: sentAt + random() * NEIGHBOURS }));
  });
  return deliveries.sort((a, b) => a.comesAt - b.comesAt).map(({ webhook }) => webhook);
}

/** Numbers from 0 to 1, the same for the same seed. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
