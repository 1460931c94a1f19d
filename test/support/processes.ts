/** Worker processes of the tests: scripts of test/support/workers, told what to do and asked what came of it by IPC. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { onTestFinished } from 'vitest';
import { WORKER_OPTIONS } from './packages.js';

export class Worker {
  readonly #child: ChildProcess;
  readonly #messages: unknown[] = [];
  readonly #arrived = new Set<() => void>();
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  stderr = '';

  /** @param script a file of test/support/workers, without its ending */
  constructor(script: string, args: unknown) {
    this.#child = fork(new URL(`./workers/${script}.ts`, import.meta.url), [JSON.stringify(args)], {
      execArgv: [...WORKER_OPTIONS],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (chunk) => {
      this.stderr += String(chunk);
    });
    this.#child.on('message', (message) => {
      this.#messages.push(message);
      for (const arrived of this.#arrived) arrived();
    });
    this.exited = once(this.#child, 'exit').then(([code, signal]) => ({ code, signal }));
    onTestFinished(() => {
      this.#child.kill('SIGKILL');
    });
  }

  /** The next message of the worker's; fails with what it printed where it ends instead. */
  async next<T>(): Promise<T> {
    while (this.#messages.length === 0) {
      await new Promise<void>((resolve, reject) => {
        const arrived = () => {
          this.#arrived.delete(arrived);
          resolve();
        };
        this.#arrived.add(arrived);
        this.exited.then(() => this.#messages.length === 0 && reject(new Error(`The worker ended:\n${this.stderr}`)));
      });
    }
    return this.#messages.shift() as T;
  }

  tell(message: object): void {
    // One that has just ended is told in vain.
    this.#child.send(message, () => {});
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}
