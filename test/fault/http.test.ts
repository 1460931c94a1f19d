/** A payment API that is killed at random while its clients retry: balances are exact, and answers stay what they were. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, inject, test } from 'vitest';
import { send } from '../support/http/client.js';
import { connect, freshNamespace, until } from '../support/index.js';
import { Worker } from '../support/processes.js';
import { chooseSeed, seededRandom } from '../support/random.js';

const TRANSFERS = Number(process.env.TEST_HTTP_TRANSFERS ?? 300);
const KILLS = Number(process.env.TEST_HTTP_KILLS ?? 8);
const CLIENTS = 16;
const ACCOUNTS = ['a', 'b', 'c', 'd'];

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Transfer {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly cents: number;
}

test(
  'a payment API killed at random while clients retry: balances exact, and each answer is that of any later replay',
  async () => {
    const seed = chooseSeed();
    const random = seededRandom(seed);
    const any = () => ACCOUNTS[Math.floor(random() * ACCOUNTS.length)] as string;
    const transfers: Transfer[] = Array.from({ length: TRANSFERS }, (_, index) => ({
      id: `t${index}`,
      from: any(),
      to: any(),
      cents: 1 + Math.floor(random() * 100),
    }));
    const [redis, namespace, port] = [connect(), freshNamespace(), await freePort()];
    const args = { url: inject('redisUrl'), namespace, port };
    const base = `http://127.0.0.1:${port}`;
    let server = new Worker('bank', args);
    expect(await server.next()).toBe('listens');

    const told = new Map<string, number>();
    /** What a client does that wants to know: it sends the request until it has an answer that is one. */
    const pay = async ({ id, ...transfer }: Transfer) => {
      const headers: [string, string][] = [
        ['content-type', 'application/json'],
        ['x-account', transfer.from],
        ['idempotency-key', `"${id}"`],
      ];
      for (;;) {
        const answer = await send(base, { path: '/transfers', headers, body: JSON.stringify(transfer) }).catch(
          (error: NodeJS.ErrnoException) => ({ status: error.code ?? 'no answer', body: Buffer.alloc(0) }),
        );
        if (typeof answer.status === 'number' && ![409, 503].includes(answer.status)) {
          return { status: answer.status, body: answer.body.toString() };
        }
        told.set(String(answer.status), (told.get(String(answer.status)) ?? 0) + 1);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };

    const answers = new Map<string, { status: number; body: string }>();
    const queue = [...transfers];
    const clients = Array.from({ length: CLIENTS }, async () => {
      for (let transfer = queue.shift(); transfer; transfer = queue.shift()) {
        answers.set(transfer.id, await pay(transfer));
      }
    });
    for (let kill = 1; kill <= KILLS; kill += 1) {
      const due = ((kill - random()) * TRANSFERS) / (KILLS + 1);
      await until(() => answers.size >= due);
      server.kill('SIGKILL');
      await server.exited;
      server = new Worker('bank', args);
      await server.next();
    }
    await Promise.all(clients);
    console.log(
      `seed ${seed}: ${TRANSFERS} transfers, ${KILLS} kills, told ${JSON.stringify(Object.fromEntries(told))}`,
    );

    const context = `seed ${seed}`;
    const balances = Object.fromEntries(ACCOUNTS.map((account) => [account, 0]));
    for (const { from, to, cents } of transfers) {
      balances[from] = (balances[from] ?? 0) - cents;
      balances[to] = (balances[to] ?? 0) + cents;
    }
    const stored = await redis.hgetall(`${namespace}-balances`);
    expect(Object.fromEntries(ACCOUNTS.map((account) => [account, Number(stored[account] ?? 0)])), context).toEqual(
      balances,
    );
    expect(await redis.xlen(`${namespace}-ledger`), context).toBe(TRANSFERS);
    for (const transfer of transfers) {
      const answer = answers.get(transfer.id);
      expect(answer, context).toMatchObject({ status: 201 });
      expect(await pay(transfer), context).toEqual(answer);
    }
    expect(
      [...told.keys()].some((status) => /^E|no answer/.test(status)),
      context,
    ).toBe(true);
  },
  // On a busy machine a process takes seconds to start.
  30_000 + TRANSFERS * 100 + KILLS * 20_000,
);
