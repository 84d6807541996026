/**
 * Plain TLS servers, each a process of its own with another TLS stack: node:tls and `openssl s_server` (OpenSSL), Go's
 * crypto/tls, and Java's JSSE, which reads its key store once. All refuse by TLS alert.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { connects, freePort, type Supervised, type Workspace } from "../estate.ts";
import { peers } from "../install.ts";
import { type Peer, runCommand } from "./peer.ts";

const servers = join(dirname(fileURLToPath(import.meta.url)), "..", "servers");

export interface TlsServerOptions {
  readonly name: string;
  /** Paths of the PEM chain (leaf first) and key it serves. */
  readonly certificate: string;
  readonly privateKey: string;
  /** CA bundle for client certificates; without it none is asked for. */
  readonly clientCa?: string;
  readonly crl?: string;
  readonly host?: string;
  readonly port?: number;
}

interface Spec {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly home: string;
  command(): readonly string[];
  /** Default: SIGHUP to the process in the pid file. */
  readonly reloadCommand?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

async function serverPeer(workspace: Workspace, spec: Spec): Promise<Peer> {
  const address = `${spec.host}:${spec.port}`;
  const pidFile = join(spec.home, "server.pid");
  let current: Supervised | undefined;
  const running = () => {
    if (current === undefined) throw new Error(`${spec.name} was not started`);
    return current;
  };
  const start = async () => {
    current = await workspace.start({
      name: spec.name,
      command: spec.command(),
      ...(spec.env === undefined ? {} : { env: spec.env }),
      // The last thing each says before it serves.
      ready: async (one) => /^listening on|^ACCEPT/m.test(one.output()) && (await connects(spec.host, spec.port)),
    });
    if (!existsSync(pidFile) || Number(readFileSync(pidFile, "utf8")) !== current.pid) {
      writeFileSync(pidFile, `${current.pid}\n`);
    }
  };
  await start();
  // $1 is the file: the shell reads it at the moment of the reload, as an operator's script does.
  const byPidFile = ["/bin/sh", "-c", 'kill -HUP "$(cat "$1")"', "reload", pidFile];
  const reloadCommand = spec.reloadCommand ?? byPidFile;
  return {
    ...{ name: spec.name, host: spec.host, port: spec.port, address, reloadCommand, pidFile },
    accessLog: join(spec.home, "access.log"),
    get process() {
      return running();
    },
    async reload() {
      await runCommand(reloadCommand);
    },
    async stop() {
      await running().stop();
    },
    start,
  };
}

async function place(workspace: Workspace, options: { name: string; host?: string; port?: number }) {
  const host = options.host ?? "127.0.0.1";
  return {
    name: options.name,
    host,
    port: options.port ?? (await freePort(host)),
    home: workspace.folder(options.name),
  };
}

const flag = (name: string, value: string | undefined) => (value === undefined ? [] : [name, value]);

/** Node 22.18 or later runs the sources as they are; the tests run under such a one. */
export interface NodeTlsOptions extends TlsServerOptions {
  /** It goes on with what it read at start, and says nothing. */
  readonly ignoreReload?: boolean;
  readonly refuse?: "alert" | "http" | "close";
  /** 48 bytes: session tickets outlive a reload, and a resumed session skips the CRL. */
  readonly ticketKeys?: string;
}
export interface NodeTls extends Peer {
  /** Takes effect with the next start. */
  ignoreReload(on: boolean): void;
}
export async function startNodeTls(workspace: Workspace, options: NodeTlsOptions): Promise<NodeTls> {
  const at = await place(workspace, options);
  let ignore = options.ignoreReload ?? false;
  const peer = await serverPeer(workspace, {
    ...at,
    command: () => [
      ...[process.execPath, join(servers, "node-tls.ts"), "--listen", `${at.host}:${at.port}`],
      ...["--cert", options.certificate, "--key", options.privateKey],
      ...[...flag("--ca", options.clientCa), ...flag("--crl", options.crl), ...flag("--refuse", options.refuse)],
      ...flag("--ticket-keys", options.ticketKeys),
      ...["--pid-file", join(at.home, "server.pid"), "--access-log", join(at.home, "access.log")],
      ...(ignore ? ["--ignore-reload"] : []),
    ],
  });
  return Object.defineProperties(
    {
      ignoreReload(on: boolean) {
        ignore = on;
      },
    },
    Object.getOwnPropertyDescriptors(peer),
  ) as NodeTls;
}

export interface GoTlsOptions extends TlsServerOptions {
  /** Reads its files at start and never again. */
  readonly readOnce?: boolean;
  /** For so many milliseconds after a reload it still accepts whom the state before it accepted. */
  readonly honourOld?: number;
}
export async function startGoTls(workspace: Workspace, options: GoTlsOptions): Promise<Peer> {
  const at = await place(workspace, options);
  return serverPeer(workspace, {
    ...at,
    command: () => [
      ...[peers().goTls, "-listen", `${at.host}:${at.port}`, "-cert", options.certificate, "-key", options.privateKey],
      ...[...flag("-ca", options.clientCa), ...flag("-crl", options.crl)],
      ...["-pid-file", join(at.home, "server.pid"), "-access-log", join(at.home, "access.log")],
      ...(options.readOnce ? ["-read-once"] : []),
      ...flag("-honour-old", options.honourOld === undefined ? undefined : `${options.honourOld}ms`),
    ],
  });
}

/** `openssl s_server`: reads its files at start only, one connection at a time, and answers `GET` with a status page. */
export async function startOpensslServer(workspace: Workspace, options: TlsServerOptions): Promise<Peer> {
  const at = await place(workspace, options);
  const verify =
    options.clientCa === undefined
      ? []
      : ["-Verify", "4", "-verify_return_error", "-CAfile", options.clientCa, "-no-CAstore", "-no-CApath"];
  return serverPeer(workspace, {
    ...at,
    reloadCommand: ["/bin/true"],
    command: () => [
      ...[peers().openssl, "s_server", "-accept", `${at.host}:${at.port}`, "-www"],
      ...["-cert", options.certificate, "-cert_chain", options.certificate, "-key", options.privateKey, ...verify],
      ...(options.crl === undefined ? [] : ["-crl_check", "-CRL", options.crl]),
    ],
  });
}

export interface JavaServerOptions {
  readonly name: string;
  /** PKCS#12 with key and chain; read once at start. */
  readonly keystore: string;
  readonly password: string;
  readonly clientCa?: string;
  readonly crl?: string;
  readonly host?: string;
  readonly port?: number;
}
/** A Java service: reads its stores once, so that only a restart shows it a new certificate. The password comes by environment. */
export async function startJavaServer(workspace: Workspace, options: JavaServerOptions): Promise<Peer> {
  const at = await place(workspace, options);
  return serverPeer(workspace, {
    ...at,
    env: { KEYSTORE_PASSWORD: options.password },
    reloadCommand: ["/bin/true"],
    command: () => [
      ...[peers().java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", join(servers, "java", "Server.java")],
      ...[at.host, String(at.port), options.keystore, options.clientCa ?? "-", options.crl ?? "-"],
    ],
  });
}
