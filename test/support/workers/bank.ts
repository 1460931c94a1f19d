/** A payment API on Express: moves money between accounts by `tx`, and tells when it listens. */
import express from 'express';
import { Redis } from 'ioredis';
import { idempotency } from '../../../src/http/express.js';
import { Dedup } from '../../../src/index.js';

const { url, namespace, port } = JSON.parse(process.argv[2] as string) as {
  url: string;
  namespace: string;
  port: number;
};
const redis = new Redis(url, { retryStrategy: () => 10 });
redis.on('error', () => {});
const dedup = new Dedup(redis, { namespace, lease: '500ms', redisTimeout: '1s' });
const app = express();
app.use(express.json());
app.use(idempotency(dedup, { scope: (req) => req.get('x-account') ?? '' }));
const pause = () => new Promise((resolve) => setTimeout(resolve, Math.random() * 10));

app.post('/transfers', async (req, res) => {
  const { from, to, cents } = req.body as { from: string; to: string; cents: number };
  const tx = req.idempotency?.tx;
  tx?.hincrby(`${namespace}-balances`, from, -cents);
  // What is killed here has taken the money and given it to nobody; none of it may be seen.
  await pause();
  tx?.hincrby(`${namespace}-balances`, to, cents).xadd(`${namespace}-ledger`, '*', 'cents', cents);
  await pause();
  res.status(201).json({ moved: cents, by: process.pid, at: performance.now() });
});

app.listen(port, '127.0.0.1', () => process.send?.('listens'));
process.once('disconnect', () => process.exit());
