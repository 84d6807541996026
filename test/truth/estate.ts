/**
 * One estate of the truth table: a CA and a certificate from before Gyre's first rotation, real servers that use it, and
 * the manifest an operator would write for them. With mutual TLS the servers present the credential and check it when
 * another one shows it (a mesh): it can be seen refused. Without, it is a server certificate that is superseded.
 */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeWorkspace, type Workspace } from "../../lab/estate.ts";
import { type CaBefore, caBefore } from "../../lab/gyre.ts";
import type { Nginx } from "../../lab/peers/nginx.ts";
import { bundle, issue, makeAuthority, openssl } from "../../lab/pki.ts";
import { lookOutside } from "./reality.ts";
import { type Ground, nginx, type Replica, serverName } from "./replicas.ts";
import type { World } from "./scene.ts";

export const credential = "mesh-tls";

export type Kind = "mesh" | "server" | "client" | "pinned";

export interface EstateOptions {
  /**
   * `mesh` (default): servers present the credential, and check it against a CRL when another one shows it. `server`:
   * they present it only. `client`: they check it only, and serve a certificate that nobody rotates. `pinned`: so too, and
   * the client signs for itself and every server lists whom it accepts.
   */
  readonly kind?: Kind;
  /** How each replica is started, in order: replica-1, replica-2 … Default: three nginx. */
  readonly replicas?: readonly ((ground: Ground, name: string) => Promise<Replica>)[];
  /** Settings of the local CA. */
  readonly ca?: Readonly<Record<string, unknown>>;
  /** How long ago the CA was made and issued, milliseconds. */
  readonly caAge?: number;
  /** Lifetime of the certificate from before Gyre, milliseconds; default 24 h. */
  readonly lifetimeBefore?: number;
  readonly manifest?: Partial<ManifestSettings>;
}

/** What scenes change in the manifest. */
export interface ManifestSettings {
  /** Addresses under `tls`; default those of all replicas. */
  readonly presenters: readonly string[];
  /** `replicas:` under `tls`. */
  readonly count: number | undefined;
  readonly dnsNames: readonly string[];
  readonly lifetime: string;
  readonly quiet: string;
  readonly patience: string;
  readonly skew: string;
  /** Replicas by name whose delivery goes elsewhere: the `deliver` entry to write instead; empty for none. */
  readonly deliver: Readonly<Record<string, string>>;
  /** Replicas by name whose CRL somebody else takes care of. */
  readonly noCrl: readonly string[];
  /** The issuer's `localCA` line; default as the CA was made. */
  readonly localCa: string | undefined;
  /** Replicas that are in the manifest; default all. */
  readonly members: readonly string[];
}

export interface Estate extends World {
  readonly workspace: Workspace;
  readonly kind: Kind;
  readonly mutual: boolean;
  readonly replicas: readonly Replica[];
  readonly ca: CaBefore;
  readonly ground: Ground;
  /** The pair from before, kept aside for the witness and for clients that never heard of a rotation. */
  readonly old: { readonly certificate: string; readonly privateKey: string };
  /** What the servers' own certificates lead to. */
  readonly roots: string;
  replica(number: number): Replica;
  nginx(number: number): Replica<Nginx>;
  /** Changes the manifest, as an operator would. */
  write(change?: Partial<ManifestSettings>): void;
  /** Starts one more replica; it is in nobody's manifest until `write`. */
  add(make: (ground: Ground, name: string) => Promise<Replica>): Promise<Replica>;
  /** Puts another reload script in place of the usual one; without one, the usual. */
  hook(replica: Replica, script?: string): void;
}

