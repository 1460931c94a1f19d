/** The feed: GitHub's webhook examples as deliveries, each of which arrives one to four times, in an order made by a seed. */
import { createRequire } from 'node:module';

interface Payload {
  readonly repository?: { readonly full_name: string };
}

export interface Delivery {
  readonly id: string;
  readonly event: string;
  readonly payload: Payload;
}

const require = createRequire(import.meta.url);
const webhooks = require('@octokit/webhooks-examples') as { name: string; examples: Payload[] }[];

const MOST_COPIES = 4;
/** The copies of a delivery arrive among those of about this many others: close enough to be in hand at the same time. */
const NEIGHBOURS = 30;

/** Every arrival, in order. */
export function makeFeed(seed: number): Delivery[] {
  const random = mulberry32(seed);
  const payloads = webhooks.flatMap(({ name, examples }) => examples.map((payload) => ({ event: name, payload })));
  const arrivals = payloads.flatMap((payload, index) => {
    const delivery = { id: `delivery-${index + 1}`, ...payload };
    const sentAt = random() * payloads.length;
    const copies = 1 + Math.floor(random() * MOST_COPIES);
    return Array.from({ length: copies }, () => ({ delivery, arrivesAt: sentAt + random() * NEIGHBOURS }));
  });
  return arrivals.sort((a, b) => a.arrivesAt - b.arrivesAt).map(({ delivery }) => delivery);
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
