/** Which server is it, and is it new enough? */

/**
 * Scripts ask beforehand what the user may do, by `redis.acl_check_cmd`: it is of Redis 7.0. An older server would make
 * half of a list of writes. Every Valkey calls itself Redis 7.2.4 beside its own name.
 */
const OLDEST = { name: 'Redis 7.0', major: 7, minor: 0 };

/** What is needed, in words. */
export const NEEDED_SERVER = `${OLDEST.name} or later, or Valkey`;

export interface ServerVersion {
  /** Redis or Valkey, and its version: `Redis 8.0.2`. */
  readonly name: string;
  readonly isTooOld: boolean;
}

/** By the text of INFO; null where that does not tell, as for a user who may not ask. */
export function versionIn(info: string): ServerVersion | null {
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1];
  const [redis, valkey] = [field('redis_version'), field('valkey_version')];
  if (redis === undefined) return null;
  const [major = 0, minor = 0] = redis.split('.').map(Number);
  const isTooOld = major < OLDEST.major || (major === OLDEST.major && minor < OLDEST.minor);
  return { name: valkey === undefined ? `Redis ${redis}` : `Valkey ${valkey}`, isTooOld };
}
