/** Debian's own package of the server, fetched and unpacked into a cache folder: no root, no change to the machine. */
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ServerBinary } from './server.js';

const run = promisify(execFile);
const NEEDED = ['redis-server', 'redis-tools', 'libjemalloc2', 'liblzf1'];
/** On a bare image these are missing; under other names in other suites. */
const PERHAPS = ['libatomic1', 'libssl3', 'libsystemd0', 'libstdc++6'];

/** The server of an earlier call, or a fresh one; nothing where this machine has no Debian packages. */
export async function debianBinary(): Promise<ServerBinary | undefined> {
  const root = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'redis-once', 'debian');
  const command = join(root, 'usr/bin/redis-server');
  const usable = () =>
    access(command).then(
      () => true,
      () => false,
    );
  if (!(await usable())) {
    try {
      await unpack(root);
    } catch {
      // Another process may have put it there meanwhile.
    }
    if (!(await usable())) return undefined;
  }
  const libraries = (await readdir(join(root, 'usr/lib'))).filter((name) => name.endsWith('-linux-gnu'));
  return { command, env: { LD_LIBRARY_PATH: libraries.map((name) => join(root, 'usr/lib', name)).join(':') } };
}

async function unpack(root: string): Promise<void> {
  await mkdir(dirname(root), { recursive: true });
  const work = await mkdtemp(join(dirname(root), 'fetch-'));
  try {
    const folders = ['lists/partial', 'cache/archives/partial', 'root', 'debs'].map((name) =>
      mkdir(join(work, name), { recursive: true }),
    );
    await Promise.all(folders);
    const options = [
      `Dir::State=${work}`,
      'Dir::State::status=/var/lib/dpkg/status',
      `Dir::Cache=${work}/cache`,
      'Acquire::Languages=none',
      'APT::Sandbox::User=root',
    ];
    const apt = (...args: string[]) =>
      run('apt-get', ['-qq', ...options.flatMap((option) => ['-o', option]), ...args], { cwd: join(work, 'debs') });
    // A source of the machine's that does not answer is no matter, if the packages are found.
    await apt('update').catch(() => {});
    await apt('download', ...NEEDED);
    for (const name of PERHAPS) await apt('download', name).catch(() => {});
    for (const deb of await readdir(join(work, 'debs')))
      await run('dpkg', ['-x', join(work, 'debs', deb), join(work, 'root')]);
    await rename(join(work, 'root'), root);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
