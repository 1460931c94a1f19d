/** Texts for people: nothing in them can steer a terminal. */

const MARKS = /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu;
/** What JSON need not escape and a terminal may obey: control characters, marks of direction, line and page separators. */
const OBEYED = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** With `\u{…}` for what is no letter, mark, digit, punctuation, symbol or space. */
export function printable(text: string): string {
  return text.replace(MARKS, (character) => `\\u{${(character.codePointAt(0) as number).toString(16)}}`);
}

/** JSON that is exact and can be shown on a terminal. */
export function toJson(value: unknown): string {
  const text = JSON.stringify(value, null, 2);
  // Line breaks are those between values: within them JSON has escaped them.
  return text.replace(OBEYED, (character) =>
    character === '\n' ? character : [...utf16(character)].map(unicodeEscape).join(''),
  );
}

function* utf16(character: string): Generator<number> {
  for (let at = 0; at < character.length; at += 1) yield character.charCodeAt(at);
}

function unicodeEscape(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`;
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const;

/** Roughly, in at most two units: `2 d 4 h`, `35 s`, `120 ms`. */
export function roughly(ms: number): string {
  const at = UNITS.findIndex(([, size]) => ms >= size);
  if (at === -1) return `${Math.round(ms)} ms`;
  const [unit, size] = UNITS[at] as (typeof UNITS)[number];
  const whole = Math.floor(ms / size);
  const next = UNITS[at + 1];
  const rest = next ? Math.floor((ms - whole * size) / next[1]) : 0;
  return next && rest > 0 ? `${whole} ${unit} ${rest} ${next[0]}` : `${whole} ${unit}`;
}

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1 record`, `2 records`. */
export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

export function bytes(value: number): string {
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let [scaled, unit] = [value, 'bytes'];
  for (const larger of units) {
    if (scaled < 1_024) break;
    [scaled, unit] = [scaled / 1_024, larger];
  }
  return `${unit === 'bytes' ? count(Math.round(scaled)) : scaled.toFixed(1)} ${unit}`;
}
