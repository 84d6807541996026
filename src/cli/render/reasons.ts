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
  const shown = reasons.slice(0, mostReasons);
  for (const reason of shown)
    add(10, `${reason.about === options.name ? "" : `${reason.about} `}${withAge(reason, now)}`);
  if (reasons.length > shown.length) {
    add(10, `and ${reasons.length - shown.length} more: ${commandWords("show", options.name, "--json")}`);
  }
  for (const text of releases(reasons, options.name)) add(8, text);
  return lines;
}

/** Since when, where that is not this very moment. */
function withAge(reason: Reason, now: Instant): string {
  if (now - reason.since < 1000) return reason.what;
  const age = `${reason.verdict === "failed" ? "" : "first seen "}${relativeWords(reason.since, now)}`;
  return reason.what.endsWith(")") ? `${reason.what.slice(0, -1)}; ${age})` : `${reason.what} (${age})`;
}

function releases(reasons: readonly Reason[], name: string): string[] {
  const looked = reasons.filter((reason) => reason.verdict === "no" || reason.verdict === "unknown");
  const members = [...new Set(looked.map((reason) => reason.about))].filter((member) => member !== name);
  const lines = commonReleases(looked);
  const waive = commandWords("waive", name, members.length === 1 ? members[0]! : "MEMBER", "--reason", "...");
  if (members.length > 0) {
    const accept = `to accept ${members.length === 1 ? "it" : "one"} by name: ${waive}`;
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
