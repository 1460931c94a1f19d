/** What a command reads from and writes to, and how it may look there. */
import pc from 'picocolors';

export interface Output {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

export interface Io {
  readonly env: NodeJS.ProcessEnv;
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean | undefined };
  readonly stdout: Output & NodeJS.WritableStream;
  readonly stderr: Output & NodeJS.WritableStream;
  /** From now on the next Ctrl-C aborts this and ends nothing. */
  interruptible(): AbortSignal;
}

export type Colors = ReturnType<typeof pc.createColors>;

/** Colours on a terminal alone; NO_COLOR takes them away and FORCE_COLOR gives them elsewhere. */
export function colorsOf(env: NodeJS.ProcessEnv, output: Output): Colors {
  const forced = Boolean(env.FORCE_COLOR) && env.FORCE_COLOR !== '0';
  const capable = output.isTTY === true && env.TERM !== 'dumb' && env.FORCE_COLOR !== '0';
  return pc.createColors(!env.NO_COLOR && (forced || capable));
}

/** How wide lines may be: the terminal, or COLUMNS elsewhere; undefined where nothing says. */
export function widthOf(env: NodeJS.ProcessEnv, output: Output): number | undefined {
  const told = output.isTTY ? output.columns : Number(env.COLUMNS);
  return told && Number.isInteger(told) && told > 0 ? told : undefined;
}
