/** As much of RESP 2 and 3 as a proxy must know: where a request or a reply ends. */

const CRLF = '\r\n';
const BULK = new Set(['$', '!', '=']);
/** How many values follow each counted element of an aggregate. */
const AGGREGATES: Record<string, number> = { '*': 1, '~': 1, '>': 1, '%': 2, '|': 2 };

/** Where the value that begins at `start` ends; -1 where it is not whole yet. */
export function endOfValue(bytes: Buffer, start = 0): number {
  const lineEnd = bytes.indexOf(CRLF, start);
  if (lineEnd === -1) return -1;
  const type = String.fromCharCode(bytes[start] as number);
  const count = Number(bytes.toString('latin1', start + 1, lineEnd));
  let end = lineEnd + 2;
  if (BULK.has(type)) {
    end += count < 0 ? 0 : count + 2;
    return end <= bytes.length ? end : -1;
  }
  for (let left = Math.max(0, count) * (AGGREGATES[type] ?? 0); left > 0; left -= 1) {
    end = endOfValue(bytes, end);
    if (end === -1) return -1;
  }
  // An attribute comes before the value that it is about.
  return type === '|' ? endOfValue(bytes, end) : end;
}

/** The words of a whole request. */
export function wordsOf(request: Buffer): Buffer[] {
  const words: Buffer[] = [];
  let at = request.indexOf(CRLF) + 2;
  while (at < request.length) {
    const lineEnd = request.indexOf(CRLF, at);
    const length = Number(request.toString('latin1', at + 1, lineEnd));
    words.push(request.subarray(lineEnd + 2, lineEnd + 2 + length));
    at = lineEnd + 2 + length + 2;
  }
  return words;
}
