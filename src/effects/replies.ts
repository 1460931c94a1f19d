/**
 * The replies of an `apply`, as its record keeps them: RESP 2, one after another, in the order of the commands. A nil
 * bulk string is nil, integers keep all their digits, nesting is an array's.
 */

/** A command's reply. Integers beyond 2^53 are inexact. */
export type Reply = string | number | null;

/** @throws Error for bytes that are no replies */
export function decodeReplies(bytes: Buffer): Reply[] {
  const replies: Reply[] = [];
  let at = 0;
  const line = (): string => {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) throw new Error('The stored replies break off');
    const text = bytes.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const next = (): Reply | Reply[] => {
    const head = line();
    const rest = head.slice(1);
    const size = Number(rest);
    switch (head[0]) {
      case '+':
        return rest;
      case ':':
        return size;
      case '$': {
        if (size < 0) return null;
        const text = bytes.toString('utf8', at, at + size);
        at += size + 2;
        return text;
      }
      case '*':
        return Array.from({ length: size }, next) as Reply[];
      default:
        throw new Error('The stored replies are of no form that is known');
    }
  };
  while (at < bytes.length) replies.push(next() as Reply);
  return replies;
}
