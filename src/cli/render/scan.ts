import type { Found } from "../../scan/found.ts";
import type { Cost } from "../../scan/kubernetes/lists.ts";
import { wrap } from "../layout.ts";
import { bad, bold, dim, held } from "../paint.ts";
import { count } from "../words.ts";

/** Columns: time left, what it is, the rest. Fixed, since finds are printed as they are made. */
const columns = { what: 9, rest: 22 } as const;

export const scanHead = (): string => dim(`${"LEFT".padStart(columns.what - 2)}  ${"WHAT".padEnd(11)}  WHERE`);

/** One find: a line for what it is, one for each thing a person should know. `notes`: those of no consequence too. */
export function foundLines(found: Found, width: number, notes: boolean): string[] {
  const lines = wrap(
    `${leftWords(found)}  ${whatWords(found)}  ${bold(found.where)}: ${detailWords(found)}`,
    width,
    columns.rest,
  );
  const whose = whoseWords(found);
  if (whose !== "") lines.push(...wrap(`${" ".repeat(columns.rest)}${dim(whose)}`, width, columns.rest));
  for (const { severity, code, message } of found.findings) {
    if (severity === "note" && !notes) continue;
    const mark = severity === "error" ? bad("error") : severity === "warning" ? held("warning") : "note";
    const pad = " ".repeat(columns.rest - columns.what - severity.length);
    lines.push(...wrap(`${" ".repeat(columns.what)}${mark}${pad}${message} ${dim(`[${code}]`)}`, width, columns.rest));
  }
  return lines;
}

/** Whose an object of a cluster is and who uses it: told once, of the leaf. */
function whoseWords(found: Found): string {
  const { object } = found;
  const above = "chain" in found && found.chain !== undefined && found.chain.position > 1;
  if (object === undefined || above || found.what === "problem" || found.what === "private key") return "";
  const marked = object.owners.filter(({ by }) => by !== "field manager");
  const owners = marked.map(({ by, who }) => (by === "ownerReference" ? who : `${by} ${who}`));
  const writers = marked.length > 0 ? [] : object.owners.map(({ who }) => who);
  const users = object.users.map(
    ({ who, how, pods }) => `${who} (${how}${pods === undefined ? "" : `, ${count(pods, "pod")}`})`,
  );
  const more = users.length > 4 ? [`${users.length - 4} more`] : [];
  const unseen = object.usersUnseen === undefined ? [] : [`${object.usersUnseen.join(", ")} not seen`];
  const used = [...users.slice(0, 4), ...more, ...unseen];
  return [
    ...(owners.length === 0 ? [] : [`of ${owners.join(", ")}`]),
    ...(writers.length === 0 ? [] : [`written by ${writers.join(", ")}`]),
    ...(used.length === 0 ? [] : [`used by ${used.join(", ")}`]),
  ].join("; ");
}

function leftWords(found: Found): string {
  const size = columns.what - 2;
  if (!("daysLeft" in found)) return " ".repeat(size);
  if (found.daysLeft < 0) return " ".repeat(Math.max(0, size - "expired".length)) + bad("expired");
  return (found.daysLeft === 0 ? "< 1 d" : `${found.daysLeft} d`).padStart(size);
}

function whatWords(found: Found): string {
  const padded = found.what.padEnd(11);
  return found.what === "problem" ? bad(padded) : padded;
}

function detailWords(found: Found): string {
  switch (found.what) {
    case "certificate":
    case "CA":
      return certificateWords(found);
    case "CRL":
      return `by ${found.issuer}, number ${found.serial}, ${count(found.revoked, "revoked certificate")}`;
    case "private key":
      return keyWords(found);
    case "CSR":
      return `for ${[found.subject, ...found.names].filter((text) => text !== "").join(", ")}, ${found.algorithm}`;
    case "PKCS#12":
    case "JKS":
      return "locked by a password";
    case "token":
    case "password":
    case "exec":
      return "a secret of another kind, not read";
    case "problem":
    case "setting":
    case "skipped":
      return found.message;
    default:
      return found satisfies never;
  }
}

function certificateWords(found: Found & { readonly what: "certificate" | "CA" }): string {
  // Names say more than a subject that repeats one of them, and a subject may be empty.
  const common = /^CN=([^,]*)$/.exec(found.subject)?.[1];
  const repeated = found.subject === "" || found.names.some((name) => name === `DNS:${common}`);
  const who = [...(repeated && found.names.length > 0 ? [] : [found.subject]), ...found.names.slice(0, 4)];
  const more = found.names.length > 4 ? ` and ${found.names.length - 4} more names` : "";
  const issuer = found.issuer === found.subject ? "signed by itself" : `by ${found.issuer}`;
  const key =
    found.key === undefined
      ? ""
      : found.key.matches
        ? `, key ${found.key.where}`
        : `, and the key ${found.key.where} is another one's`;
  const chain =
    found.chain === undefined || found.chain.of === 1
      ? ""
      : `, ${found.chain.position} of ${found.chain.of} in the chain`;
  return `${who.filter((text) => text !== "").join(", ")}${more}, ${issuer}, ${found.algorithm}, serial ${found.serial}${chain}${key}`;
}

function keyWords(found: Found & { readonly what: "private key" }): string {
  const what = found.encrypted ? "encrypted" : (found.algorithm ?? "of an unknown kind");
  return found.matches.length === 0
    ? `${what}, belongs to nothing here`
    : `${what}, belongs to ${found.matches.join(", ")}`;
}

export interface ScanSum {
  certificates: number;
  others: number;
  errors: number;
  warnings: number;
  problems: number;
  /** Expired ones among them. */
  expired: number;
  /** Within `--days`. */
  within: number;
  /** What a cluster was asked. */
  cluster?: { readonly server: string } & Cost;
}

export function sumLines(sum: ScanSum, days: number | undefined, width: number): string[] {
  const parts = [count(sum.certificates, "certificate"), `${sum.others} other finds`];
  if (days !== undefined) parts.push(`${sum.within} within ${days} d`);
  if (sum.expired > 0) parts.push(bad(`${sum.expired} expired`));
  if (sum.errors > 0) parts.push(bad(count(sum.errors, "error")));
  if (sum.warnings > 0) parts.push(held(count(sum.warnings, "warning")));
  if (sum.problems > 0) parts.push(bad(`${sum.problems} could not be read`));
  return [...wrap(parts.join(", "), width, 2), ...(sum.cluster === undefined ? [] : costLines(sum.cluster, width))];
}

function costLines({ server, requests, bytes, objects }: NonNullable<ScanSum["cluster"]>, width: number): string[] {
  const listed = Object.entries(objects)
    .filter(([, number]) => number > 0)
    .map(([kind, number]) => count(number, kind, kind.endsWith("s") ? `${kind}es` : `${kind}s`));
  const size = bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  return wrap(`asked ${server}: ${count(requests, "request")}, ${size}, ${listed.join(", ")}`, width, 2);
}
