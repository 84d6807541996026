/**
 * A test PKI made by the openssl command line alone: an outside hand, so that what the project's own PKI code makes and
 * accepts is judged by somebody else. Synchronous: each call is one or two openssl runs of some 10 ms.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export type KeyAlgorithm = "P-256" | "P-384" | "Ed25519" | "RSA-2048";

/** Paths of one certificate and its key. */
export interface Pair {
  readonly name: string;
  /** PEM of the certificate alone. */
  readonly certificate: string;
  /** PEM, PKCS#8, mode 0600. */
  readonly privateKey: string;
  /** PEM: the certificate, then its intermediates (without the root). */
  readonly chain: string;
  /** Lower-case hex without leading zeros. */
  readonly serial: string;
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint: string;
}

export interface Authority extends Pair {
  readonly dir: string;
  /** The CA that signed this one; undefined for a root. */
  readonly parent: Authority | undefined;
}

export interface AuthorityOptions {
  readonly name: string;
  /** As openssl takes it: `/CN=Lab root`. Default: `/O=Lab/CN=<name>`. */
  readonly subject?: string;
  readonly key?: KeyAlgorithm;
  readonly parent?: Authority;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

export interface LeafOptions {
  readonly name: string;
  readonly subject?: string;
  readonly key?: KeyAlgorithm;
  /** As openssl takes them: `DNS:a.example`, `IP:127.0.0.1`, `URI:spiffe://lab/a`. */
  readonly names?: readonly string[];
  readonly usages?: readonly ("server" | "client")[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

/** Runs openssl and returns its standard output; throws with its own words when it fails. */
export function openssl(args: readonly string[], input?: string): string {
  const run = spawnSync("openssl", args, {
    encoding: "utf8",
    ...(input === undefined ? {} : { input }),
    maxBuffer: 1 << 26,
  });
  if (run.error !== undefined) throw run.error;
  if (run.status !== 0) throw new Error(`openssl ${args.join(" ")}: ${run.stderr.trim()}`);
  return run.stdout;
}

const day = 86_400_000;
/** ASN.1 GeneralizedTime in UTC, whole seconds. */
const asn1Time = (at: Date) => `${at.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
const ago = (ms: number) => new Date(Date.now() - ms);

function makeKey(path: string, algorithm: KeyAlgorithm): void {
  const how: Record<KeyAlgorithm, string[]> = {
    "P-256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "P-384": ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    Ed25519: ["ED25519"],
    "RSA-2048": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
  };
  writeFileSync(path, "", { mode: 0o600 });
  openssl(["genpkey", "-algorithm", ...how[algorithm], "-out", path]);
}

/** The database that `openssl ca` needs to sign, revoke and make CRLs. */
function makeDatabase(dir: string): void {
  mkdirSync(join(dir, "issued"), { recursive: true });
  writeFileSync(join(dir, "index.txt"), "");
  writeFileSync(join(dir, "index.txt.attr"), "unique_subject = no\n");
  writeFileSync(join(dir, "crlnumber"), "01\n");
  writeFileSync(
    join(dir, "ca.cnf"),
    `[ca]
default_ca = lab
[lab]
dir = ${dir}
database = $dir/index.txt
new_certs_dir = $dir/issued
certificate = $dir/ca.pem
private_key = $dir/ca.key
crlnumber = $dir/crlnumber
rand_serial = yes
default_md = default
policy = anything
unique_subject = no
copy_extensions = none
[anything]
countryName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
[crl]
authorityKeyIdentifier = keyid
`,
  );
}

/** Makes a CA in `<dir>/<name>`: a root, or with `parent` an intermediate. */
export function makeAuthority(dir: string, options: AuthorityOptions): Authority {
  const home = join(dir, options.name);
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const certificate = join(home, "ca.pem");
  const privateKey = join(home, "ca.key");
  makeKey(privateKey, options.key ?? "P-256");
  makeDatabase(home);
  const subject = options.subject ?? `/O=Lab/CN=${options.name}`;
  const extensions = [
    "basicConstraints = critical, CA:true",
    "keyUsage = critical, digitalSignature, keyCertSign, cRLSign",
    "subjectKeyIdentifier = hash",
    ...(options.parent === undefined ? [] : ["authorityKeyIdentifier = keyid"]),
  ];
  const signer = options.parent?.dir ?? home;
  sign(signer, home, {
    request: makeRequest(home, "ca", privateKey, subject),
    out: certificate,
    extensions,
    notBefore: options.notBefore ?? ago(15 * 60_000),
    notAfter: options.notAfter ?? new Date(Date.now() + 3650 * day),
    selfSigned: options.parent === undefined,
  });
  const chain = join(home, "chain.pem");
  writeFileSync(chain, chainText(certificate, options.parent));
  return { ...describe(options.name, certificate, privateKey, chain), dir: home, parent: options.parent };
}

/** Makes a leaf in `<ca dir>/<name>.pem` and `.key`; a server certificate for localhost and 127.0.0.1 unless told. */
export function issue(ca: Authority, options: LeafOptions): Pair {
  const base = join(ca.dir, options.name);
  const certificate = `${base}.pem`;
  const privateKey = `${base}.key`;
  makeKey(privateKey, options.key ?? "P-256");
  const usages = options.usages ?? ["server"];
  const names = options.names ?? (usages.includes("server") ? ["DNS:localhost", "IP:127.0.0.1"] : []);
  const purposes = usages.map((usage) => (usage === "server" ? "serverAuth" : "clientAuth")).join(", ");
  const extensions = [
    "basicConstraints = critical, CA:false",
    "keyUsage = critical, digitalSignature",
    `extendedKeyUsage = ${purposes}`,
    "subjectKeyIdentifier = hash",
    "authorityKeyIdentifier = keyid",
    ...(names.length === 0 ? [] : [`subjectAltName = ${names.join(", ")}`]),
  ];
  const subject = options.subject ?? `/O=Lab/CN=${options.name}`;
  sign(ca.dir, ca.dir, {
    request: makeRequest(ca.dir, options.name, privateKey, subject),
    out: certificate,
    extensions,
    notBefore: options.notBefore ?? ago(15 * 60_000),
    notAfter: options.notAfter ?? new Date(Date.now() + day),
    selfSigned: false,
  });
  const chain = `${base}.chain.pem`;
  writeFileSync(chain, chainText(certificate, ca));
  return describe(options.name, certificate, privateKey, chain);
}

function makeRequest(dir: string, name: string, privateKey: string, subject: string): string {
  const request = join(dir, `${name}.csr`);
  openssl(["req", "-new", "-key", privateKey, "-subj", subject, "-out", request]);
  return request;
}

interface Signing {
  readonly request: string;
  readonly out: string;
  readonly extensions: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly selfSigned: boolean;
}
function sign(signer: string, dir: string, what: Signing): void {
  const extensions = `${what.request}.ext`;
  writeFileSync(extensions, `[ext]\n${what.extensions.join("\n")}\n`);
  openssl([
    ...["ca", "-batch", "-notext", "-config", join(signer, "ca.cnf"), "-in", what.request, "-out", what.out],
    ...["-extfile", extensions, "-extensions", "ext"],
    ...["-startdate", asn1Time(what.notBefore), "-enddate", asn1Time(what.notAfter)],
    ...(what.selfSigned ? ["-selfsign", "-keyfile", join(dir, "ca.key")] : []),
  ]);
}

/** The certificate and the intermediates above it: what a server should send. The root is left out. */
function chainText(certificate: string, issuer: Authority | undefined): string {
  let text = readFileSync(certificate, "utf8");
  for (let ca = issuer; ca?.parent !== undefined; ca = ca.parent) text += readFileSync(ca.certificate, "utf8");
  return text;
}

function describe(name: string, certificate: string, privateKey: string, chain: string): Pair {
  return {
    name,
    certificate,
    privateKey,
    chain,
    serial: serialOf(certificate),
    fingerprint: fingerprintOf(certificate),
  };
}

/** Serial of the first certificate in a PEM file, by openssl: lower-case hex without leading zeros. */
export function serialOf(path: string): string {
  const line = openssl(["x509", "-noout", "-serial", "-in", path]);
  return normalSerial(line.trim().replace(/^serial=/, ""));
}
/** As every program prints a serial its own way: `0A:1B`, `0a1b`, `A1B`. */
export function normalSerial(text: string): string {
  return text
    .replace(/[:\s]/g, "")
    .toLowerCase()
    .replace(/^0+(?=.)/, "");
}
/** SHA-256 fingerprint of the first certificate in a PEM file, by openssl: lower-case hex. */
export function fingerprintOf(path: string): string {
  const line = openssl(["x509", "-noout", "-fingerprint", "-sha256", "-in", path]);
  return line.trim().replace(/^.*=/, "").replaceAll(":", "").toLowerCase();
}

/** Marks a certificate as revoked in the CA's database. Verifiers learn of it from the next CRL. */
export function revoke(ca: Authority, leaf: Pair): void {
  openssl(["ca", "-batch", "-config", join(ca.dir, "ca.cnf"), "-revoke", leaf.certificate]);
}

/** Writes a CRL (PEM) of everything revoked so far; each has a higher CRL number. Valid from 15 min ago for a day unless told. */
export function makeCrl(
  ca: Authority,
  out: string,
  options: { thisUpdate?: Date; nextUpdate?: Date; also?: readonly string[] } = {},
): string {
  const fresh = join(ca.dir, "crl.pem");
  openssl([
    ...["ca", "-batch", "-gencrl", "-config", join(ca.dir, "ca.cnf"), "-crlexts", "crl", "-out", fresh],
    ...["-crl_lastupdate", asn1Time(options.thisUpdate ?? ago(15 * 60_000))],
    ...["-crl_nextupdate", asn1Time(options.nextUpdate ?? new Date(Date.now() + day))],
  ]);
  copyFileSync(fresh, out);
  for (const other of options.also ?? []) writeFileSync(out, readFileSync(other, "utf8"), { flag: "a" });
  return out;
}

/** Writes several PEM files into one: a CA bundle, or HAProxy's combined certificate, chain and key. */
export function bundle(out: string, ...parts: readonly string[]): string {
  writeFileSync(out, parts.map((part) => readFileSync(part, "utf8")).join(""), { mode: 0o600 });
  return out;
}

/** A PKCS#12 key store with the whole chain, as Java reads it. */
export function makeKeystore(pair: Pair, out: string, password: string): string {
  openssl([
    ...["pkcs12", "-export", "-inkey", pair.privateKey, "-in", pair.chain, "-name", pair.name, "-out", out],
    ...["-passout", `pass:${password}`],
  ]);
  return out;
}
