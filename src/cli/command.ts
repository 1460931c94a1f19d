/** What every command is given, and what comes of it. */
import type { Session } from './connect.js';
import { type Colors, colorsOf, type Io, widthOf } from './io.js';
import { printable, toJson } from './text.js';

/** 0: well; 1: it ran and found or refused something; 2: it could not run; 130: it was interrupted. */
export type ExitCode = 0 | 1 | 2 | 130;

export class Context {
  readonly colors: Colors;
  /** Of a line on stdout; undefined where nothing says. */
  readonly width: number | undefined;

  constructor(
    readonly io: Io,
    readonly session: Session,
    readonly namespace: string,
    readonly json: boolean,
  ) {
    this.colors = colorsOf(io.env, io.stdout);
    this.width = widthOf(io.env, io.stdout);
  }

  readonly heading = (text: string): string => this.colors.dim(text);

  /** Where there is no record at all, the likeliest reason is a wrong name. */
  nothingIn(scope: readonly string[]): string {
    const where = scope.length > 0 ? 'that scope of the namespace' : 'the namespace';
    const name = printable(this.namespace);
    return `No record is in ${where} \`${name}\`. Has your Dedup another one (--namespace), or its connection a keyPrefix (--key-prefix)?`;
  }

  /** The one document of `--json`, or else the text for people. */
  print(document: unknown, text: () => string): void {
    this.io.stdout.write(`${this.json ? toJson(document) : text()}\n`);
  }
}
