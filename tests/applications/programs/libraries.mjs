// Bull, Bee-Queue, rate-limiter-flexible and connect-redis: a line a step, the same on every server. Usage: … PORT

import { createRequire } from "node:module";
const require = createRequire(process.env.CLIENTS_BUILD + "/");
const Bull = require("bull");
const Bee = require("bee-queue");
const Redis = require("ioredis");
const { createClient } = require("redis");
const { RateLimiterRedis } = require("rate-limiter-flexible");
const { RedisStore } = require("connect-redis");

const port = Number(process.argv[2]);

async function step(name, run) {
  let found;
  try {
    found = JSON.stringify(await run());
  } catch (error) {
    found = "failed: " + String(error.message).split("\n")[0];
  }
  console.log(name, found);
}

const bull = new Bull("bull", { redis: { port, host: "127.0.0.1" } });
bull.process("*", 2, async (job) => {
  if (job.data.bad) throw new Error("no");
  await job.progress(10);
  return job.data.n + 1;
});
const add = (data, options) => bull.add("a", data, options);
await step("bull: a job", async () => (await add({ n: 1 })).finished());
await step("bull: delayed", async () => (await add({ n: 2 }, { delay: 50 })).finished());
await step("bull: priorities", async () => {
  const jobs = await Promise.all([3, 1, 2].map((n) => add({ n }, { priority: n })));
  return Promise.all(jobs.map((job) => job.finished()));
});
await step("bull: failed", async () => (await add({ bad: 1 }, { attempts: 2 })).finished().catch((e) => e.message));
await step("bull: paused", async () => {
  await bull.pause();
  const job = await add({ n: 5 });
  const count = await bull.getPausedCount();
  await bull.resume();
  return [count, await job.finished()];
});
await step("bull: counts", () => bull.getJobCounts());
await step("bull: obliterated", async () => {
  await bull.obliterate({ force: true });
  return bull.getJobCounts();
});

const bee = new Bee("bee", { redis: { port }, activateDelayedJobs: true });
bee.process(async (job) => job.data.n * 2);
const saved = async (job) => {
  const succeeded = new Promise((done) => job.on("succeeded", done));
  await job.save();
  return succeeded;
};
await step("bee-queue: a job", () => saved(bee.createJob({ n: 4 })));
await step("bee-queue: delayed", () => saved(bee.createJob({ n: 5 }).delayUntil(Date.now() + 50)));
await step("bee-queue: health", () => bee.checkHealth());

const node = await createClient({ url: "redis://127.0.0.1:" + port }).connect();
for (const [name, options] of [
  ["ioredis", { storeClient: new Redis(port) }],
  ["node-redis", { storeClient: node, useRedisPackage: true }],
]) {
  const limiter = new RateLimiterRedis({ ...options, points: 3, duration: 60, keyPrefix: name });
  await step("rate-limiter-flexible on " + name, async () => {
    const left = [];
    for (let n = 0; n < 5; n++) {
      left.push(await limiter.consume("user").then((one) => one.remainingPoints, (one) => one.consumedPoints));
    }
    return [left, (await limiter.reward("user", 2)).consumedPoints, await limiter.delete("user")];
  });
}

await step("connect-redis", async () => {
  const store = new RedisStore({ client: node, prefix: "session:" });
  const session = { cookie: { maxAge: 10_000 }, n: 1 };
  await store.set("a", session);
  await store.touch("a", session);
  const ttl = await node.ttl("session:a");
  return [await store.get("a"), await store.length(), await store.ids(), ttl, await store.destroy("a"), await store.ids()];
});
process.exit(0);
