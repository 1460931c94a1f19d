/** On a Cluster: every primary is walked, and looked at. */
import { Cluster } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { connect, freshNamespace, makeDedup } from '../support/index.js';
import { type RedisCluster, startCluster } from '../support/redis/cluster.js';

let servers: RedisCluster;
beforeAll(async () => {
  servers = await startCluster();
});
afterAll(() => servers.stop());

const urls = () => servers.nodes.map(({ host, port }) => `redis://${host}:${port}`);

function connectCluster(keyPrefix = ''): Cluster {
  const cluster = new Cluster(servers.nodes, { keyPrefix });
  cluster.on('error', () => {});
  onTestFinished(() => cluster.disconnect());
  return cluster;
}

async function json(argv: readonly string[]) {
  const { code, stdout } = await runCli([...argv, '--cluster', '--json'], { env: { REDIS_URL: urls()[1] } });
  return { code, document: JSON.parse(stdout) };
}

test.each(['', 'app:', '{app}:'])(
  'with keyPrefix %j, records of all primaries are listed, inspected and forgotten',
  async (keyPrefix) => {
    const namespace = freshNamespace();
    const common = ['--namespace', namespace, '--key-prefix', keyPrefix];
    const dedup = makeDedup({ namespace }, connectCluster(keyPrefix));
    const keys = Array.from({ length: 20 }, (_, at) => `k-${at}`);
    const fails = () => Promise.reject(new Error('fails'));
    await Promise.all(keys.map((key) => dedup.once(key, fails, { onError: 'store' }).catch(() => {})));
    await dedup.once('slotted', fails, { onError: 'store', slot: 'a' }).catch(() => {});
    const { document } = await json(['list', ...common]);
    expect(document.records.map(({ key }: { key: string }) => key).sort()).toEqual([...keys, 'slotted'].sort());
    expect((await json(['stats', ...common])).document).toMatchObject({ records: 21, bytes: expect.any(Number) });
    for (const { arguments: words } of document.records) {
      expect((await json(['inspect', ...words, ...common])).document.record).toMatchObject({ state: 'failed' });
      expect((await json(['forget', '--yes', ...words, ...common])).code).toBe(0);
    }
    expect((await json(['list', ...common])).document.looked).toBe(0);
  },
);

test('doctor looks at each primary, and one that lacks a right is told by its address', async () => {
  const [, , third] = urls();
  const admin = connect({}, third);
  await Promise.all(
    urls().map((url) => connect({}, url).call('ACL', 'SETUSER', 'app', 'on', '>x', '~*', '&*', '+@all')),
  );
  await admin.call('ACL', 'SETUSER', 'app', '-setrange');
  await admin.config('SET', 'maxmemory-policy', 'allkeys-lru');
  const env = { REDIS_URL: urls()[0]?.replace('//', '//app:x@') };
  const { code, stdout } = await runCli(['doctor', '--cluster', '--json'], { env });
  const { ok, checks, nodes } = JSON.parse(stdout);
  expect({ code, ok }).toEqual({ code: 1, ok: false });
  expect(nodes.map(({ address }: { address: string }) => `redis://${address}`).sort()).toEqual(urls().sort());
  for (const { address, checks: own } of nodes) {
    const level = (name: string) => own.find((check: { name: string }) => check.name === name)?.level;
    const isThird = third?.endsWith(address);
    expect([level('permissions'), level('eviction'), level('scripts')]).toEqual(
      isThird ? ['danger', 'warning', 'danger'] : ['ok', 'ok', 'ok'],
    );
  }
  expect(checks.find(({ name }: { name: string }) => name === 'permissions')).toMatchObject({
    level: 'danger',
    detail: expect.stringMatching(/: setrange$/),
  });
  const text = await runCli(['doctor', '--cluster'], { env });
  expect(text.stdout.match(/^(Redis|Valkey) .* at 127\.0\.0\.1:\d+$/gm)).toHaveLength(3);
});

test('a node of a Cluster is not taken for a single server', async () => {
  const { code, stderr } = await runCli(['list'], { env: { REDIS_URL: urls()[0] } });
  expect(code).toBe(2);
  expect(stderr).toMatch(/is a node of a Cluster: add --cluster/);
});
