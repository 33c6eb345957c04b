// A Node program at the other end of a pipe, met by its path; our own framing: u32 little-endian, then UTF-8.
//
//     node peer.js PATH COUNT     connects; sends back each of the COUNT frames that it reads; "exchanged COUNT", ends
"use strict";

const net = require("node:net");

const [path, count] = [process.argv[2], Number(process.argv[3])];
let waiting = Buffer.alloc(0);
let done = 0;

const pipe = net.connect({ path });
pipe.on("data", (some) => {
  waiting = Buffer.concat([waiting, some]);
  while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32LE(0)) {
    const end = 4 + waiting.readUInt32LE(0);
    const text = waiting.toString("utf8", 4, end);
    waiting = waiting.subarray(end);
    const body = Buffer.from(text, "utf8");
    const head = Buffer.alloc(4);
    head.writeUInt32LE(body.length);
    pipe.write(Buffer.concat([head, body]));
    done += 1;
  }
});
pipe.on("error", (problem) => {
  console.error(problem.stack);
  process.exitCode = 2;
});
pipe.on("end", () => {
  console.log(`exchanged ${done}`);
  process.exitCode = done === count && waiting.length === 0 ? 0 : 1;
  pipe.end();
});
