/**
 * The servers of a truth-table estate, each as an operator would run it, with what a manifest has to say of it. By
 * default a server reads the very files that are delivered; with `hook` it reads copies of its own (`live.*`), which a
 * script of the operator's makes at each reload, and faults put another script in that place.
 */
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Workspace } from "../../lab/estate.ts";
import { type CaBefore, type PairBefore, yamlCommand } from "../../lab/gyre.ts";
import { type EnvoyOptions, startEnvoy } from "../../lab/peers/envoy.ts";
import { type Haproxy, type HaproxyOptions, startHaproxy } from "../../lab/peers/haproxy.ts";
import { type Nginx, type NginxOptions, startNginx } from "../../lab/peers/nginx.ts";
import type { Peer } from "../../lab/peers/peer.ts";
import {
  type GoTlsOptions,
  type NodeTlsOptions,
  startGoTls,
  startJavaServer,
  startNodeTls,
} from "../../lab/peers/tls-server.ts";
import { openssl } from "../../lab/pki.ts";

export const serverName = "mesh.example";
export const keystorePassword = "loopback-only";

/** What every replica is built from. */
export interface Ground {
  readonly workspace: Workspace;
  readonly ca: CaBefore;
  readonly before: Pick<PairBefore, "writePem" | "writeCombined">;
  /** Servers also ask for client certificates and check a CRL. */
  readonly mutual: boolean;
  /** Where the credential is a client's: what the servers serve instead, which nobody rotates, and the client's files. */
  readonly client?: { readonly served: PemPair; readonly files: PemPair };
  /** The client signs for itself, and servers list every certificate they accept. */
  readonly pinned?: boolean;
}
export interface PemPair {
  readonly certificate: string;
  readonly privateKey: string;
}

export interface Replica<P extends Peer = Peer> {
  readonly name: string;
  readonly kind: "nginx" | "haproxy" | "envoy" | "tls";
  readonly dir: string;
  readonly peer: P;
  readonly address: string;
  /** It checks client certificates. */
  readonly verifies: boolean;
  /** It presents the credential. */
  readonly presents: boolean;
  /** Entries of `spec.deliver` (empty for none) and of the issuer's `crl.deliver`. */
  readonly deliver: string;
  readonly deliverCrl?: string;
  /** Entry of `spec.trust`: where it lists whom it accepts. */
  readonly trust?: string;
  /** Its access log is a sensor. */
  readonly logs: boolean;
  /** What is delivered, as the witness reads it. */
  readonly stored: PemPair | { readonly keystore: string };
  /** The reload script of a replica with `hook`, and what it does when nothing is wrong. */
  readonly hook?: { readonly path: string; readonly usual: string };
}

export interface Hooked {
  /** It reads copies of its own, made by a reload script. */
  readonly hook?: boolean;
  /** The reload command is stopped after this, e.g. `1s`. */
  readonly reloadTimeout?: string;
}

type Make<P extends Peer> = (ground: Ground, name: string) => Promise<Replica<P>>;

const yamlFiles = (fields: Readonly<Record<string, string>>): string => `files: ${JSON.stringify(fields)}`;
const entry = (files: string, reload: string): string => `- ${files}\n  reload: ${reload}`;

/** The files of a PEM replica: what is delivered, what the server reads, and the manifest's lines for both. */
function pemFiles(
  ground: Ground,
  name: string,
  reload: readonly string[] | "watch",
  how: Hooked & { layout?: string },
) {
  const dir = ground.workspace.folder(name, "tls");
  const delivered = { certificate: join(dir, "tls.pem"), privateKey: join(dir, "tls.key"), crl: join(dir, "ca.crl") };
  const hookPath = join(ground.workspace.folder(name), "reload.sh");
  const live = { certificate: join(dir, "live.pem"), privateKey: join(dir, "live.key"), crl: join(dir, "live.crl") };
  const read = { ...(how.hook === true ? live : delivered), ...ground.client?.served };
  const command = how.hook === true ? ["/bin/sh", hookPath] : reload;
  const told =
    command === "watch"
      ? "{ watch: true }"
      : how.reloadTimeout === undefined
        ? yamlCommand(command)
        : `{ command: ${JSON.stringify(command)}, timeout: ${how.reloadTimeout} }`;
  const layout = how.layout === undefined ? {} : { layout: how.layout };
  return {
    dir,
    delivered,
    read,
    hookPath,
    stored: ground.client?.files ?? { certificate: delivered.certificate, privateKey: delivered.privateKey },
    deliver:
      ground.client === undefined
        ? entry(yamlFiles({ certificate: delivered.certificate, privateKey: delivered.privateKey, ...layout }), told)
        : "",
    deliverCrl: entry(yamlFiles({ crl: delivered.crl, mode: "0644" }), told),
    hookOf(server: readonly string[]): NonNullable<Replica["hook"]> {
      const copies = (["certificate", "privateKey", ...(ground.mutual ? (["crl"] as const) : [])] as const).map(
        (what) => `cp ${delivered[what]} ${live[what]}`,
      );
      return { path: hookPath, usual: `set -e\n${copies.join("\n")}\n${shellWords(server)}\n` };
    },
  };
}

