import { attributeValues, readName, splitUnescaped } from "./distinguished-name.ts";
import type { NameConstraints } from "./extensions.ts";
import { ipBytes } from "./names.ts";

/** Go's bound: more occurs only in attacks. */
const MAX_COMPARISONS = 250_000;

/**
 * Name constraints (RFC 5280 4.2.1.10): which names of a certificate an issuer's subtrees do not allow, one line each,
 * empty when all are allowed. A kind of name that cannot be judged is a violation, never a pass.
 */
export function violations(constraints: NameConstraints, names: readonly string[], subjectDer: Buffer): string[] {
  const found: string[] = [];
  const subtrees = constraints.permitted.length + constraints.excluded.length;
  const all = subjects(names, subjectDer);
  if (all.length * subtrees > MAX_COMPARISONS)
    return [`${all.length} names against ${subtrees} subtrees are too many to check`];
  for (const name of all) {
    const type = name.slice(0, name.indexOf(":"));
    const same = (subtree: string) => subtree.startsWith(`${type}:`);
    if (constraints.excluded.some((subtree) => same(subtree) && within(name, subtree) !== false))
      found.push(`${name} is excluded`);
    const permitted = constraints.permitted.filter(same);
    if (permitted.length > 0 && !permitted.some((subtree) => within(name, subtree) === true))
      found.push(`${name} is outside ${permitted.join(", ")}`);
  }
  return found;
}

/** The names to judge: the alternative names, the subject itself, and what old verifiers take from the subject. */
function subjects(names: readonly string[], subjectDer: Buffer): string[] {
  const all = [...names];
  if (subjectDer.length > 2) all.push(`dirName:${readName(subjectDer)}`);
  if (!names.some((name) => name.startsWith("email:")))
    all.push(...attributeValues(subjectDer, "emailAddress").map((value) => `email:${value}`));
  // OpenSSL holds a CN that looks like a host against DNS constraints when no DNS name is there.
  if (!names.some((name) => name.startsWith("DNS:")))
    for (const cn of attributeValues(subjectDer, "CN"))
      if (/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$/.test(cn)) all.push(`DNS:${cn.toLowerCase()}`);
  return all;
}

/** Whether a name lies in a subtree of the same type; undefined where that cannot be judged. */
function within(name: string, subtree: string): boolean | undefined {
  const colon = name.indexOf(":");
  const value = name.slice(colon + 1);
  const tree = subtree.slice(subtree.indexOf(":") + 1);
  switch (name.slice(0, colon)) {
    case "DNS":
      return dnsWithin(value.toLowerCase(), tree);
    case "IP":
      return ipWithin(value, tree);
    case "URI": {
      const host = uriHost(value);
      return host === undefined
        ? undefined
        : hostWithin(host, tree.replace(/^\./, ""), tree.startsWith("."), tree.startsWith("."));
    }
    case "email":
      return emailWithin(value, tree);
    case "dirName":
      return directoryWithin(value, tree);
    default:
      return undefined;
  }
}

/**
 * RFC 5280 gives a DNS subtree no leading dot; verifiers differ on whether `.lab.example` holds `lab.example`. A wildcard
 * is not outside a subtree that one of its hosts is in (Go's CVE-2025-61727).
 */
function dnsWithin(host: string, tree: string): boolean | undefined {
  if (tree.startsWith(".") && host === tree.slice(1)) return undefined;
  const bare = tree.replace(/^\./, "");
  if (hostWithin(host, bare, true)) return true;
  return host.startsWith("*.") && bare.endsWith(host.slice(1)) ? undefined : false;
}

/** `below`: hosts under the tree count. `only`: and the tree itself does not. The empty tree holds everything. */
function hostWithin(host: string, tree: string, below: boolean, only = false): boolean {
  if (tree === "") return true;
  if (host === tree) return !only;
  return below && host.endsWith(`.${tree}`);
}

function uriHost(uri: string): string | undefined {
  const authority = /^[^:]+:\/\/([^/?#]*)/.exec(uri)?.[1];
  const host = authority?.replace(/^.*@/, "").replace(/:\d*$/, "").toLowerCase();
  // RFC 5280: a URI without a host, or with an address for one, is not within any constraint.
  return host === undefined || host === "" || host.startsWith("[") || ipBytes(host) !== undefined ? undefined : host;
}

function emailWithin(mailbox: string, tree: string): boolean {
  const at = mailbox.lastIndexOf("@");
  const host = mailbox.slice(at + 1).toLowerCase();
  if (tree.includes("@")) {
    const treeAt = tree.lastIndexOf("@");
    return mailbox.slice(0, at) === tree.slice(0, treeAt) && host === tree.slice(treeAt + 1).toLowerCase();
  }
  return hostWithin(host, tree.replace(/^\./, ""), tree.startsWith("."), tree.startsWith("."));
}

function ipWithin(address: string, tree: string): boolean | undefined {
  const [base = "", prefix = ""] = tree.split("/");
  const a = ipBytes(address);
  const b = ipBytes(base);
  if (a === undefined || b === undefined) return undefined;
  if (a.length !== b.length) return false;
  for (let bit = 0; bit < Number(prefix); bit++)
    if (((a[bit >> 3]! ^ b[bit >> 3]!) & (0x80 >> (bit & 7))) !== 0) return false;
  return true;
}

/**
 * The tree's relative names are the outermost ones of the name (RFC 5280 7.1). Compared as text without regard to case
 * and spaces, since two encodings of one string are one name.
 */
function directoryWithin(name: string, tree: string): boolean {
  const parts = (text: string): string[] =>
    text === "" ? [] : splitUnescaped(text.toLowerCase().replace(/ +/g, " "), ",").reverse();
  const outer = parts(tree);
  const inner = parts(name);
  return outer.length <= inner.length && outer.every((part, i) => part === inner[i]);
}
