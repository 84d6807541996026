import { dirname, resolve } from "node:path";
import { parseDocument } from "yaml";
import { GyreError } from "../errors.ts";
import type { FoundToken } from "./found.ts";

/** A certificate, CA or key that a kubeconfig carries or names. */
export interface Carried {
  /** `path#user/admin` or `path#cluster/prod`. */
  readonly where: string;
  readonly field: string;
  /** Decoded; absent where a file is named. */
  readonly data?: Buffer;
  readonly file?: string;
}
export interface Kubeconfig {
  readonly carried: readonly Carried[];
  /** Tokens, passwords and exec plugins: that they are there, not what they are. */
  readonly tokens: readonly FoundToken[];
  readonly problems: readonly { readonly where: string; readonly message: string }[];
}

/** Told by its words, before anything is parsed. */
export function looksLikeKubeconfig(bytes: Buffer): boolean {
  return (
    bytes.length < 4 * 1024 * 1024 &&
    /(^|[\n{,"\s])kind"?\s*:\s*"?Config\b/.test(bytes.toString("latin1")) &&
    bytes.includes("clusters")
  );
}

type Map = Record<string, unknown>;
const mapOf = (value: unknown): Map =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Map) : {};

/** Reads clusters and users. Throws GyreError `input` when it is not YAML; everything else is a problem of its entry. */
export function readKubeconfig(bytes: Buffer, path: string): Kubeconfig {
  const root = mapOf(parseYaml(bytes.toString("utf8"), path));
  const carried: Carried[] = [];
  const tokens: FoundToken[] = [];
  const problems: { where: string; message: string }[] = [];
  const take = (where: string, entry: Map, field: string) => {
    const data = entry[`${field}-data`];
    const file = entry[field];
    // kubectl takes the embedded one when both are there.
    if (typeof data === "string" && data !== "") {
      if (/^[A-Za-z0-9+/=\s]+$/.test(data)) carried.push({ where, field, data: Buffer.from(data, "base64") });
      else problems.push({ where, message: `${field}-data is not base64` });
    } else if (typeof file === "string" && file !== "")
      carried.push({ where, field, file: resolve(dirname(path), file) });
  };
  for (const { where, entry } of entriesOf(root, "clusters", "cluster", path)) {
    take(where, entry, "certificate-authority");
    if (entry["insecure-skip-tls-verify"] === true)
      problems.push({ where, message: "insecure-skip-tls-verify: this client takes any server for the cluster" });
  }
  for (const { where, entry } of entriesOf(root, "users", "user", path)) {
    take(where, entry, "client-certificate");
    take(where, entry, "client-key");
    if ("token" in entry || "tokenFile" in entry) tokens.push({ what: "token", where, findings: [] });
    if ("password" in entry) tokens.push({ what: "password", where, findings: [] });
    if ("exec" in entry || "auth-provider" in entry) tokens.push({ what: "exec", where, findings: [] });
  }
  return { carried, tokens, problems };
}

function entriesOf(root: Map, list: string, field: string, path: string): { where: string; entry: Map }[] {
  const entries = root[list];
  return (Array.isArray(entries) ? entries : []).map((one: unknown) => {
    const named = mapOf(one);
    return { where: `${path}#${field}/${String(named.name ?? "?")}`, entry: mapOf(named[field]) };
  });
}

function parseYaml(text: string, path: string): unknown {
  try {
    const document = parseDocument(text, { prettyErrors: false, logLevel: "silent", uniqueKeys: false });
    // The reader's own words quote the file, which holds keys.
    if (document.errors.length === 0) return document.toJS({ maxAliasCount: 100 });
  } catch {
    // Deep nesting and alias bombs end here.
  }
  throw new GyreError({ code: "input", message: "looks like a kubeconfig, but is not valid YAML", where: path });
}
