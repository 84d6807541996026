/** Collects syslog datagrams into a file, one message a line, as rsyslog would: `node udp-log.ts HOST PORT FILE`. */
import { createSocket } from "node:dgram";
import { appendFileSync } from "node:fs";

const [host = "127.0.0.1", port = "0", file] = process.argv.slice(2);
if (file === undefined) throw new Error("usage: udp-log.ts HOST PORT FILE");
const socket = createSocket("udp4");
socket.on("message", (message) => appendFileSync(file, `${message.toString("utf8").trimEnd()}\n`));
socket.bind(Number(port), host, () => process.stdout.write(`collecting on ${host}:${socket.address().port}\n`));
