/** One context of a kubeconfig: what its user and its cluster hold, wherever they hold it, and what is wrong with it. */
import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import { type Certificate, parseCertificates } from "../../pki/certificate.ts";
import { some } from "./cluster.ts";
import { type KubeconfigContext, readKubeconfigFile } from "./kubeconfig-file.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** What the last delivery left, in an extension of the user entry (client-go Preferences and entries have such lists). */
export interface Mark {
  readonly op: string;
  /** Digest of the entry as that op left it. */
  readonly content: string;
  /** What was there before: nothing, or a pair that Gyre keeps elsewhere. Absent once it is forgotten. */
  readonly replaced?: "nothing" | "pair";
  /** Made by Gyre: the whole document, or the context in it. */
  readonly made?: "document" | "context";
}
const markName = "gyre.dev";

export interface Entry {
  readonly context: KubeconfigContext;
  readonly certificate?: Buffer;
  readonly privateKey?: Buffer;
  readonly ca?: Buffer;
  /** Other ways to authenticate that the user entry names. */
  readonly otherWays: readonly string[];
  /** SHA-256 over all of it, and over where it leads. */
  readonly content: string;
  /** Where the content is still what the op left. */
  readonly mark?: Mark;
}

/** Fields of a user that authenticate by something else than a certificate (client-go api.AuthInfo). */
const otherWays = ["exec", "token", "tokenFile", "username", "password", "auth-provider"];

/**
 * The entry, or undefined where there is no document or not this context. `file`: relative paths in it count from there.
 * @throws GyreError `input`: no kubeconfig, or a file it names cannot be read
 */
export async function readEntry(
  text: string | undefined,
  where: string,
  wanted: string | undefined,
  file: string | undefined,
): Promise<Entry | undefined> {
  if (text === undefined) return undefined;
  const document = readKubeconfigFile(text, where);
  const name = wanted ?? document.currentContext;
  if (name === undefined || !document.contextNames.includes(name)) return undefined;
  const context = document.context(name);
  const { user, cluster } = context;
  const certificate = await material(user, "client-certificate", where, file);
  const privateKey = await material(user, "client-key", where, file);
  const ca = await material(cluster, "certificate-authority", where, file);
  const others = otherWays.filter((field) => user[field] !== undefined && user[field] !== "");
  const content = digestOf([
    ...[context.name, context.clusterName, context.userName, certificate, privateKey, ca, ...others],
    ...["server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"].map((field) => cluster[field]),
  ]);
  const mark = markOf(user);
  return {
    ...{ context, otherWays: others, content },
    ...some({ certificate, privateKey, ca, mark: mark?.content === content ? mark : undefined }),
  };
}

async function material(
  of: Fields,
  field: string,
  where: string,
  file: string | undefined,
): Promise<Buffer | undefined> {
  const [data, name] = [of[`${field}-data`], of[field]];
  if (typeof data === "string" && data !== "") return Buffer.from(data, "base64");
  if (typeof name !== "string" || name === "") return undefined;
  if (file === undefined)
    throw new GyreError({
      code: "input",
      message: `kubeconfig ${where}: ${field} names a file, and there is none beside a Secret; nothing was changed`,
      where,
      next: `embed it (${field}-data)`,
    });
  const path = resolve(dirname(file), name);
  return readFile(path).catch((cause: NodeJS.ErrnoException) => {
    // A pair that is not there yet is nothing; anything else is something that cannot be looked at.
    if (cause.code === "ENOENT") return undefined;
    throw new GyreError({
      code: cause.code === "EACCES" ? "permission" : "input",
      message: `kubeconfig ${where}: ${field} ${path} cannot be read (${cause.code})`,
      where: path,
      cause,
    });
  });
}

const digestOf = (parts: readonly unknown[]): string =>
  `sha256:${hash("sha256", JSON.stringify(parts.map((part) => (Buffer.isBuffer(part) ? hash("sha256", part, "hex") : (part ?? null)))), "hex")}`;

/** `absent` where the user holds neither certificate nor key. */
export const versionOf = (entry: Entry | undefined): string =>
  entry?.certificate === undefined && entry?.privateKey === undefined ? "absent" : entry.content;

function markOf(user: Fields): Mark | undefined {
  const list = Array.isArray(user.extensions) ? (user.extensions as { name?: unknown; extension?: unknown }[]) : [];
  return list.find(({ name }) => name === markName)?.extension as Mark | undefined;
}

/** The user's extensions with ours in its new form; those of others stay. */
export function extensionsWith(user: Fields, mark: Mark): unknown[] {
  const list = Array.isArray(user.extensions) ? (user.extensions as { name?: unknown }[]) : [];
  return [...list.filter(({ name }) => name !== markName), { name: markName, extension: mark }];
}

/**
 * What keeps a consumer with this kubeconfig from the cluster although certificate and key are right; undefined when
 * nothing does. `roots`: what the cluster itself publishes as its CA.
 */
export function flawOf(entry: Entry, roots: string): string | undefined {
  const { cluster, clusterName } = entry.context;
  const of = `of cluster ${clusterName}`;
  if (cluster["insecure-skip-tls-verify"] === true)
    return `its insecure-skip-tls-verify ${of} lets any server have its requests`;
  if (entry.ca === undefined) return `it has no certificate-authority ${of}`;
  const found = certificatesIn(entry.ca);
  if (found === undefined) return `its certificate-authority ${of} holds no certificate that can be read`;
  const stranger = found.find((one) => !one.isCa);
  if (stranger !== undefined)
    return `its certificate-authority ${of} holds ${stranger.subject}, which is no CA certificate`;
  const missing = parseCertificates(roots).find(
    (root) => !found.some(({ fingerprint }) => fingerprint === root.fingerprint),
  );
  if (missing === undefined) return undefined;
  return `its certificate-authority ${of} holds ${found[0]!.subject} (${found[0]!.fingerprint.slice(0, 8)}) and not ${missing.subject} (${missing.fingerprint.slice(0, 8)}), the cluster's own`;
}

function certificatesIn(bytes: Buffer): Certificate[] | undefined {
  try {
    const found = parseCertificates(bytes.toString("latin1"));
    return found.length === 0 ? undefined : found;
  } catch {
    return undefined;
  }
}

/** PEM of the certificates in it; empty where there is none that can be read. */
export const pemIn = (bytes: Buffer | undefined): string =>
  (bytes === undefined ? [] : (certificatesIn(bytes) ?? [])).map((one) => one.pem).join("");
