/** An entry of a stream, as a handler gets it. */
export interface StreamMessage {
  /** The entry's id, such as `1732460400000-0`. */
  readonly id: string;
  /** Names and values as UTF-8 text. Of a name that comes twice, the last value. */
  readonly fields: Readonly<Record<string, string>>;
  /** The same as bytes, in their order: for values that are no text, and names that come twice. */
  readonly pairs: readonly (readonly [name: Buffer, value: Buffer])[];
  /** How often the entry was handed out to the group's consumers, this time included; what was given back unseen is not counted. */
  readonly deliveries: number;
}

/** An entry as Redis tells it: its id, and names and values in turn. */
export type Entry = readonly [id: Buffer, words: readonly Buffer[]];

export function messageOf([id, words]: Entry, deliveries: number): StreamMessage {
  const pairs: [Buffer, Buffer][] = [];
  for (let at = 0; at < words.length; at += 2) pairs.push([words[at] as Buffer, words[at + 1] as Buffer]);
  return {
    id: String(id),
    deliveries,
    pairs,
    get fields() {
      const fields = Object.fromEntries(pairs.map(([name, value]) => [String(name), String(value)]));
      Object.defineProperty(this, 'fields', { value: fields, enumerable: true });
      return fields;
    },
  };
}
