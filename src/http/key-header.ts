/**
 * The key in a header: a String of Structured Field Values (RFC 8941, 3.3.3), as draft-ietf-httpapi-idempotency-key-header-07
 * has it; or a bare token, as most clients send it. Both forms of one key are the same key.
 */
import type { IncomingMessage } from 'node:http';

const LONGEST_KEY = 255;

/** Each line of a header as it came; joined where the request is none of a socket's, as those that Fastify injects. */
export function headerLinesIn({ headersDistinct, headers }: IncomingMessage, name: string): readonly string[] {
  if (headersDistinct) return headersDistinct[name] ?? [];
  const value = headers[name];
  return value === undefined ? [] : [value].flat();
}

const STRING = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"(.*)$/;
/** Parameters say nothing here, and must be ignored where they are well-formed. */
const PARAMETERS = /^(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|[\w.:/*+?!-]+))?)*$/;
/** What needs no quotes, and is no list, no parameter and no string that was cut off. */
const BARE = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$/;

export type KeyHeader = { readonly key: string } | 'missing' | 'malformed' | 'too_long';

/** @param values each line of the header as it came; frameworks that join lines give one */
export function readKeyHeader(values: readonly string[]): KeyHeader {
  const [value, ...others] = values;
  if (value === undefined) return 'missing';
  if (others.length > 0) return 'malformed';
  const key = keyIn(value.replace(/^ +| +$/g, ''));
  if (key === undefined || key === '') return 'malformed';
  return key.length > LONGEST_KEY ? 'too_long' : { key };
}

function keyIn(value: string): string | undefined {
  const [, quoted, parameters] = STRING.exec(value) ?? [];
  if (quoted !== undefined) return PARAMETERS.test(parameters as string) ? quoted.replace(/\\(.)/g, '$1') : undefined;
  return BARE.test(value) ? value : undefined;
}