const presents = (ground: Ground): boolean => ground.client === undefined;

/** A command as one line of a script. */
export const shellWords = (command: readonly string[]): string =>
  command.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");

async function fill(ground: Ground, files: { certificate: string; privateKey: string; crl: string }): Promise<void> {
  ground.before.writePem(files.certificate, files.privateKey);
  if (ground.mutual) await ground.ca.writeCrl(files.crl);
}
/** The same bytes, so that a script can tell by them whether something new was delivered. */
function copyLive(dir: string, crl: boolean): void {
  copyFileSync(join(dir, "tls.pem"), join(dir, "live.pem"));
  copyFileSync(join(dir, "tls.key"), join(dir, "live.key"));
  if (crl) copyFileSync(join(dir, "ca.crl"), join(dir, "live.crl"));
}
const roots = (ground: Ground): string => ground.workspace.path("roots.pem");

export function nginx(options: Partial<NginxOptions> & Hooked & { logs?: boolean } = {}): Make<Nginx> {
  return async (ground, name) => {
    const { hook, reloadTimeout, logs, ...own } = options;
    const prefix = ground.workspace.folder(name);
    // The command is known only once nginx is started, and the files must be there before.
    const pins = join(prefix, "tls", "pins.pem");
    const checks = (crl: string) =>
      ground.pinned === true
        ? { clientCa: pins, verify: "on" as const }
        : { clientCa: roots(ground), crl, verify: "on" as const };
    const peerOf = (files: { certificate: string; privateKey: string; crl: string }) =>
      startNginx(ground.workspace, {
        ...{ name, serverName, certificate: files.certificate, privateKey: files.privateKey },
        ...(ground.mutual ? checks(files.crl) : {}),
        ...own,
      });
    const planned = pemFiles(ground, name, [], { ...(hook === undefined ? {} : { hook }) });
    await fill(ground, planned.delivered);
    if (hook === true) copyLive(planned.dir, ground.mutual);
    if (ground.pinned === true) copyFileSync(planned.delivered.certificate, pins);
    const peer = await peerOf(planned.read);
    const how = {
      ...(hook === undefined ? {} : { hook }),
      ...(reloadTimeout === undefined ? {} : { reloadTimeout }),
    };
    const files = pemFiles(ground, name, peer.reloadCommand, how);
    const usual = files.hookOf(peer.reloadCommand);
    if (hook === true) writeFileSync(usual.path, usual.usual);
    return {
      ...{
        name,
        kind: "nginx",
        dir: prefix,
        peer,
        address: peer.address,
        verifies: ground.mutual,
        presents: presents(ground),
      },
      ...{ deliver: files.deliver, stored: files.stored, logs: ground.mutual && (logs ?? true) },
      ...(ground.pinned === true
        ? { trust: entry(yamlFiles({ bundle: pins }), yamlCommand(peer.reloadCommand)) }
        : ground.mutual
          ? { deliverCrl: files.deliverCrl }
          : {}),
      ...(hook === true ? { hook: usual } : {}),
    };
  };
}

