/** What the library uses of ioredis 5 and 6: typed by structure, so that either may be installed. */

/** What the library needs of an ioredis 5 or 6 `Redis` or `Cluster`, whatever its reply mapping. */
export interface RedisConnection {
  readonly status: string;
  readonly isCluster: boolean;
  readonly options: { readonly keyPrefix?: string | undefined };
  callBuffer(command: string, args: (string | Buffer | number)[]): Promise<unknown>;
  call(command: string, args: (string | Buffer | number)[]): Promise<unknown>;
  connect(): Promise<void>;
  on(event: 'ready' | 'close' | 'end', listener: () => void): unknown;
  duplicate(): unknown;
}

/** One server, as far as plain commands to it go. */
export interface ServerConnection {
  readonly options: { readonly host?: string; readonly port?: number; readonly path?: string };
  call(command: string, args: string[]): Promise<unknown>;
}

type ScriptingArgument = string | number | Buffer | readonly (string | number | Buffer)[];

/** What ioredis has of a server that it is connected to, and in its types only in part; `callBuffer` fails with auto-pipelining. */
export interface Node extends ServerConnection {
  readonly status: string;
  readonly options: ServerConnection['options'] & { readonly keyPrefix?: string };
  readonly stream?: { cork?(): void; uncork?(): void };
  on(event: 'close', listener: () => void): unknown;
  evalshaBuffer(...args: ScriptingArgument[]): Promise<unknown>;
  evalBuffer(...args: ScriptingArgument[]): Promise<unknown>;
  asking(): Promise<unknown>;
}

/** What a connection to a single server has beside. */
export interface SingleConnection extends Node {
  readonly options: Node['options'] & {
    readonly reconnectOnError?: ((error: Error) => boolean | 1 | 2) | null | undefined;
  };
  disconnect(reconnect: true): void;
}

/** What a `Cluster` has beside. */
export interface ClusterConnection extends Node {
  nodes(role: 'all' | 'master'): Node[];
  /** Of each slot, the addresses of its servers, the primary first. */
  readonly slots: readonly (readonly string[] | undefined)[];
  on(event: 'close', listener: () => void): unknown;
  on(event: '+node', listener: (node: Node) => void): unknown;
}

/** An error as ioredis makes them of a reply; the text behind the code is left out, for it may hold what the caller wrote. */
export function replyError(code: string): Error {
  return Object.assign(new Error(`${code} (answered by a script)`), { name: 'ReplyError' });
}
