/**
 * A client that goes on using its client certificate, as a service does that never heard of a rotation. One JSON line
 * for each use: when, over what, and whom the server says it saw.
 *
 *   node keep-using.ts --address HOST:PORT --cert F --key F [--name N] [--roots F] [--every MS] [--log F]
 *        [--hold pooled|resume|fresh] [--reread]
 *
 * `pooled` keeps one connection open for all uses; `resume` makes a new connection each time and resumes the last
 * session; `fresh` does neither. The files are read at start, again on SIGHUP, and with --reread before each use.
 */
import { appendFileSync, readFileSync } from "node:fs";
import { Agent, type ClientRequestArgs, request } from "node:http";
import { connect, type TLSSocket } from "node:tls";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    address: { type: "string" },
    cert: { type: "string" },
    key: { type: "string" },
    name: { type: "string", default: "localhost" },
    roots: { type: "string" },
    every: { type: "string", default: "200" },
    log: { type: "string" },
    hold: { type: "string", default: "fresh" },
    reread: { type: "boolean", default: false },
    "user-agent": { type: "string", default: "lab-client" },
  },
});
const address = args.address ?? "";
const colon = address.lastIndexOf(":");
const [host, port] = [address.slice(0, colon), Number(address.slice(colon + 1))];

const read = () => ({
  ...(args.cert === undefined ? {} : { cert: readFileSync(args.cert) }),
  ...(args.key === undefined ? {} : { key: readFileSync(args.key) }),
  ...(args.roots === undefined ? { rejectUnauthorized: false } : { ca: readFileSync(args.roots) }),
});
let material = read();
let session: Buffer | undefined;

/** Pools by address alone, so that new files do not end a pooled connection; node:https would open another one. */
class Holding extends Agent {
  override createConnection(_options: ClientRequestArgs): TLSSocket {
    const resumed = args.hold === "resume" && session !== undefined ? { session } : {};
    const socket = connect({ host, port, servername: args.name, ...material, ...resumed });
    socket.on("session", (fresh: Buffer) => {
      session = fresh;
    });
    return socket;
  }
}
const agent = new Holding({ keepAlive: args.hold === "pooled", maxSockets: 1 });

function note(line: Record<string, unknown>): void {
  const text = `${JSON.stringify({ time: Date.now(), ...line })}\n`;
  if (args.log === undefined) process.stdout.write(text);
  else appendFileSync(args.log, text);
}

function use(): Promise<void> {
  if (args.reread) material = read();
  return new Promise((resolve) => {
    const headers = { host: args.name, "user-agent": args["user-agent"] };
    const asked = request({ host, port, agent, headers, timeout: 5_000 }, (response) => {
      const socket = response.socket as TLSSocket;
      const serial = response.headers["x-client-serial"] ?? null;
      response.resume().on("end", () => {
        note({ status: response.statusCode, serial, reused: socket.isSessionReused(), pooled: asked.reusedSocket });
        resolve();
      });
    });
    asked.on("timeout", () => asked.destroy(new Error("no answer in 5 s")));
    asked.on("error", (error: NodeJS.ErrnoException) => {
      note({ error: error.code ?? error.message });
      resolve();
    });
    asked.end();
  });
}

process.on("SIGHUP", () => {
  material = read();
});
process.on("SIGTERM", () => process.exit(0));
process.stdout.write("using\n");
for (;;) {
  await use();
  await new Promise((resolve) => setTimeout(resolve, Number(args.every)));
}
