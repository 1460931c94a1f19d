/** Work in lanes: all lanes at once, the items of a lane one after another, up to the first that fails. */

/** `'behind'`: not tried, since an earlier one of its lane failed. */
export type Settled =
  | { readonly status: 'done' }
  | { readonly status: 'behind' }
  | { readonly status: 'failed'; readonly error: unknown };

/** @returns what became of each item, in their order */
export async function inLanes<I>(
  items: readonly I[],
  laneOf: (item: I) => unknown,
  work: (item: I) => Promise<unknown>,
): Promise<Settled[]> {
  const settled: Settled[] = items.map(() => ({ status: 'behind' }));
  const lanes = new Map<unknown, number[]>();
  for (const [at, item] of items.entries()) {
    const lane = laneOf(item);
    lanes.set(lane, [...(lanes.get(lane) ?? []), at]);
  }
  const run = async (lane: readonly number[]) => {
    for (const at of lane) {
      try {
        await work(items[at] as I);
        settled[at] = { status: 'done' };
      } catch (error) {
        settled[at] = { status: 'failed', error };
        return;
      }
    }
  };
  await Promise.all([...lanes.values()].map(run));
  return settled;
}
