/** BullMQ jobs whose workers are killed and frozen: each key's effects happen once, and every job ends with their result. */
import { describe, expect, inject, test } from 'vitest';
import { connectionOf, EACH_BULLMQ, type Job, makeQueue } from '../support/bullmq.js';
import { expectWhole, type Message } from '../support/consumers.js';
import { connect, freshNamespace, until } from '../support/index.js';
import { Worker } from '../support/processes.js';
import { chooseSeed, seededRandom } from '../support/random.js';
import type { JobsArgs } from '../support/workers/jobs.js';

const JOBS = Number(process.env.TEST_BULLMQ_JOBS ?? 400);
const BLOWS = Number(process.env.TEST_BULLMQ_BLOWS ?? 10);
const WORKERS = 4;
/** Long enough to lose the lock and the lease. */
const FROZEN_MS = [800, 2_000] as const;
const TIME_LIMIT_MS = 60_000 + JOBS * 300;

describe.each(EACH_BULLMQ)('with %s', (name, bullmq) => {
  const version = name.endsWith('6') ? 6 : 5;

  function argsOf(queue: string, namespace: string): JobsArgs {
    const url = inject('redisUrl');
    return { url, namespace, queue, version, connection: connectionOf(url), lockMs: 500, leaseMs: 600 };
  }

  test(
    'workers killed and frozen at random: sums exact, every job completed with the result of its key, no attempt burned',
    async () => {
      const seed = chooseSeed();
      const random = seededRandom(seed);
      const namespace = freshNamespace();
      const redis = connect();
      const { queue } = makeQueue(bullmq, namespace);
      const messages: Message[] = Array.from({ length: Math.ceil(JOBS / 2) }, (_, index) => ({
        id: `m${index}`,
        amount: 1 + Math.floor(random() * 1_000),
      }));
      // Each message under one job id at least; its copies come close behind it, to other workers.
      const deliveries = Array.from({ length: JOBS }, (_, index) => {
        const place = index < messages.length ? index : Math.floor(random() * messages.length);
        return { message: messages[place] as Message, at: place + (index < messages.length ? 0 : random() * WORKERS) };
      }).sort((a, b) => a.at - b.at);
      const jobs = await queue.addBulk(
        deliveries.map(({ message: data }) => ({
          name: 'job',
          data,
          opts: { attempts: 20, backoff: { type: 'fixed', delay: 20 } },
        })),
      );

      const workers = new Set<Worker>();
      const start = async () => {
        const worker = new Worker('jobs', { ...argsOf(namespace, namespace), throwing: 5 });
        await worker.next();
        workers.add(worker);
      };
      await Promise.all(Array.from({ length: WORKERS }, start));
      let [killed, frozen] = [0, 0];
      const thaws: Promise<void>[] = [];
      for (let blow = 1; blow <= BLOWS; blow += 1) {
        const due = ((blow - random()) * JOBS) / (BLOWS + 1);
        await until(async () => (await queue.getCompletedCount()) >= due);
        // All may be frozen.
        await until(() => workers.size > 0);
        const victim = [...workers][Math.floor(random() * workers.size)] as Worker;
        workers.delete(victim);
        if (random() < 0.5) {
          victim.kill('SIGKILL');
          killed += 1;
          await start();
        } else {
          victim.kill('SIGSTOP');
          frozen += 1;
          const [least, most] = FROZEN_MS;
          const ms = least + random() * (most - least);
          const thaw = async () => {
            await new Promise((resolve) => setTimeout(resolve, ms));
            victim.kill('SIGCONT');
            workers.add(victim);
          };
          thaws.push(thaw());
        }
        await expectWhole(redis, namespace, messages, `seed ${seed}, blow ${blow}`);
      }
      await Promise.all(thaws);
      await until(async () => (await queue.getCompletedCount()) === JOBS);

      const context = `seed ${seed}`;
      const completed = await expectWhole(redis, namespace, messages, context);
      expect(completed.size, context).toBe(messages.length);
      const counts = await queue.getJobCounts('active', 'delayed', 'failed', 'waiting');
      expect(counts, context).toMatchObject({ active: 0, delayed: 0, failed: 0, waiting: 0 });
      const thrown = await redis.hgetall(`${namespace}-thrown`);
      const results = new Map<string, unknown>();
      let [starts, attempts] = [0, 0];
      for (const { id: jobId } of jobs) {
        const job = (await queue.getJob(jobId as string)) as Job<Message>;
        const { id } = job.data;
        if (!results.has(id)) results.set(id, job.returnvalue);
        expect(job.returnvalue, context).toMatchObject({ id });
        expect(job.returnvalue, context).toEqual(results.get(id));
        // A run that threw may not have been told to BullMQ; nothing else costs an attempt.
        expect(job.attemptsMade, context).toBeGreaterThanOrEqual(1);
        expect(job.attemptsMade, context).toBeLessThanOrEqual(1 + Number(thrown[jobId as string] ?? 0));
        starts += job.attemptsStarted;
        attempts += job.attemptsMade;
      }
      console.log(
        `${name}, seed ${seed}: ${JOBS} jobs of ${messages.length} keys, ${killed} workers killed, ${frozen} frozen, ` +
          `${starts} starts, ${attempts} attempts`,
      );
    },
    TIME_LIMIT_MS,
  );

  test('a job that stalls and is run again while its first worker wakes up late: one effect, one result', async () => {
    const redis = connect();
    const namespace = freshNamespace();
    const { queue, look, finished } = makeQueue(bullmq, namespace);
    const message = { id: 'm', amount: 7 };
    const job = await queue.add('job', message, { attempts: 1 });
    const args = { ...argsOf(namespace, namespace), held: true };
    const first = new Worker('jobs', args);
    await first.next();
    expect(await first.next()).toEqual({ begun: 1 });
    first.kill('SIGSTOP');
    const second = new Worker('jobs', args);
    await second.next();
    expect(await second.next()).toEqual({ begun: 2 });
    // The late one wakes up while the other is at it, and is done first.
    first.tell({});
    first.kill('SIGCONT');
    expect(await first.next()).toEqual({ leaseLost: 1 });
    await expectWhole(redis, namespace, [message], 'before the second has ended');
    expect(await redis.exists(`${namespace}-data-total`)).toBe(0);
    second.tell({});
    expect(await finished(job)).toMatchObject({ attempt: 2 });
    expect([...(await expectWhole(redis, namespace, [message], 'in the end')).keys()]).toEqual(['m']);
    expect(await look(job)).toMatchObject({ state: 'completed', attemptsMade: 1 });
  });
});
