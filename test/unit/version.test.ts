/** What INFO says of a server's version, and which are too old. */
import { expect, test } from 'vitest';
import { versionIn } from '../../src/redis/version.js';

const info = (...lines: string[]) => ['# Server', ...lines, 'redis_mode:standalone', ''].join('\r\n');

test.each([
  ['5.0.14', true],
  ['6.2.14', true],
  ['6.9.99', true],
  ['7.0.0', false],
  ['7.4.2', false],
  ['8.0.2', false],
  ['10.0.0', false],
  // As of a build of their main branch.
  ['255.255.255', false],
])('Redis %s: too old is %s', (version, isTooOld) => {
  expect(versionIn(info(`redis_version:${version}`))).toEqual({ name: `Redis ${version}`, isTooOld });
});

test('Valkey, which calls itself Redis as well, goes by its own name', () => {
  const text = info('redis_version:7.2.4', 'server_name:valkey', 'valkey_version:9.1.2');
  expect(versionIn(text)).toEqual({ name: 'Valkey 9.1.2', isTooOld: false });
});

test('what does not tell is not judged', () => {
  expect(versionIn('')).toBeNull();
  expect(versionIn(info())).toBeNull();
});
