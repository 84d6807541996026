import { GyreError } from "../../errors.ts";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import { readJks, writeJks } from "../../pki/jks.ts";
import { exportPrivateKey, type PrivateKey, readPrivateKey, requireMatch } from "../../pki/keys.ts";
import { toPem } from "../../pki/pem.ts";
import { readPkcs12, writePkcs12 } from "../../pki/pkcs12.ts";
import { Secret } from "../../pki/secret.ts";
import type { Material, Stored } from "../roles.ts";
import type { Attributes } from "./disk.ts";
import type { UnitFile } from "./file-unit.ts";
import { attributesFor, type Wanted } from "./owner.ts";
import { pathFrom } from "./reload.ts";
import type { TargetSettings } from "./settings.ts";
import { type Contents, type FileRole, ROLES, sha256 } from "./version-store.ts";

/** The files of the settings, in the order of ROLES. */
export function filesOf(settings: TargetSettings, baseDir: string): UnitFile[] {
  const paths: Partial<Record<FileRole, string | undefined>> = {
    certificate: settings.certificate,
    privateKey: settings.privateKey,
    chain: settings.chain,
    combined: settings.combined,
    keystore: settings.keystore?.path,
  };
  const files: UnitFile[] = [];
  for (const role of ROLES) {
    const path = paths[role];
    if (path !== undefined) files.push({ role, path: pathFrom(baseDir, path) });
  }
  const twice = files.find((file, index) => files.findIndex((other) => other.path === file.path) !== index);
  if (twice === undefined) return files;
  throw new GyreError({
    code: "manifest",
    message: `two files of one target have the path ${twice.path}`,
    where: twice.path,
    next: "give each its own path, or use combined",
  });
}

/** What goes into each file, and the digest of the public part it was made from. */
export interface Rendered {
  readonly bytes: Partial<Record<FileRole, Buffer>>;
  readonly digest: string;
}

const HOLDS_KEY: readonly FileRole[] = ["privateKey", "combined", "keystore"];

/**
 * Makes the content of every file.
 * @throws GyreError `input` when the material is malformed, has no key, or the key is not the certificate's
 */
export function render(material: Material, settings: TargetSettings, password: Secret | undefined): Rendered {
  const [leaf, ...extra] = parseCertificates(material.certificate, "certificate to deliver");
  const chain = [...extra, ...optional(material.chain, "chain to deliver")];
  if (material.privateKey === undefined) {
    throw new GyreError({
      code: "input",
      message: "the material to deliver has no private key, which these files need; nothing written",
      next: "use an issuer whose key travels",
    });
  }
  const key = readPrivateKey(material.privateKey, undefined, "private key to deliver");
  requireMatch(leaf!, key, "material to deliver");
  const bytes: Partial<Record<FileRole, Buffer>> = {};
  for (const { role } of filesOf(settings, "/")) {
    bytes[role] = contentOf(role, { leaf: leaf!, chain, key, material, settings, password });
  }
  const certificates = [leaf!, ...chain].map((certificate) => certificate.der);
  return { bytes, digest: sha256(Buffer.concat(certificates)) };
}

const optional = (pem: string, what: string): Certificate[] => (pem.trim() === "" ? [] : parseCertificates(pem, what));

interface Parts {
  readonly leaf: Certificate;
  readonly chain: readonly Certificate[];
  readonly key: PrivateKey;
  readonly material: Material;
  readonly settings: TargetSettings;
  readonly password: Secret | undefined;
}

function contentOf(role: FileRole, parts: Parts): Buffer {
  const { leaf, chain, material, settings } = parts;
  switch (role) {
    case "certificate":
      return pemOf(settings.chain === undefined ? [leaf, ...chain] : [leaf]);
    case "chain":
      // Servers that want the chain apart refuse an empty file; the root that signed the leaf does no harm in it.
      return pemOf(chain.length > 0 ? chain : optional(material.roots, "roots to deliver"));
    case "privateKey":
      return keyOf(material);
    case "combined":
      // HAProxy takes the first certificate for the leaf and those after it for its chain (its manual on `crt`).
      return Buffer.concat([pemOf([leaf, ...chain]), keyOf(material)]);
    case "keystore":
      return keystoreOf(parts);
    default:
      return role satisfies never;
  }
}

const pemOf = (certificates: readonly Certificate[]): Buffer =>
  Buffer.from(certificates.map((certificate) => toPem("CERTIFICATE", certificate.der)).join(""), "latin1");

