// ioredis and node-redis as they come: CLIENT PORT… increments n:CLIENT for ever and prints what it hears, until its
// standard input ends. Failures are printed and survived, as a program with an error handler would.

import { createRequire } from "node:module";
const require = createRequire(process.env.CLIENTS_BUILD + "/");

const [name, ...ports] = process.argv.slice(2);
const nodes = ports.map((port) => ({ host: "127.0.0.1", port: Number(port) }));
const failed = (error) => console.log("error " + String(error?.message ?? error).split("\n")[0]);

async function connect() {
  if (name === "ioredis") {
    const { default: Redis } = require("ioredis");
    return new Redis({ sentinels: nodes, name: "mymaster" }).on("error", failed);
  }
  const { createSentinel } = require("redis");
  const made = createSentinel({ name: "mymaster", sentinelRootNodes: nodes }).on("error", failed);
  return made.connect();
}

const client = await connect();
process.stdin.on("end", () => process.exit(0)).resume();
for (;;) {
  try {
    console.log("ok " + (await client.incr("n:" + name)));
  } catch (error) {
    failed(error);
  }
  await new Promise((done) => setTimeout(done, 10));
}
