import type { Instant } from "../../engine/model.ts";
import type { CredentialStatus } from "../../runtime/api.ts";
import { type Column, table, wrap } from "../layout.ts";
import { bad, bold, dim, good, held } from "../paint.ts";
import { commandWords, count, dueWords, minuteWords, relativeWords, spanWords } from "../words.ts";

const columns: readonly Column[] = [
  { title: "NAME", spare: 0 },
  { title: "GEN", spare: 0, right: true },
  { title: "LEFT", spare: 0, right: true },
  { title: "NOT AFTER (UTC)", spare: 3 },
  { title: "DUE", spare: 1 },
  { title: "OLD", spare: 2, right: true },
  { title: "STATE", spare: 0, wide: true },
];

/** The table of all credentials, and below it what needs somebody. OLD: generations still accepted somewhere. */
export function statusLines(statuses: readonly CredentialStatus[], now: Instant, width: number): string[] {
  if (statuses.length === 0) return ["no credentials in the manifests"];
  const rows = statuses.map((status) => [
    bold(status.name),
    status.current === undefined ? "-" : `g${status.current.number}`,
    leftWords(status, now),
    status.current === undefined ? "-" : minuteWords(status.current.notAfter),
    status.due?.action === "impossible" ? bad("impossible") : dueWords(status.due, now),
    status.outstanding.length === 0 ? "-" : String(status.outstanding.length),
    stateWords(status, now),
  ]);
  const lines = table(columns, rows, width);
  for (const status of statuses) {
    for (const text of remarks(status)) lines.push(...wrap(`${bold(status.name)}: ${text}`, width, 2));
  }
  return lines;
}

function leftWords(status: CredentialStatus, now: Instant): string {
  if (status.current === undefined) return "-";
  const left = status.current.notAfter - now;
  return left > 0 ? spanWords(left) : bad("expired");
}

export function stateWords(
  status: Pick<CredentialStatus, "active" | "problem" | "lastClosed" | "current" | "unread">,
  now: Instant,
): string {
  if (status.problem !== undefined) return bad("unreadable");
  const { active } = status;
  if (active !== undefined) {
    const stage = active.passed.at(-1)?.stage;
    if (active.held !== undefined) return `${held("HELD")} ${active.held.stage} for ${spanWords(now - active.held.at)}`;
    if (active.reverting !== undefined) return held("being put back");
    return `under way${stage === undefined ? "" : `, ${stage} passed ${relativeWords(active.passed.at(-1)!.at, now)}`}`;
  }
  if (status.lastClosed !== undefined)
    return `${good(`closed ${status.lastClosed.grade}`)} ${relativeWords(status.lastClosed.at, now)}`;
  if (status.current === undefined && status.unread !== undefined) return held("unclear");
  return dim(status.current === undefined ? "not issued yet" : "found in place, never rotated");
}

function remarks(status: CredentialStatus): string[] {
  const found: string[] = [];
  if (status.problem !== undefined) found.push(status.problem);
  if (status.unread !== undefined) found.push(`what is in place could not be told: ${status.unread}`);
  const first = status.active?.held?.reasons[0];
  if (first !== undefined) found.push(`${first.about} ${first.what}; released when ${first.release}`);
  if (status.due?.action === "impossible") found.push(`${status.due.because}; next: ${status.due.next}`);
  if (status.orphans > 0)
    found.push(`${count(status.orphans, "orphan")}: issued and not in use, see ${commandWords("show", status.name)}`);
  return found;
}
