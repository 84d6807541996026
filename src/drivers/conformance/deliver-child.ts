import { readFileSync } from "node:fs";
import { GyreError } from "../../errors.ts";
import { Secret } from "../../pki/secret.ts";
import { type Disk, realDisk } from "../files/disk.ts";
import { targetSettings } from "../files/settings.ts";
import { createFilesTarget } from "../files/target.ts";

/**
 * One delivery in a process of its own, for tests that kill it, or give it a full disk or little permission.
 * `node deliver-child.ts ORDER.json`; prints one line of JSON: { version } or { code, message, retry }. With
 * `dieBefore: n` it kills itself before the n-th system call that changes the disk.
 */
const order = JSON.parse(readFileSync(process.argv[2]!, "utf8"));
const material = { ...order.material, privateKey: Secret.of(order.material.privateKey) };
let calls = 0;
const disk: Disk = new Proxy(realDisk, {
  get(target, name: keyof Disk) {
    if (name !== "close" && name !== "lock" && ++calls === order.dieBefore) process.kill(process.pid, "SIGKILL");
    return target[name];
  },
});
const target = createFilesTarget(targetSettings.parse(order.settings), { baseDir: order.baseDir, disk });
const step = { op: order.op, signal: new AbortController().signal, tag: "test.1" };
try {
  const { version } = await target.deliver(material, order.expected, step);
  console.log(JSON.stringify({ version }));
} catch (error) {
  if (!(error instanceof GyreError)) throw error;
  console.log(JSON.stringify(error));
}
