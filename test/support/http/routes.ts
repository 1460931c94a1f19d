/** The routes of the cases, whatever the framework: what each does and answers. Apps translate, and nothing else. */
import type { OnceContext } from '../../../src/index.js';

/** How a handler gives its response: by the framework's own ways. */
type Via = 'json' | 'text' | 'bytes' | 'chunks' | 'redirect' | 'empty' | 'throw' | 'raw';

export interface Made {
  readonly via: Via;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON, a text, bytes, chunks of a stream, or where a redirect leads. */
  readonly body?: unknown;
}

export interface Asked {
  readonly context: OnceContext | null | undefined;
  readonly body: unknown;
}

/** What a test sees of its routes, and how it holds them. */
export interface World {
  /** A key in Redis that handlers add to. */
  readonly sum: string;
  runs: number;
  /** What `held` waits for. */
  hold: Promise<void>;
}

const BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

type Route = (asked: Asked, world: World) => Made | Promise<Made>;

/** Each adds what it is asked for to the sum, then answers. */
const ROUTES: Record<string, Route> = {
  '/pay': ({ body }, { runs }) => ({
    via: 'json',
    status: 201,
    headers: {
      location: '/payments/1',
      etag: '"v1"',
      link: '</payments>; rel="collection"',
      'set-cookie': 'session=secret',
      'x-other': 'x',
    },
    body: { charged: (body as { cents?: number })?.cents ?? null, run: runs },
  }),
  '/text': (_, { runs }) => ({ via: 'text', status: 200, body: `run ${runs}, ünïcode` }),
  '/bytes': () => ({
    via: 'bytes',
    status: 200,
    headers: { 'content-type': 'application/octet-stream' },
    body: BYTES,
  }),
  '/chunks': (_, { runs }) => ({
    via: 'chunks',
    status: 200,
    headers: { 'content-type': 'text/plain' },
    body: ['one ', 'two ', `${runs}`],
  }),
  '/redirect': () => ({ via: 'redirect', status: 303, body: '/payments/1' }),
  '/no-content': () => ({ via: 'empty', status: 204 }),
  '/nothing': () => ({ via: 'empty', status: 200 }),
  '/raw': (_, { runs }) => ({
    via: 'raw',
    status: 202,
    headers: { 'content-type': 'text/plain' },
    body: `raw ${runs}`,
  }),
  '/large': () => ({ via: 'text', status: 200, body: 'x'.repeat(5_000) }),
  '/large-chunks': () => ({
    via: 'chunks',
    status: 200,
    headers: { 'content-type': 'text/plain' },
    body: Array.from({ length: 50 }, () => 'y'.repeat(100)),
  }),
  '/throw': () => ({ via: 'throw', status: 500 }),
  '/throw/402': () => ({ via: 'throw', status: 402 }),
  '/held': async (_, world) => {
    const { runs } = world;
    await world.hold;
    return { via: 'json', status: 200, body: { run: runs } };
  },
  '/hang': () => new Promise(() => {}),
  '/conflict': ({ context }) => {
    context?.tx.require.exists('never-there');
    return { via: 'json', status: 200, body: {} };
  },
  '/rejected': ({ context }, { sum }) => {
    context?.tx.rpush(sum, 'no list');
    return { via: 'json', status: 200, headers: { 'x-own': '1', etag: '"own"' }, body: {} };
  },
};

/** `/status/404` and so on. */
export async function respond(path: string, asked: Asked, world: World): Promise<Made> {
  world.runs += 1;
  asked.context?.tx.incrby(world.sum, 1);
  const status = /^\/status\/(\d+)$/.exec(path)?.[1];
  if (status) return { via: 'json', status: Number(status), body: { run: world.runs } };
  const route = ROUTES[path];
  if (!route) throw new Error(`There is no ${path}`);
  return route(asked, world);
}
