/**
 * nginx as an operator runs it: a prefix of its own, a master with workers, a pid file, error and access log. The breaks
 * are things that happen to real servers, and the reload command still ends with 0 in all of them.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connects, freePort, type Supervised, type Workspace, waitFor } from "../estate.ts";
import { peers } from "../install.ts";
import { type Peer, runCommand } from "./peer.ts";

export interface NginxOptions {
  readonly name: string;
  /** Paths of the PEM chain (leaf first) and key it serves. */
  readonly certificate: string;
  readonly privateKey: string;
  /** CA bundle for client certificates; without it none is asked for. */
  readonly clientCa?: string;
  /** PEM file of CRLs, one for each CA of the chain. */
  readonly crl?: string;
  readonly verify?: "on" | "optional" | "optional_no_ca" | "off";
  readonly host?: string;
  readonly port?: number;
  readonly serverName?: string;
  /** Names the client certificate in the reply; false: an identity-blind 200. */
  readonly identityHeader?: string | false;
  readonly tls?: readonly ("TLSv1.2" | "TLSv1.3")[];
  /** Session tickets: `off`, `random` keys (new ones at each reload), or a key file (48 or 80 bytes) that outlives reloads. */
  readonly tickets?: "off" | "random" | { readonly keyFile: string };
  /** A session cache shared by the workers: TLS 1.2 session ids, stateful TLS 1.3 tickets. */
  readonly sessionCache?: boolean;
  readonly workers?: number;
  readonly body?: string;
  readonly accessLog?: boolean;
  /** How long a connection may stay open between requests, seconds. */
  readonly keepalive?: number;
  /** Seconds its clock is off. */
  readonly clockOffset?: number;
  /** A second master on the same port that never hears of a reload: the address answers from two states. */
  readonly splitWorkers?: boolean;
}

/**
 * - `ignoreReload`: the pid file names another process, which swallows the signal (a stale pid file).
 * - `freezeMaster`: the master is stopped (SIGSTOP); its workers go on serving. Repaired, it hears the pending signal.
 * - `diesOnReload`: it reloads, serves the new certificate for a moment, and dies.
 */
export type NginxBreak = "ignoreReload" | "freezeMaster" | "diesOnReload";

export interface Nginx extends Peer {
  readonly prefix: string;
  readonly configFile: string;
  readonly errorLog: string;
  /** `nginx -t` with this configuration: an operator's validate command. */
  readonly validateCommand: readonly string[];
  break(how: NginxBreak): Promise<void>;
  /** Undoes every break. It does not reload. */
  repair(): Promise<void>;
  /** From now on nothing is written to the access log, until `logGap(false)`; the file loses what it held when `remove`. */
  logGap(on: boolean, options?: { remove?: boolean }): Promise<void>;
  /** Changes options that the configuration holds, writes it anew; takes effect with the next reload or start. */
  configure(change: Partial<NginxOptions>): void;
  /** Reloads and waits until no worker of before is left; one with an open connection stays for as long as that lasts. */
  reloadFully(): Promise<void>;
  /** Pids of the workers of the (first) master. */
  workers(): number[];
}

/** Field names are nginx's own; docs/drivers/access-log.md tells operators to copy this line. */
const logFormat = `log_format gyre escape=json '{"time":$msec,"ssl_client_serial":"$ssl_client_serial","ssl_client_i_dn":"$ssl_client_i_dn","ssl_client_verify":"$ssl_client_verify","ssl_session_reused":"$ssl_session_reused","remote_addr":"$remote_addr","status":$status,"http_user_agent":"$http_user_agent"}';`;

interface Places {
  readonly prefix: string;
  readonly host: string;
  readonly port: number;
  readonly pidFile: string;
  readonly errorLog: string;
  readonly accessLog: string;
}

function configuration(o: NginxOptions, at: Places, logging: boolean): string {
  const tickets = o.tickets ?? "random";
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const header = o.identityHeader ?? "X-Client-Serial";
  const body = o.body ?? (header === false ? "ok\\n" : "ok $ssl_client_serial\\n");
  return `${process.getuid?.() === 0 ? "user root;\n" : ""}daemon off;
worker_processes ${o.workers ?? 1};
pid ${at.pidFile};
error_log ${at.errorLog} info;
${o.clockOffset === undefined ? "" : "env LD_PRELOAD;\nenv FAKETIME;\nenv FAKETIME_DONT_FAKE_MONOTONIC;\n"}events { worker_connections 512; }
http {
  ${logFormat}
  access_log ${logging ? `${at.accessLog} gyre` : "off"};
${temp.map((kind) => `  ${kind}_temp_path ${at.prefix}/temp-${kind};`).join("\n")}
  keepalive_timeout ${o.keepalive ?? 65};
  server {
    listen ${at.host}:${at.port} ssl${o.splitWorkers ? " reuseport" : ""};
    server_name ${o.serverName ?? "localhost"};
    ssl_certificate ${o.certificate};
    ssl_certificate_key ${o.privateKey};
    ssl_protocols ${(o.tls ?? ["TLSv1.2", "TLSv1.3"]).join(" ")};
    ssl_session_cache ${o.sessionCache ? "shared:lab:1m" : "off"};
    ssl_session_tickets ${tickets === "off" ? "off" : "on"};
${typeof tickets === "object" ? `    ssl_session_ticket_key ${tickets.keyFile};\n` : ""}${clientLines(o)}    location / {
      default_type text/plain;
${header === false ? "" : `      add_header ${header} $ssl_client_serial always;\n`}      return 200 "${body}";
    }
  }
}
`;
}

