/** A Redis server that can be killed and started again: of a binary on this machine, or in a container. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

/** A server of ours, whatever it runs on. */
export interface RedisServer {
  readonly url: string;
  readonly port: number;
  /** SIGKILL: nothing more is written. */
  kill(): Promise<void>;
  /** Starts it again on its port and its data; the same as before `kill`, or after a `stop` that kept them. */
  restart(): Promise<void>;
  /** SIGSTOP: its connections stand, and nothing is answered until it wakes. */
  freeze(): Promise<void>;
  wake(): Promise<void>;
  /** Ends it and throws its data away. */
  stop(): Promise<void>;
}

/** How to run a server: a command and what its libraries need. */
export interface ServerBinary {
  readonly command: string;
  /** In front of the server's own. */
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** What it says of itself, such as `8.0.2`. */
export async function versionOf({ command, args = [], env }: ServerBinary): Promise<string> {
  const { stdout } = await promisify(execFile)(command, [...args, '--version'], { env: { ...process.env, ...env } });
  return /v=(\S+)/.exec(stdout)?.[1] ?? stdout.trim();
}

const PORT_TRIES = 5;
/**
 * Ends a server, and its folder with it, when we end, however that is: its input is a pipe of ours, which the system closes even
 * after SIGKILL.
 */
const GUARD = 'read -r _; kill -9 "$1"; rm -rf "$2"';

/**
 * @param args as on the server's command line: `['--appendonly', 'yes']`
 * @param config the text of a file of settings, which a sentinel has and writes to
 */
export async function startBinary(
  binary: ServerBinary,
  args: readonly string[] = [],
  config?: string,
): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'redis-once-'));
  const file = join(folder, 'server.conf');
  if (config !== undefined) await writeFile(file, config);
  for (let tries = 1; ; tries += 1) {
    const port = await freePort();
    const server = new BinaryServer(binary, config === undefined ? [] : [file], args, port, folder);
    try {
      await server.restart();
      return server;
    } catch (error) {
      // Between the look for a free port and its use another process may have taken it.
      if (tries === PORT_TRIES || !/address already in use/i.test(String(error))) throw error;
    }
  }
}

class BinaryServer implements RedisServer {
  readonly url: string;
  #child: ChildProcess | undefined;

  constructor(
    private readonly binary: ServerBinary,
    private readonly files: readonly string[],
    private readonly args: readonly string[],
    readonly port: number,
    private readonly folder: string,
  ) {
    this.url = `redis://127.0.0.1:${port}`;
  }

  async restart(): Promise<void> {
    const fixed = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.folder, '--save', ''];
    const child = spawn(this.binary.command, [...(this.binary.args ?? []), ...this.files, ...fixed, ...this.args], {
      env: { ...process.env, ...this.binary.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    const guard = spawn('sh', ['-c', GUARD, 'sh', String(child.pid), this.folder], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.once('exit', () => guard.kill('SIGKILL'));
    await ready(child);
    // They keep no process alive that is done.
    for (const process of [child, guard]) {
      process.unref();
      for (const stream of process.stdio) (stream as Socket | null)?.unref();
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.ref();
    child.kill('SIGKILL');
    await exited;
  }

  async freeze(): Promise<void> {
    this.#child?.kill('SIGSTOP');
  }

  async wake(): Promise<void> {
    this.#child?.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** @throws what the server printed, where it ended before it was ready */
function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const printed: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream as NodeJS.ReadableStream }).on('line', (line) => {
        printed.push(line);
        // A sentinel says no more than who it is.
        if (/Ready to accept connections|Sentinel ID is/.test(line)) resolve();
      });
    }
    child.once('error', reject);
    child.once('exit', (code) =>
      reject(new Error(`The Redis server ended (${code}):\n${printed.slice(-20).join('\n')}`)),
    );
  });
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}