/** The key as it came, with a newline at its end. */
const keyOf = (material: Material): Buffer =>
  material.privateKey!.use((bytes) =>
    bytes.at(-1) === 0x0a ? Buffer.from(bytes) : Buffer.concat([bytes, Buffer.from("\n")]),
  );

function keystoreOf({ leaf, chain, key, settings, password }: Parts): Buffer {
  const { alias, format } = settings.keystore!;
  const store = { keys: [{ alias, key, chain: [leaf, ...chain] }], trusted: [] };
  // Java shows the entry's date; the certificate's own is as true as any, and makes the same bytes each time.
  return format === "jks" ? writeJks(store, password!, leaf.notBefore) : writePkcs12(store, password!);
}

/** Contents with owner and mode: as the settings say, else as the file in place. */
export function contentsFor(
  rendered: Rendered,
  wanted: Wanted,
  inPlace: Partial<Record<FileRole, Attributes>>,
): Contents {
  const contents: Contents = {};
  for (const role of ROLES) {
    const bytes = rendered.bytes[role];
    if (bytes === undefined) continue;
    contents[role] = { bytes, who: attributesFor(wanted, inPlace[role], HOLDS_KEY.includes(role)) };
  }
  return contents;
}

/**
 * Certificates (leaf first) and key found in the files. What is no certificate is left out: the version tells that
 * something is there. A key store that the password does not open is an error, since nobody else could open it either.
 */
export function storedFrom(
  contents: Partial<Record<FileRole, Buffer>>,
  settings: TargetSettings,
  password: Secret | undefined,
  baseDir: string,
): Pick<Stored, "certificate" | "privateKey" | "malformed"> {
  const { certificate, combined, chain, privateKey } = contents;
  const pem = certificate ?? combined;
  if (pem !== undefined || contents.keystore === undefined) {
    const key = keyBlock(privateKey ?? combined);
    const malformed = malformedIn(contents, filesOf(settings, baseDir));
    return {
      certificate: [pem, chain].map(certificatesIn).join(""),
      ...(key === undefined ? {} : { privateKey: key }),
      ...(malformed === undefined ? {} : { malformed }),
    };
  }
  const { path, alias, format } = settings.keystore!;
  const read = format === "jks" ? readJks : readPkcs12;
  const store = read(contents.keystore, password!, `key store ${path}`);
  const entry = store.keys.find((one) => one.alias.toLowerCase() === alias.toLowerCase()) ?? store.keys[0];
  if (entry === undefined) return { certificate: "" };
  return { certificate: pemOf(entry.chain).toString("latin1"), privateKey: exportPrivateKey(entry.key) };
}

const CERTIFICATE =
  /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[\s\S]+?-----END (?:TRUSTED |X509 )?CERTIFICATE-----/g;
const PRIVATE_KEY = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]+?-----END [A-Z0-9 ]*PRIVATE KEY-----/;

function certificatesIn(bytes: Buffer | undefined): string {
  const found: Certificate[] = [];
  for (const [block] of (bytes?.toString("latin1") ?? "").matchAll(CERTIFICATE)) {
    try {
      found.push(...parseCertificates(block));
    } catch {
      // damaged: not a certificate anybody could use
    }
  }
  return pemOf(found).toString("latin1");
}

/** The first file that holds something which is not what belongs there. An empty one is as good as none. */
function malformedIn(contents: Partial<Record<FileRole, Buffer>>, files: readonly UnitFile[]): string | undefined {
  for (const { role, path } of files) {
    const bytes = contents[role];
    if (bytes === undefined || isBlank(bytes) || role === "keystore") continue;
    if (role === "privateKey" || role === "combined") {
      if (keyBlock(bytes) === undefined) return `${path} holds no private key`;
      if (role === "privateKey") continue;
    }
    const blocks = [...bytes.toString("latin1").matchAll(CERTIFICATE)];
    const bad = blocks.findIndex(([block]) => !isCertificate(block));
    if (blocks.length > 0 && bad === -1) continue;
    const what = bad === -1 ? "holds no certificate" : `holds a certificate that cannot be read (number ${bad + 1})`;
    return `${path} ${what}`;
  }
  return undefined;
}

const isBlank = (bytes: Buffer): boolean => bytes.toString("latin1").trim() === "";

function isCertificate(block: string): boolean {
  try {
    return parseCertificates(block).length > 0;
  } catch {
    return false;
  }
}

function keyBlock(bytes: Buffer | undefined): Secret | undefined {
  const block = PRIVATE_KEY.exec(bytes?.toString("latin1") ?? "")?.[0];
  return block === undefined ? undefined : Secret.of(`${block}\n`);
}
