/** What a check says that does not hold. */

export type Guarantee = 'G1' | 'G2' | 'G3' | 'G4' | 'G5' | 'G6' | 'G7' | 'G8' | 'G9';

export class Violation extends Error {
  /** The key that it was seen at; set by who knows. */
  key = -1;

  constructor(guarantee: Guarantee, what: string, cause?: Error) {
    super(`${guarantee}: ${what}`, { cause });
  }
}

/** @throws Violation */
export function must(holds: boolean, guarantee: Guarantee, what: string): asserts holds {
  if (!holds) throw new Violation(guarantee, what);
}
