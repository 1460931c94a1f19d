/** Servers from Debian's packages, fetched and unpacked into a cache folder: no root, no change to the machine. */
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ServerBinary } from '../../../src/testing/server.js';

const run = promisify(execFile);

interface Packages {
  readonly needed: readonly string[];
  /** On a bare image these are missing; not every suite has them under these names. */
  readonly perhaps?: readonly string[];
  /** Suites to take them from, in place of the machine's own. */
  readonly suites?: readonly string[];
}

const OWN: Packages = {
  needed: ['redis-server', 'redis-tools', 'libjemalloc2', 'liblzf1'],
  perhaps: ['libatomic1', 'libssl3', 'libssl3t64', 'libsystemd0', 'libstdc++6'],
};

/** With every library, the C library first of all: the machine's own may be older, or not Debian's. */
const LIBRARIES = 'libc6 libatomic1 libcap2 libgcc-s1 libjemalloc2 liblzf1 libstdc++6 libsystemd0 libzstd1'.split(' ');

/** The last four are what libsystemd0 needs there. */
const OF_BOOKWORM = [...LIBRARIES, 'libssl3', 'libgcrypt20', 'libgpg-error0', 'liblz4-1', 'liblzma5'];
const SINCE_TRIXIE = [...LIBRARIES, 'libssl3t64', 'zlib1g'];
const REDIS = ['redis-server', 'redis-tools'];
const VALKEY = ['valkey-server', 'valkey-tools'];

const SUITES = {
  bookworm: { suites: ['bookworm'], needed: [...REDIS, ...OF_BOOKWORM] },
  'bookworm-backports': { suites: ['bookworm-backports', 'bookworm'], needed: [...VALKEY, ...OF_BOOKWORM] },
  trixie: { suites: ['trixie'], needed: [...REDIS, ...VALKEY, ...SINCE_TRIXIE] },
  sid: { suites: ['sid'], needed: [...VALKEY, ...SINCE_TRIXIE] },
  // What is not named there comes from sid: experimental has only what is newer.
  experimental: {
    suites: ['sid', 'experimental'],
    needed: [...REDIS.map((name) => `${name}/experimental`), ...SINCE_TRIXIE],
  },
} as const satisfies Record<string, Packages>;

export type DebianSuite = keyof typeof SUITES;

/** Redis 7.0, under which libfaketime runs: newer ones crash. */
const CLOCKED_FOLDER = 'debian-clocked';
const CLOCKED: Packages = {
  suites: ['bookworm'],
  needed: [
    ...['redis-server', 'redis-tools', 'libfaketime', 'libssl3', ...LIBRARIES],
    ...['libgcrypt20', 'libgpg-error0', 'liblz4-1', 'liblzma5'],
  ],
};

/** The server of the machine's own suite; nothing where this machine has no Debian packages. */
export async function debianBinary(): Promise<ServerBinary | undefined> {
  return unpacked('debian', OWN, 'redis-server').catch(() => undefined);
}

/** @throws what apt said, where the suite cannot be reached */
export function suiteBinary(suite: DebianSuite, command: string): Promise<ServerBinary> {
  return unpacked(`debian-${suite}`, SUITES[suite], command);
}

/**
 * A server of Debian's whose wall clock follows a file: by libfaketime, which reads there how many seconds it is ahead of the
 * machine's, as `+3600`. The monotonic clock stays as it is.
 *
 * @throws what apt said, where the suite cannot be reached
 */
export async function binaryWithClock(offsetFile: string): Promise<ServerBinary> {
  const binary = await unpacked(CLOCKED_FOLDER, CLOCKED, 'redis-server');
  const root = cachePath(CLOCKED_FOLDER);
  const [libfaketime, libc] = await Promise.all(
    [/^libfaketime[.]so[.]1$/, /^libc[.]so[.]6$/].map(async (name) => (await findAll(root, name))[0]),
  );
  if (!libfaketime || !libc) throw new Error('The packages lack libfaketime.so.1 or libc.so.6');
  const env = {
    // The C library as well: the allocator asks for the time before libfaketime has found it.
    LD_PRELOAD: `${libfaketime}:${libc}`,
    FAKETIME_TIMESTAMP_FILE: offsetFile,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    DONT_FAKE_MONOTONIC: '1',
  };
  return { ...binary, env: { ...binary.env, ...env } };
}

