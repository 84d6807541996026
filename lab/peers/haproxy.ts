/**
 * HAProxy, twice: terminating mutual TLS itself, and as a load balancer in TCP mode in front of other servers. Both in
 * master-worker mode, reloaded by SIGUSR2 to the master, which starts a new worker and lets the old one finish.
 */
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { connects, freePort, type Supervised, type Workspace } from "../estate.ts";
import { peers } from "../install.ts";
import { type Peer, runCommand } from "./peer.ts";

export interface HaproxyOptions {
  readonly name: string;
  /** One PEM with leaf, chain and key: HAProxy's form. */
  readonly combined: string;
  readonly clientCa?: string;
  readonly crl?: string;
  readonly verify?: "required" | "optional";
  readonly host?: string;
  readonly port?: number;
  readonly identityHeader?: string | false;
  readonly tls?: { readonly min?: "TLSv1.2" | "TLSv1.3"; readonly max?: "TLSv1.2" | "TLSv1.3" };
  readonly tickets?: "off" | "random" | { readonly keyFile: string };
  readonly accessLog?: boolean;
}

export interface Haproxy extends Peer {
  readonly configFile: string;
  readonly validateCommand: readonly string[];
  /** While on, the master's pid file names another process, which swallows the signal. */
  ignoreReload(on: boolean): Promise<void>;
  configure(change: Partial<HaproxyOptions>): void;
}

/** The same fields as nginx's line, filled with HAProxy's values; docs/drivers/access-log.md tells operators to copy it. */
const fields = [
  // When the connection was accepted; with the duration, when the request ended.
  `"time":%Ts.%ms`,
  `"duration_ms":"%Tt"`,
  `"ssl_client_serial":"%[ssl_c_serial,hex]"`,
  `"ssl_client_i_dn":"%[ssl_c_i_dn(,0,rfc2253),json(utf8s)]"`,
  `"ssl_client_verify":"%[ssl_c_verify]"`,
  `"ssl_session_reused":"%[ssl_fc_is_resumed]"`,
  `"remote_addr":"%ci"`,
  `"status":%ST`,
  `"http_user_agent":"%[capture.req.hdr(0),json(utf8s)]"`,
];
const logLine = `{${fields.join(",")}}`;
const quoted = (text: string) => `"${text.replace(/["\\]/g, "\\$&")}"`;

function common(pidFile: string, log: string | undefined, control?: string): string {
  return `global
  pidfile ${pidFile}
  maxconn 500
${log === undefined ? "" : `  log ${log} len 4096 format raw local0\n`}${control === undefined ? "" : `  stats socket ${control} level admin\n`}defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
`;
}

function terminating(o: HaproxyOptions, at: { host: string; port: number; pidFile: string; log: string }): string {
  const tickets = o.tickets ?? "random";
  const bind = [
    ...[`${at.host}:${at.port} ssl crt ${o.combined}`],
    ...(o.clientCa === undefined ? [] : [`ca-file ${o.clientCa} verify ${o.verify ?? "required"}`]),
    ...(o.crl === undefined ? [] : [`crl-file ${o.crl}`]),
    ...(o.tls?.min === undefined ? [] : [`ssl-min-ver ${o.tls.min}`]),
    ...(o.tls?.max === undefined ? [] : [`ssl-max-ver ${o.tls.max}`]),
    ...(tickets === "off"
      ? ["no-tls-tickets"]
      : typeof tickets === "object"
        ? [`tls-ticket-keys ${tickets.keyFile}`]
        : []),
  ];
  const header = o.identityHeader ?? "X-Client-Serial";
  const named =
    header === false ? `string "ok\\n"` : `lf-string "ok %[ssl_c_serial,hex]\\n" hdr ${header} "%[ssl_c_serial,hex]"`;
  return `${common(at.pidFile, o.accessLog === false ? undefined : at.log)}frontend tls
  mode http
  bind ${bind.join(" ")}
  log global
  capture request header User-Agent len 256
  log-format ${quoted(logLine)}
  http-request return status 200 content-type text/plain ${named}
`;
}

/** Starts a HAProxy that terminates TLS, and a collector that writes its log to `<name>/access.log`. */
export async function startHaproxy(workspace: Workspace, options: HaproxyOptions): Promise<Haproxy> {
  const home = workspace.folder(options.name);
  const host = options.host ?? "127.0.0.1";
  const port = options.port ?? (await freePort(host));
  const accessLog = join(home, "access.log");
  const log = await startCollector(workspace, `${options.name}-log`, accessLog);
  let current = options;
  const base = await masterWorker(workspace, options.name, home, host, port, (pidFile) =>
    terminating(current, { host, port, pidFile, log }),
  );
  return {
    ...base.peer(accessLog),
    configFile: base.configFile,
    validateCommand: [peers().haproxy, "-c", "-f", base.configFile],
    get process() {
      return base.running();
    },
    ignoreReload: base.ignoreReload,
    configure(change) {
      current = { ...current, ...change };
      base.write();
    },
  };
}

