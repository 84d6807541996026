/**
 * Envoy with its certificate and its validation context (CA bundle and CRL) from files through SDS. It watches the
 * directory, not the file: only a rename into it is seen, and a broken pair leaves the old one in force without a word
 * on the wire.
 */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { connects, freePort, type Supervised, type Workspace } from "../estate.ts";
import { peers } from "../install.ts";
import type { Peer } from "./peer.ts";

export interface EnvoyOptions {
  readonly name: string;
  /** Both in one directory of their own, which is watched. */
  readonly certificate: string;
  readonly privateKey: string;
  readonly clientCa?: string;
  /** In the same directory as `clientCa`. */
  readonly crl?: string;
  /** False: a connection without a client certificate is served. */
  readonly requireClientCertificate?: boolean;
  readonly host?: string;
  readonly port?: number;
  readonly identityHeader?: string | false;
  /** What is watched for both, when it is not the directory of the certificate: where a link to that directory is switched. */
  readonly watchDirectory?: string;
  /** False: it does not watch anything and keeps what it read at start (a read-once consumer). */
  readonly watch?: boolean;
}

export interface Envoy extends Peer {
  /** The admin interface, host:port on loopback. */
  readonly admin: string;
}

const clientField = { serial: "%DOWNSTREAM_PEER_SERIAL%", issuer: "%DOWNSTREAM_PEER_ISSUER%" };

/** Certificate and validation context in the configuration itself: read once at start. */
function fixedContext(o: EnvoyOptions): object {
  return {
    tls_certificates: [{ certificate_chain: { filename: o.certificate }, private_key: { filename: o.privateKey } }],
    ...(o.clientCa === undefined ? {} : { validation_context: trust(o, o.clientCa) }),
  };
}
const trust = (o: EnvoyOptions, clientCa: string) => ({
  trusted_ca: { filename: clientCa },
  ...(o.crl === undefined ? {} : { crl: { filename: o.crl } }),
});

/** The same through SDS. Envoy wants each secret in a file of its own, which names the material and what to watch. */
function watchedContext(o: EnvoyOptions, home: string): object {
  const type = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
  const secret = (name: string, body: object) => {
    const path = join(home, `${name}.json`);
    writeFileSync(path, JSON.stringify({ resources: [{ "@type": type, name, ...body }] }));
    return { name, sds_config: { path_config_source: { path }, resource_api_version: "V3" } };
  };
  const watched = (path: string) => ({ watched_directory: { path: o.watchDirectory ?? dirname(path) } });
  const pair = {
    ...{ certificate_chain: { filename: o.certificate }, private_key: { filename: o.privateKey } },
    ...watched(o.certificate),
  };
  const server = { tls_certificate_sds_secret_configs: [secret("server", { tls_certificate: pair })] };
  if (o.clientCa === undefined) return server;
  const context = { ...trust(o, o.clientCa), ...watched(o.clientCa) };
  return { ...server, validation_context_sds_secret_config: secret("clients", { validation_context: context }) };
}

function bootstrap(o: EnvoyOptions, at: { host: string; port: number; adminPort: number; home: string }): object {
  const header = o.identityHeader ?? "X-Client-Serial";
  const tls = {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    require_client_certificate: o.clientCa !== undefined && (o.requireClientCertificate ?? true),
    common_tls_context: o.watch === false ? fixedContext(o) : watchedContext(o, at.home),
  };
  const accessLog = {
    name: "file",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
      path: join(at.home, "access.log"),
      log_format: {
        json_format: {
          time: "%START_TIME(%s.%3f)%",
          ssl_client_serial: clientField.serial,
          ssl_client_i_dn: clientField.issuer,
          ssl_client_fingerprint: "%DOWNSTREAM_PEER_FINGERPRINT_256%",
          remote_addr: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
          status: "%RESPONSE_CODE%",
          http_user_agent: "%REQ(USER-AGENT)%",
        },
      },
    },
  };
  const answer = {
    match: { prefix: "/" },
    direct_response: { status: 200, body: { inline_string: "ok\n" } },
    ...(header === false ? {} : { response_headers_to_add: [{ header: { key: header, value: clientField.serial } }] }),
  };
  const http = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "lab",
    access_log: [accessLog],
    http_filters: [
      {
        name: "router",
        typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
      },
    ],
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [answer] }] },
  };
  const socket = (port: number) => ({ socket_address: { address: at.host, port_value: port } });
  return {
    node: { id: o.name, cluster: "lab" },
    admin: { address: socket(at.adminPort) },
    static_resources: {
      listeners: [
        {
          name: "tls",
          address: socket(at.port),
          filter_chains: [
            { transport_socket: { name: "tls", typed_config: tls }, filters: [{ name: "http", typed_config: http }] },
          ],
        },
      ],
    },
  };
}

/** Starts one Envoy and waits until it is live and listens. There is no reload command: it watches. */
export async function startEnvoy(workspace: Workspace, options: EnvoyOptions): Promise<Envoy> {
  const home = workspace.folder(options.name);
  const host = options.host ?? "127.0.0.1";
  const port = options.port ?? (await freePort(host));
  const adminPort = await freePort(host);
  const config = join(home, "envoy.json");
  const pidFile = join(home, "envoy.pid");
  let current: Supervised | undefined;
  const running = () => {
    if (current === undefined) throw new Error(`${options.name} was not started`);
    return current;
  };
  const start = async () => {
    writeFileSync(config, JSON.stringify(bootstrap(options, { host, port, adminPort, home }), null, 2));
    current = await workspace.start({
      name: options.name,
      // Hot restart keeps shared memory under a fixed name, which two Envoys on one machine would fight over.
      command: [peers().envoy, "-c", config, "--disable-hot-restart", "--concurrency", "1", "--log-level", "info"],
      ready: async () => (await connects(host, port)) && (await isLive(host, adminPort)),
    });
    writeFileSync(pidFile, `${current.pid}\n`);
  };
  await start();
  return {
    ...{ name: options.name, host, port, address: `${host}:${port}`, admin: `${host}:${adminPort}`, pidFile },
    accessLog: join(home, "access.log"),
    reloadCommand: ["/bin/true"],
    get process() {
      return running();
    },
    async reload() {},
    async stop() {
      await running().stop();
    },
    start,
  };
}

async function isLive(host: string, port: number): Promise<boolean> {
  try {
    return (await fetch(`http://${host}:${port}/ready`)).ok;
  } catch {
    return false;
  }
}
