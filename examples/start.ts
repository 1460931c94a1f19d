/** A payment that comes three times at once, and again when the program is run again, is booked once. */
import { Redis } from 'ioredis';
import { Dedup } from 'redis-once';

const redis = new Redis(process.env.REDIS_URL ?? 'redis://localhost:6379');
const dedup = new Dedup(redis, { namespace: 'start' });

function book(payment: { id: string; cents: number }) {
  return dedup.run(payment.id, ({ tx, attempt }) => {
    console.log(`The handler runs, attempt ${attempt}.`);
    tx.incrby('total', payment.cents);
    return { booked: payment.cents };
  });
}

const payment = { id: 'payment-1', cents: 1999 };
const outcomes = await Promise.all([book(payment), book(payment), book(payment)]);
for (const { status, value } of outcomes) console.log(status, value);
console.log('total:', await redis.get('total'));

await dedup.close();
redis.disconnect();
