/** What the script says of an effect that it could not make, as the error that its caller gets. */
import { ConditionFailedError, EffectRejectedError, type EffectRejectedReason } from '../errors.js';
import type { EffectOrigin } from './recorder.js';

const WHY: Record<EffectRejectedReason, string> = {
  wrong_type: 'the key holds another type',
  not_an_integer: 'the value is no integer of 64 bits',
  not_a_float: 'the value is no decimal number',
  not_a_number: 'the sum is not a number',
  not_a_hyperloglog: 'the value is no sound HyperLogLog',
  out_of_range: 'the sum, or the index, is out of range',
  too_long: 'the string would be longer than the server allows (proto-max-bulk-len)',
  no_such_key: 'there is no such key',
  stream_id: 'the id is not above the last of the stream',
  stream_exhausted: 'the stream has no ids left',
  too_large: 'commands of several types meet on a key that holds too much to be followed',
  no_permission: 'the Redis user may not give the command',
  unknown_command: 'the server does not know the command',
  refused: 'Redis refused it for a reason that could not be foreseen',
};

/** @param reason null for a condition */
export function refusalError(
  key: string,
  { index, name }: EffectOrigin,
  reason: string | null,
): ConditionFailedError | EffectRejectedError {
  if (reason === null) {
    return new ConditionFailedError(`\`tx.${name}\` (condition ${index}) does not hold: nothing was applied`, {
      key,
      index,
    });
  }
  const known = Object.hasOwn(WHY, reason) ? (reason as EffectRejectedReason) : 'refused';
  const message = `\`tx.${name}\` (command ${index}) cannot be made, ${WHY[known]}: nothing was applied`;
  return new EffectRejectedError(message, { key, index, command: name, reason: known });
}
