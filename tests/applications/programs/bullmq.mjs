// BullMQ as people use it: each step prints one line, which is the same on every server. Usage: bullmq.mjs PORT

import { createRequire } from "node:module";
const require = createRequire(process.env.CLIENTS_BUILD + "/");
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };
const PATIENCE_MS = 20_000;

async function step(name, run) {
  let found;
  try {
    found = JSON.stringify(await run());
  } catch (error) {
    found = "failed: " + String(error.message).split("\n")[0];
  }
  console.log(name, found);
}

async function until(holds) {
  for (let n = 0; !(await holds()); n++) {
    if (n > PATIENCE_MS / 10) throw new Error("waited in vain");
    await new Promise((done) => setTimeout(done, 10));
  }
}

const queue = new Queue("plain", { connection });
const events = new QueueEvents("plain", { connection });
await events.waitUntilReady();
const double = async (job) => {
  if (job.name === "bad") throw new Error("no");
  return job.data.n * 2;
};
const worker = new Worker("plain", double, { connection, concurrency: 3 });
const ended = (job, of = events) => job.waitUntilFinished(of, PATIENCE_MS);

await step("a job", async () => ended(await queue.add("a", { n: 1 })));
await step("delayed", async () => {
  const job = await queue.add("a", { n: 2 }, { delay: 1000 });
  return [await job.getState(), await ended(job)];
});
await step("priorities", async () => {
  const jobs = await Promise.all([3, 1, 2].map((n) => queue.add("a", { n }, { priority: n })));
  return Promise.all(jobs.map((job) => ended(job)));
});
await step("retried, failed", async () => {
  const job = await queue.add("bad", {}, { attempts: 2, backoff: { type: "fixed", delay: 20 } });
  return ended(job).catch((error) => error.message);
});
await step("unique", async () => {
  const options = { deduplication: { id: "one" }, delay: 60_000 };
  const [first, second] = [await queue.add("a", {}, options), await queue.add("a", {}, options)];
  await first.remove();
  return first.id === second.id;
});
await step("paused", async () => {
  await queue.pause();
  const job = await queue.add("a", { n: 9 });
  const state = await job.getState();
  await queue.resume();
  return [state, await ended(job)];
});
await step("counts", () => queue.getJobCounts("completed", "failed", "delayed", "wait"));
await step("cleaned", async () => (await queue.clean(0, 100, "completed")).length);

await step("repeatable", async () => {
  const ticks = new Queue("ticks", { connection });
  let seen = 0;
  const ticker = new Worker("ticks", async () => seen++, { connection });
  await ticks.upsertJobScheduler("tick", { every: 100 }, { name: "tick", data: {} });
  await until(() => seen >= 3);
  const removed = await ticks.removeJobScheduler("tick");
  await ticker.close();
  return removed;
});

await step("a flow", async () => {
  const order = [];
  const values = async (job) => {
    order.push(job.name);
    return job.name === "root" ? Object.values(await job.getChildrenValues()).sort() : job.name;
  };
  const flowWorker = new Worker("flow", values, { connection });
  const flowEvents = new QueueEvents("flow", { connection });
  await flowEvents.waitUntilReady();
  const child = (name, children) => ({ name, queueName: "flow", children });
  const made = await new FlowProducer({ connection }).add(
    child("root", [child("left", [child("leaf")]), child("right")]),
  );
  const found = await ended(made.job, flowEvents);
  await flowWorker.close();
  return [found, order.at(-1), order.length];
});

await step("rate limited", async () => {
  const limited = new Queue("limited", { connection });
  const at = [];
  await limited.addBulk([1, 2, 3, 4].map((n) => ({ name: "a", data: { n } })));
  const slow = new Worker("limited", async () => at.push(Date.now()), { connection, limiter: { max: 2, duration: 1000 } });
  await until(() => at.length === 4);
  await slow.close();
  return at[3] - at[0] >= 300;
});

await step("stalled", async () => {
  const stuck = new Queue("stuck", { connection });
  const hangs = { connection, lockDuration: 200, lockRenewTime: 1e6, skipStalledCheck: true };
  let taken = false;
  new Worker("stuck", () => new Promise(() => (taken = true)), hangs).on("error", () => {});
  await stuck.add("a", {});
  await until(() => taken);
  const seen = [];
  const second = new Worker("stuck", async () => "again", { connection, stalledInterval: 200 });
  second.on("stalled", () => seen.push("stalled"));
  second.on("completed", (_, value) => seen.push(value));
  await until(() => seen.length === 2);
  return seen;
});

await step("obliterated", async () => {
  await worker.close();
  await queue.obliterate({ force: true });
  return queue.getJobCounts("completed", "failed");
});
process.exit(0);
