/** What `error.type` says of an error: which kind it is, and nothing that it was told. */
import { isDedupError } from '../errors.js';

/** By the semantic conventions for what has no type of its own. */
const OTHER = '_OTHER';
const LONGEST = 100;

/** The code of an error of the library, else the name of the error's class. Never throws. */
export function errorTypeOf(error: unknown): string {
  try {
    const type = isDedupError(error) ? error.code : classNameOf(error);
    // What is no name of a class may hold anything.
    return typeof type === 'string' && type.length <= LONGEST && /^[A-Za-z_$][\w$.]*$/.test(type) ? type : OTHER;
  } catch {
    return OTHER;
  }
}

/** A class that gives its errors no name of their own has one itself. */
function classNameOf(error: unknown): unknown {
  if (typeof error !== 'object' || error === null) return undefined;
  const { name } = error as { name?: unknown };
  return name === undefined || name === 'Error' ? error.constructor?.name : name;
}