/** Paths of files of that name, anywhere in a folder. */
async function findAll(folder: string, name: RegExp): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => name.test(entry.name)).map((entry) => join(entry.parentPath, entry.name));
}

/** A folder for what was fetched, which may be removed at any time. */
export function cachePath(name: string): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'redis-once', name);
}

/** The server of an earlier call, or a fresh one. */
async function unpacked(name: string, packages: Packages, command: string): Promise<ServerBinary> {
  const root = cachePath(name);
  const usable = () => exists(join(root, 'usr/bin', command));
  if (!(await usable())) {
    await unpack(root, packages).catch(async (error: unknown) => {
      // Another process may have put it there meanwhile.
      if (!(await usable())) throw error;
    });
  }
  return binary(root, command);
}

/** Of libraries that came with their loader it is the loader that runs them. */
async function binary(root: string, name: string): Promise<ServerBinary> {
  const command = join(root, 'usr/bin', name);
  const folders: string[] = [];
  let loader: string | undefined;
  for (const parent of ['lib', 'usr/lib']) {
    for (const folder of await readdir(join(root, parent)).catch((): string[] => [])) {
      if (!folder.endsWith('-linux-gnu')) continue;
      const path = join(root, parent, folder);
      folders.push(path);
      const file = (await readdir(path)).find((file) => /^ld-linux.*[.]so[.]\d+$/.test(file));
      if (file) loader = join(path, file);
    }
  }
  const path = folders.join(':');
  if (loader) return { command: loader, args: ['--library-path', path, command] };
  return { command, env: { LD_LIBRARY_PATH: path } };
}

async function unpack(root: string, { needed, perhaps = [], suites }: Packages): Promise<void> {
  await mkdir(dirname(root), { recursive: true });
  const work = await mkdtemp(join(dirname(root), 'fetch-'));
  try {
    const folders = ['lists/partial', 'cache/archives/partial', 'root', 'debs'].map((name) =>
      mkdir(join(work, name), { recursive: true }),
    );
    await Promise.all(folders);
    // Nothing is installed: what the machine has does not count.
    await writeFile(join(work, 'status'), '');
    const options = [
      `Dir::State=${work}`,
      `Dir::State::status=${work}/status`,
      `Dir::Cache=${work}/cache`,
      'Acquire::Languages=none',
      'APT::Sandbox::User=root',
    ];
    if (suites) {
      await writeFile(join(work, 'sources.list'), await sourcesList(suites));
      options.push(`Dir::Etc::sourcelist=${work}/sources.list`, 'Dir::Etc::sourceparts=/dev/null');
    }
    const apt = (...args: string[]) =>
      run('apt-get', ['-qq', ...options.flatMap((option) => ['-o', option]), ...args], { cwd: join(work, 'debs') });
    // A source that does not answer is no matter, if the packages are found.
    await apt('update').catch(() => {});
    await apt('download', ...needed);
    for (const name of perhaps) await apt('download', name).catch(() => {});
    for (const deb of await readdir(join(work, 'debs')))
      await run('dpkg', ['-x', join(work, 'debs', deb), join(work, 'root')]);
    await rename(join(work, 'root'), root);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const PUBLIC_ARCHIVE = 'http://deb.debian.org/debian';

/** The suites, from wherever the machine takes its own suite. */
async function sourcesList(suites: readonly string[]): Promise<string> {
  const format = ['indextargets', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)', 'Created-By: Packages'];
  const { stdout } = await run('apt-get', format);
  const release = await readFile('/etc/os-release', 'utf8');
  const codename = /^ID=debian$/m.test(release) ? /^VERSION_CODENAME=(.*)$/m.exec(release)?.[1] : undefined;
  const own = stdout
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, suite, component]) => suite === codename && component === 'main');
  const archives = own.length > 0 ? new Set(own.map(([uri]) => uri)) : [PUBLIC_ARCHIVE];
  return [...archives]
    .flatMap((uri) => suites.map((suite) => `deb [signed-by=${KEYRING}] ${uri} ${suite} main\n`))
    .join('');
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