export async function buildEstate(name: string, options: EstateOptions = {}): Promise<Estate> {
  const workspace = makeWorkspace(`truth-${name}`);
  const { dir: home } = workspace;
  const kind = options.kind ?? "mesh";
  const mutual = kind !== "server";
  const ca = await caBefore(home, "CN=Truth CA", options.ca, options.caAge);
  const roots = workspace.path("roots.pem");
  ca.writeRoots(roots);
  const signs = kind === "pinned" ? async () => selfSigned(workspace) : ca.issue;
  const before = await signs({
    ...{ subject: "CN=mesh", names: [`DNS:${serverName}`] },
    usages: usagesOf[kind],
    ...(options.lifetimeBefore === undefined ? {} : { lifetime: options.lifetimeBefore }),
  });
  const old = { certificate: workspace.path("kept-g1.pem"), privateKey: workspace.path("kept-g1.key") };
  before.writePem(old.certificate, old.privateKey);
  const client = kind === "client" || kind === "pinned" ? clientOf(workspace, before) : undefined;
  const ground: Ground = {
    ...{ workspace, ca, before, mutual, pinned: kind === "pinned" },
    ...(client === undefined ? {} : { client }),
  };
  const replicas: Replica[] = [];
  const estate: Estate = {
    ...{ workspace, home, credential, kind, mutual, replicas, members: replicas, ca, ground, old },
    grade: mutual ? "REFUSED" : "SUPERSEDED",
    roots: client?.roots ?? roots,
    replica: (number) => replicas[number - 1]!,
    nginx: (number) => replicas[number - 1] as Replica<Nginx>,
    write(change = {}) {
      settings = { ...settings, ...change };
      writeFileSync(workspace.path("gyre.yaml"), manifestOf(estate, settings));
    },
    async add(make) {
      const replica = await make(ground, `replica-${replicas.length + 1}`);
      replicas.push(replica);
      return replica;
    },
    hook(replica, script) {
      if (replica.hook === undefined) throw new Error(`${replica.name} has no reload script`);
      writeFileSync(replica.hook.path, script ?? replica.hook.usual);
    },
    look: (extra) => lookOutside(estate, extra),
    // The new certificate where it is delivered first, the CRL beside it.
    lies() {
      const { stored, dir } = estate.replica(1);
      if ("keystore" in stored) throw new Error("a liar needs a PEM file");
      return { certificate: stored.certificate, crl: join(dir, "tls", "ca.crl") };
    },
    plainly(text) {
      let plain = text;
      for (const { address, name: called } of replicas) plain = plain.replaceAll(address, called);
      return plain.replaceAll(`${home}/`, "");
    },
    end: (failed) => workspace.end({ failed }),
  };
  let settings: ManifestSettings = {
    ...{ presenters: [], count: undefined, dnsNames: [serverName], lifetime: "24h", quiet: "2s", patience: "3s" },
    ...{ skew: "5m", deliver: {}, noCrl: [], localCa: undefined, members: [] },
    ...options.manifest,
  };
  try {
    for (const make of options.replicas ?? [nginx(), nginx(), nginx()]) await estate.add(make);
    estate.write();
  } catch (problem) {
    await workspace.end({ failed: true });
    throw problem;
  }
  return estate;
}

const usagesOf = { mesh: ["server", "client"], server: ["server"], client: ["client"], pinned: ["client"] } as const;

/** A certificate that signs itself, made by openssl. */
function selfSigned(workspace: Workspace): Ground["before"] {
  const [certificate, privateKey] = [workspace.path("self.pem"), workspace.path("self.key")];
  openssl([
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"],
    ...["-subj", "/CN=mesh", "-addext", "extendedKeyUsage=clientAuth", "-addext", "basicConstraints=critical,CA:FALSE"],
    ...["-addext", `subjectAltName=DNS:${serverName}`, "-keyout", privateKey, "-out", certificate],
  ]);
  return {
    writePem(to, key) {
      copyFileSync(certificate, to);
      copyFileSync(privateKey, key);
    },
    writeCombined: (to) => void bundle(to, certificate, privateKey),
  };
}

