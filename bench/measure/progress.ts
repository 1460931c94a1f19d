/** What is being done, on stderr: a bar where that is a terminal, else a line a step. */
import { SingleBar } from 'cli-progress';

export interface Progress {
  step(name: string): void;
  stop(): void;
}

export function progress(steps: number): Progress {
  if (!process.stderr.isTTY) {
    let step = 0;
    return {
      step: (name) => {
        step += 1;
        process.stderr.write(`${String(step).padStart(3)}/${steps} ${name}\n`);
      },
      stop: () => {},
    };
  }
  const format = '[{bar}] {value}/{total} {duration_formatted} {name}';
  const bar = new SingleBar({ format, clearOnComplete: true, stopOnComplete: false });
  bar.start(steps, 0, { name: '' });
  return { step: (name) => bar.increment({ name }), stop: () => bar.stop() };
}