function clientLines(o: NginxOptions): string {
  if (o.clientCa === undefined) return "";
  const crl = o.crl === undefined ? "" : `    ssl_crl ${o.crl};\n`;
  return `    ssl_client_certificate ${o.clientCa};\n    ssl_verify_client ${o.verify ?? "on"};\n    ssl_verify_depth 4;\n${crl}`;
}

/** Starts one nginx in `<workspace>/<name>` and waits until it accepts connections. */
export async function startNginx(workspace: Workspace, options: NginxOptions): Promise<Nginx> {
  let current = options;
  let logging = options.accessLog ?? true;
  const prefix = workspace.folder(options.name);
  const host = options.host ?? "127.0.0.1";
  const port = options.port ?? (await freePort(host));
  const at: Places = {
    ...{ prefix, host, port, pidFile: join(prefix, "nginx.pid") },
    ...{ errorLog: join(prefix, "error.log"), accessLog: join(prefix, "access.log") },
  };
  const configFile = join(prefix, "nginx.conf");
  const deafPid = join(prefix, "deaf.pid");
  const { nginx, libfaketime } = peers();
  const base = [nginx, "-p", prefix, "-e", at.errorLog, "-c", configFile];
  const write = () => writeFileSync(configFile, configuration(current, at, logging));

  let master: Supervised | undefined;
  let deaf: Supervised | undefined;
  let decoy: Supervised | undefined;

  const launch = async (name: string, command: readonly string[], pidFile: string) => {
    // A pid file left by a killed master must not pass for a started one.
    rmSync(pidFile, { force: true });
    return workspace.start({
      name,
      command,
      stopSignal: "SIGTERM",
      env:
        current.clockOffset === undefined
          ? {}
          : {
              LD_PRELOAD: libfaketime,
              FAKETIME: `${current.clockOffset >= 0 ? "+" : ""}${current.clockOffset}s`,
              FAKETIME_DONT_FAKE_MONOTONIC: "1",
            },
      ready: async () => (await connects(host, port)) && pidIn(pidFile) !== undefined,
    });
  };
  const start = async () => {
    write();
    master = await launch(options.name, base, at.pidFile);
    if (current.splitWorkers) {
      const deafConfig = join(prefix, "deaf.conf");
      writeFileSync(deafConfig, configuration(current, { ...at, pidFile: deafPid }, logging));
      deaf = await launch(`${options.name}-deaf`, [...base.slice(0, -1), deafConfig], deafPid);
    }
  };
  const running = () => {
    if (master === undefined) throw new Error(`${options.name} was not started`);
    return master;
  };
  const repair = async () => {
    if (decoy !== undefined && running().running) writeFileSync(at.pidFile, `${running().pid}\n`);
    await decoy?.stop();
    decoy = undefined;
    if (running().running) running().signal("SIGCONT");
  };
  /** Puts a shell in the master's place in the pid file: it hears the reload and does `onReload` instead. */
  const impersonate = async (onReload: string) => {
    await repair();
    const script = `trap '${onReload}' HUP; echo waiting; while :; do sleep 3600 & wait $!; done`;
    decoy = await workspace.start({
      name: `${options.name}-decoy`,
      command: ["/bin/sh", "-c", script],
      ready: (one) => one.output().endsWith("waiting\n"),
    });
    writeFileSync(at.pidFile, `${decoy.pid}\n`);
  };
  await start();

  const one: Nginx = {
    ...{ name: options.name, host, port, address: `${host}:${port}`, prefix, configFile },
    ...{ pidFile: at.pidFile, accessLog: at.accessLog, errorLog: at.errorLog },
    reloadCommand: [...base, "-s", "reload"],
    validateCommand: [...base, "-t"],
    get process() {
      return running();
    },
    async reload() {
      await runCommand(one.reloadCommand);
    },
    async stop() {
      await repair();
      await deaf?.stop();
      await running().stop();
    },
    start,
    async break(how) {
      if (how === "freezeMaster") running().signal("SIGSTOP");
      else if (how === "ignoreReload") await impersonate(":");
      else {
        const { pid } = running();
        // Half a second of the new certificate, then the whole group goes: a crash, not a shutdown.
        await impersonate(`kill -HUP ${pid}; sleep 0.5; kill -KILL -${pid}`);
      }
    },
    repair,
    async logGap(on, gap = {}) {
      if (gap.remove) rmSync(at.accessLog, { force: true });
      logging = !on;
      write();
      await one.reloadFully();
    },
    async reloadFully() {
      const before = one.workers();
      await one.reload();
      await waitFor(`${options.name} to replace its workers`, () => {
        const now = one.workers();
        return now.length > 0 && now.every((pid) => !before.includes(pid));
      });
    },
    configure(change) {
      current = { ...current, ...change };
      write();
    },
    workers: () => childrenOf(running().pid),
  };
  return one;
}

function pidIn(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, "utf8"));
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
        const [state, ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        return Number(ppid) === parent && state !== "Z";
      } catch {
        return false;
      }
    })
    .map(Number);
}
