/** One slot's way from a primary to another, step by step, as `redis-cli --cluster reshard` goes it: keys by MIGRATE. */
import type { ClusterNode, RedisCluster } from './cluster.js';

const MIGRATE_TIMEOUT_MS = 5_000;
const KEYS_AT_A_TIME = 10;

/**
 * Steps are made one after another, whatever slots they are of. Two servers that send keys to each other at once block each
 * other until MIGRATE gives up; and of two slots that are given at once, in opposite directions, a server may take one
 * for not its own and drop its keys: it hears the older claim with a newer epoch.
 */
let last: Promise<unknown> = Promise.resolve();

function inTurn<T>(step: () => Promise<T>): Promise<T> {
  const turn = last.then(step);
  last = turn.catch(() => {});
  return turn;
}

export class SlotMove {
  #isOver = false;

  private constructor(
    private readonly cluster: RedisCluster,
    readonly slot: number,
    readonly source: ClusterNode,
    readonly target: ClusterNode,
  ) {}

  /** Opens the slot: what the source has not, the target is asked for. */
  static begin(cluster: RedisCluster, slot: number, target?: ClusterNode): Promise<SlotMove> {
    return inTurn(async () => {
      const source = await cluster.ownerOf(slot);
      const others = (await cluster.primaries()).filter((server) => server !== source);
      const move = new SlotMove(cluster, slot, source, target ?? (others[0] as ClusterNode));
      await move.#tell(move.target, 'IMPORTING', move.source.id);
      await move.#tell(move.source, 'MIGRATING', move.target.id);
      return move;
    });
  }

  /** Moves that many keys at most; all where none is said. */
  moveKeys(most = Number.POSITIVE_INFINITY): Promise<void> {
    return inTurn(() => this.#moveKeys(most));
  }

  /** Moves these keys. */
  move(...keys: string[]): Promise<void> {
    return inTurn(() => this.#migrate(keys));
  }

  /** Moves what is left, and gives the slot to the target; once. */
  finish(): Promise<void> {
    return inTurn(async () => {
      if (this.#isOver) return;
      this.#isOver = true;
      await this.#moveKeys(Number.POSITIVE_INFINITY);
      const others = (await this.cluster.primaries()).filter(
        (server) => server !== this.target && server !== this.source,
      );
      for (const server of [this.target, this.source, ...others]) await this.#tell(server, 'NODE', this.target.id);
    });
  }

  async #moveKeys(most: number): Promise<void> {
    for (let left = most; left > 0; left -= KEYS_AT_A_TIME) {
      const count = String(Math.min(left, KEYS_AT_A_TIME));
      const keys = await this.source.admin.call('CLUSTER', 'GETKEYSINSLOT', String(this.slot), count);
      if ((keys as string[]).length === 0) return;
      await this.#migrate(keys as string[]);
    }
  }

  async #migrate(keys: string[]): Promise<void> {
    const to = ['127.0.0.1', String(this.target.port), '', '0', String(MIGRATE_TIMEOUT_MS)];
    await this.source.admin.call('MIGRATE', ...to, 'KEYS', ...keys);
  }

  async #tell(server: ClusterNode, ...words: string[]): Promise<void> {
    await server.admin.call('CLUSTER', 'SETSLOT', String(this.slot), ...words);
  }
}