async function startCollector(workspace: Workspace, name: string, file: string): Promise<string> {
  const script = join(dirname(fileURLToPath(import.meta.url)), "..", "servers", "udp-log.ts");
  const collector = await workspace.start({
    name,
    command: [process.execPath, script, "127.0.0.1", "0", file],
    ready: (one) => one.output().includes("collecting on "),
  });
  writeFileSync(file, "", { flag: "a" });
  return collector.output().trim().replace("collecting on ", "");
}

async function masterWorker(
  workspace: Workspace,
  name: string,
  home: string,
  host: string,
  port: number,
  config: (pidFile: string) => string,
) {
  const configFile = join(home, "haproxy.cfg");
  const pidFile = join(home, "haproxy.pid");
  const write = () => writeFileSync(configFile, config(pidFile));
  let current: Supervised | undefined;
  let decoy: Supervised | undefined;
  const running = () => {
    if (current === undefined) throw new Error(`${name} was not started`);
    return current;
  };
  const start = async () => {
    write();
    current = await workspace.start({
      name,
      command: [peers().haproxy, "-W", "-f", configFile],
      ready: async (one) => one.output().includes("Loading success") && (await connects(host, port)),
    });
    // HAProxy writes its pid file only as a daemon; under a supervisor the operator knows the master.
    writeFileSync(pidFile, `${current.pid}\n`);
  };
  const ignoreReload = async (on: boolean) => {
    await decoy?.stop();
    decoy = undefined;
    if (on) {
      const script = `trap ":" USR2; echo waiting; while :; do sleep 3600 & wait $!; done`;
      decoy = await workspace.start({
        name: `${name}-decoy`,
        command: ["/bin/sh", "-c", script],
        ready: (one) => one.output().endsWith("waiting\n"),
      });
    }
    writeFileSync(pidFile, `${(decoy ?? running()).pid}\n`);
  };
  await start();
  const reloadCommand = ["/bin/sh", "-c", 'kill -USR2 "$(cat "$1")"', "reload", pidFile];
  const peer = (accessLog: string): Omit<Peer, "process"> => ({
    ...{ name, host, port, address: `${host}:${port}`, reloadCommand, pidFile, accessLog },
    async reload() {
      await runCommand(reloadCommand);
    },
    async stop() {
      await ignoreReload(false);
      await running().stop();
    },
    start,
  });
  return { configFile, write, running, ignoreReload, peer };
}

export interface BalancerOptions {
  readonly name: string;
  /** Addresses (host:port) behind it. */
  readonly backends: readonly string[];
  readonly host?: string;
  readonly port?: number;
}
export interface Balancer extends Peer {
  /** Sends every new connection to this backend alone; undefined: to all of them in turn. */
  pinTo(backend: string | undefined): Promise<void>;
}

/** A load balancer in TCP mode: TLS goes through it untouched, so what a probe sees depends on where it was sent. */
export async function startBalancer(workspace: Workspace, options: BalancerOptions): Promise<Balancer> {
  const home = workspace.folder(options.name);
  const host = options.host ?? "127.0.0.1";
  const port = options.port ?? (await freePort(host));
  // Directly in the workspace: a unix socket path holds some hundred bytes only.
  const control = workspace.path(`${options.name}.control`);
  const config = (pidFile: string) => `${common(pidFile, undefined, control)}listen tcp
  mode tcp
  bind ${host}:${port}
  balance roundrobin
${options.backends.map((address, n) => `  server b${n} ${address} check inter 500ms`).join("\n")}
`;
  const base = await masterWorker(workspace, options.name, home, host, port, config);
  return {
    ...base.peer(join(home, "access.log")),
    get process() {
      return base.running();
    },
    async pinTo(backend) {
      for (const [n, address] of options.backends.entries()) {
        const state = backend === undefined || backend === address ? "ready" : "maint";
        await command(control, `set server tcp/b${n} state ${state}`);
      }
    },
  };
}

/** One command over HAProxy's stats socket. An empty answer means done. */
function command(socketPath: string, line: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let answer = "";
    socket.setEncoding("utf8").on("data", (chunk) => {
      answer += chunk;
    });
    socket.once("error", reject);
    socket.once("close", () =>
      answer.trim() === "" ? resolve() : reject(new Error(`haproxy: ${line}: ${answer.trim()}`)),
    );
    socket.write(`${line}\n`);
  });
}
