/** How error messages tell what was given: the value where it is short and no payload, and its type. */
export function given(value: unknown): string {
  if (value === null || value === undefined) return `\`${value}\``;
  switch (typeof value) {
    case 'string':
      return value.length > 60 ? `a string of ${value.length} characters` : `\`${value}\` (string)`;
    case 'number':
    case 'boolean':
    case 'bigint':
      return `\`${value}\` (${typeof value})`;
    case 'object':
      return Array.isArray(value) ? 'an array' : `an object (${value.constructor?.name ?? 'no prototype'})`;
    default:
      return `a ${typeof value}`;
  }
}