export function haproxy(options: Partial<HaproxyOptions> = {}): Make<Haproxy> {
  return async (ground, name) => {
    const dir = ground.workspace.folder(name, "tls");
    const combined = join(dir, "tls.pem");
    const crl = join(dir, "ca.crl");
    ground.before.writeCombined(combined);
    if (ground.mutual) await ground.ca.writeCrl(crl);
    const peer = await startHaproxy(ground.workspace, {
      ...{ name, combined },
      ...(ground.mutual ? { clientCa: roots(ground), crl } : {}),
      ...options,
    });
    const reload = yamlCommand(peer.reloadCommand);
    return {
      ...{ name, kind: "haproxy", dir: ground.workspace.folder(name), peer, address: peer.address },
      ...{
        verifies: ground.mutual,
        presents: true,
        logs: ground.mutual,
        stored: { certificate: combined, privateKey: combined },
      },
      deliver: entry(yamlFiles({ combined }), reload),
      ...(ground.mutual ? { deliverCrl: entry(yamlFiles({ crl, mode: "0644" }), reload) } : {}),
    };
  };
}

/** Envoy watches the directories of its files. Its CA bundle and CRL lie together. */
export function envoy(options: Partial<EnvoyOptions> = {}): Make<Peer> {
  return async (ground, name) => {
    const files = pemFiles(ground, name, "watch", { layout: "rename" });
    await fill(ground, files.delivered);
    const clientCa = join(files.dir, "roots.pem");
    copyFileSync(roots(ground), clientCa);
    const peer = await startEnvoy(ground.workspace, {
      ...{ name, certificate: files.read.certificate, privateKey: files.read.privateKey },
      ...(ground.mutual ? { clientCa, crl: files.read.crl } : {}),
      ...options,
    });
    return {
      ...{ name, kind: "envoy", dir: ground.workspace.folder(name), peer, address: peer.address, logs: false },
      ...{ verifies: ground.mutual, presents: presents(ground), deliver: files.deliver, stored: files.stored },
      ...(ground.mutual ? { deliverCrl: files.deliverCrl } : {}),
    };
  };
}

/** A server on the standard library of Go or of Node, told by SIGHUP to load its files. */
function plain<O extends object>(
  start: (
    workspace: Workspace,
    options: O & { name: string; certificate: string; privateKey: string },
  ) => Promise<Peer>,
  options: Partial<O>,
): Make<Peer> {
  return async (ground, name) => {
    const planned = pemFiles(ground, name, [], {});
    await fill(ground, planned.delivered);
    const peer = await start(ground.workspace, {
      ...{ name, certificate: planned.read.certificate, privateKey: planned.read.privateKey },
      ...(ground.mutual ? { clientCa: roots(ground), crl: planned.read.crl } : {}),
      ...options,
    } as O & { name: string; certificate: string; privateKey: string });
    const files = pemFiles(ground, name, peer.reloadCommand, {});
    return {
      ...{ name, kind: "tls", dir: ground.workspace.folder(name), peer, address: peer.address, logs: false },
      ...{ verifies: ground.mutual, presents: presents(ground), deliver: files.deliver, stored: files.stored },
      ...(ground.mutual ? { deliverCrl: files.deliverCrl } : {}),
    };
  };
}
export const goTls = (options: Partial<GoTlsOptions> = {}): Make<Peer> => plain(startGoTls, options);
export const nodeTls = (options: Partial<NodeTlsOptions> = {}): Make<Peer> => plain(startNodeTls, options);

/** A Java service with a PKCS#12 key store, read once at start. It presents only. */
export function java(): Make<Peer> {
  return async (ground, name) => {
    const dir = ground.workspace.folder(name, "tls");
    const keystore = join(dir, "tls.p12");
    const pem = { certificate: ground.workspace.path(`${name}.pem`), privateKey: ground.workspace.path(`${name}.key`) };
    ground.before.writePem(pem.certificate, pem.privateKey);
    openssl([
      ...["pkcs12", "-export", "-inkey", pem.privateKey, "-in", pem.certificate, "-name", "mesh", "-out", keystore],
      ...["-passout", `pass:${keystorePassword}`],
    ]);
    const peer = await startJavaServer(ground.workspace, { name, keystore, password: keystorePassword });
    return {
      ...{
        name,
        kind: "tls",
        dir,
        peer,
        address: peer.address,
        verifies: false,
        presents: true,
        logs: false,
        stored: { keystore },
      },
      deliver: entry(
        `files: ${JSON.stringify({ keystore: { path: keystore, password: keystorePassword } })}`,
        yamlCommand(["/bin/true"]),
      ),
    };
  };
}
