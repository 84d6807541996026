import type { Instant, Reason } from "../../engine/model.ts";
import { wrap } from "../layout.ts";
import { commandWords, relativeWords } from "../words.ts";

/** Longer lists are cut: `gyre show` has them all. */
const mostReasons = 8;

interface Options {
  readonly name: string;
  /** Columns; Infinity where lines are not broken. */
  readonly width: number;
}

/** Why a rotation stands: one line per reason, then what releases them, then how to accept them by name. */
export function reasonLines(options: Options, reasons: readonly Reason[], now: Instant): string[] {
  const lines: string[] = [];
  const add = (indent: number, text: string) =>
    lines.push(...wrap(" ".repeat(indent) + text, options.width, indent + 2));
  const told = alike(reasons);
  const shown = told.slice(0, mostReasons);
  const several = new Set(reasons.map(({ claim }) => claim)).size > 1;
  for (const [reason, asked] of shown) {
    const claim = several && asked.length > 0 ? `(${asked.join(", ")}) ` : "";
    add(10, `${reason.about === options.name ? "" : `${reason.about} `}${claim}${withAge(reason, now)}`);
  }
  if (told.length > shown.length) {
    add(10, `and ${told.length - shown.length} more: ${commandWords("show", options.name, "--json")}`);
  }
  for (const text of releases(reasons, options.name)) add(8, text);
  return lines;
}

/** What was seen of one member for several claims alike is told once, with the names of the claims. */
function alike(reasons: readonly Reason[]): [Reason, string[]][] {
  const told: [Reason, string[]][] = [];
  for (const reason of reasons) {
    const same = told.find(([other]) => other.about === reason.about && other.what === reason.what);
    const asked = reason.claim === undefined ? [] : [reason.claim];
    if (same === undefined) told.push([reason, asked]);
    else same[1].push(...asked);
  }
  return told;
}

/** Since when, where that is not this very moment. */
function withAge(reason: Reason, now: Instant): string {
  if (now - reason.since < 1000) return reason.what;
  const age = `${reason.verdict === "failed" ? "" : "first seen "}${relativeWords(reason.since, now)}`;
  return reason.what.endsWith(")") ? `${reason.what.slice(0, -1)}; ${age})` : `${reason.what} (${age})`;
}

function releases(reasons: readonly Reason[], name: string): string[] {
  const looked = reasons.filter((reason) => reason.verdict === "no" || reason.verdict === "unknown");
  // What no look is about, such as a manifest that changed, is nothing that somebody can accept.
  const open = looked.filter((reason) => reason.claim !== undefined && reason.about !== name);
  const members = [...new Set(open.map((reason) => reason.about))];
  const asked = [...new Set(open.map((reason) => reason.claim!))];
  const lines = commonReleases(looked);
  if (members.length > 0) {
    const one = [members.length === 1 ? members[0]! : "MEMBER", "--claim", asked.length === 1 ? asked[0]! : "CLAIM"];
    const waive = commandWords("waive", name, ...one, "--reason", "...");
    const accept = `to accept ${open.length === 1 ? "it" : "one"} by name: ${waive}${asked.length === 1 ? "" : ` (${asked.join(", ")})`}`;
    if (lines.length === 1) lines[0] = `${lines[0]}; ${accept}`;
    else lines.push(accept);
  }
  for (const reason of reasons) {
    if (reason.verdict === "approval") lines.push(`released by: ${reason.release}`);
    if (reason.verdict === "failed") lines.push(`next: ${reason.release}`);
  }
  return [...new Set(lines)];
}

/** What many members have to do alike is said once. */
function commonReleases(reasons: readonly Reason[]): string[] {
  const alike = new Map<string, Reason[]>();
  for (const reason of reasons) {
    const rest = reason.release.startsWith(`${reason.about} `)
      ? reason.release.slice(reason.about.length)
      : reason.release;
    alike.set(rest, [...(alike.get(rest) ?? []), reason]);
  }
  return [...alike].map(([rest, [first, ...more]]) => {
    const one = more.length === 0 || rest === first?.release;
    return `released when ${one ? first?.release : `each of these${rest}`}`;
  });
}