/** The client's files, and for the servers a certificate of another CA. */
function clientOf(workspace: Workspace, before: Ground["before"]) {
  const serverCa = makeAuthority(workspace.dir, { name: "server-ca" });
  const served = issue(serverCa, { name: "server", names: [`DNS:${serverName}`] });
  workspace.folder("client");
  const files = { certificate: workspace.path("client", "tls.pem"), privateKey: workspace.path("client", "tls.key") };
  before.writePem(files.certificate, files.privateKey);
  return { served: { certificate: served.chain, privateKey: served.privateKey }, files, roots: serverCa.certificate };
}

const indent = (text: string, by: number): string => text.replace(/^/gm, " ".repeat(by));

function manifestOf(estate: Estate, settings: ManifestSettings): string {
  const all = estate.replicas.filter(({ name }) => settings.members.length === 0 || settings.members.includes(name));
  const addresses = settings.presenters.length === 0 ? all.map((one) => one.address) : settings.presenters;
  const crls = all.flatMap((one) =>
    one.deliverCrl === undefined || settings.noCrl.includes(one.name) ? [] : [one.deliverCrl],
  );
  const own = estate.ground.client?.files;
  const targets = (own === undefined ? [] : [`- files: ${JSON.stringify(own)}\n  reload: { watch: true }`]).concat(
    all.map((one) => settings.deliver[one.name] ?? one.deliver).filter((entry) => entry !== ""),
  );
  const crl = crls.length === 0 ? "" : `\n  crl:\n    lifetime: 24h\n    deliver:\n${indent(crls.join("\n"), 6)}`;
  const count = settings.count === undefined ? "" : `, replicas: ${settings.count}`;
  const trust = all.flatMap((one) => (one.trust === undefined ? [] : [one.trust]));
  const presented = [`tls: { serverName: ${serverName}, addresses: ${JSON.stringify(addresses)}${count} }`];
  const proofs = estate.ground.client === undefined ? presented : [];
  const refuses = estate.kind === "pinned" ? "pins" : "crl";
  for (const kind of ["nginx", "haproxy", "envoy", "tls"]) {
    const some = all.filter((one) => one.verifies && one.kind === kind).map((one) => one.address);
    if (some.length > 0)
      proofs.push(
        `mutualTls: { server: ${kind}, serverName: ${serverName}, roots: ${estate.roots}, refuses: ${refuses}, request: { identityHeader: X-Client-Serial }, addresses: ${JSON.stringify(some)} }`,
      );
  }
  for (const one of all.filter((replica) => replica.logs)) {
    proofs.push(`accessLog: { server: ${one.kind}, path: ${one.peer.accessLog}, member: "${one.address}" }`);
  }
  return `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: truth-ca }
spec:
  ${estate.kind === "pinned" ? "selfSigned: { directory: self-signed }" : (settings.localCa ?? estate.ca.manifest)}${crl}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: ${credential} }
spec:
  issue: { issuer: truth-ca, subject: CN=mesh, dnsNames: ${JSON.stringify(settings.dnsNames)}, usages: [${usagesOf[estate.kind].join(", ")}], lifetime: ${settings.lifetime} }
  renew: { after: 66% }
  deliver:
${indent(targets.join("\n"), 4)}
${trust.length === 0 ? "" : `  trust:\n${indent(trust.join("\n"), 4)}\n`}  prove:
${indent(proofs.map((proof) => `- ${proof}`).join("\n"), 4)}
  quiet: { window: ${settings.quiet} }
  timing: { patience: ${settings.patience}, poll: 300ms, skew: ${settings.skew} }
`;
}

/** Puts a pair in the place of another, as a person or another controller would: plain writes, no ceremony. */
export function overwrite(from: Replica["stored"], to: Replica["stored"]): void {
  if ("keystore" in from || "keystore" in to) throw new Error("not a pair of PEM files");
  // Through links that a delivery may have made of the files, as an editor would.
  writeFileSync(to.certificate, readFileSync(from.certificate));
  writeFileSync(to.privateKey, readFileSync(from.privateKey));
}
