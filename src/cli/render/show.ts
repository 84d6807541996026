import type { Generation, Instant } from "../../engine/model.ts";
import type { Lineage, Rotation } from "../../engine/state.ts";
import type { TimelineEntry } from "../../runtime/api.ts";
import { wrap } from "../layout.ts";
import { bold, dim, good, held } from "../paint.ts";
import { commandWords, gradeWords, instantWords, minuteWords, relativeWords, short, spanWords } from "../words.ts";
import { reasonLines } from "./reasons.ts";

interface Shown {
  readonly lineage: Lineage;
  readonly entries: readonly TimelineEntry[];
}

/** The whole history of one credential: its generations, then every rotation with its timeline, latest last. */
export function showLines(name: string, shown: Shown, now: Instant, width: number): string[] {
  const { lineage, entries } = shown;
  const lines = [bold(name)];
  const add = (text: string, hang: number) => lines.push(...wrap(text, width, hang));
  if (entries.length === 0)
    return [...lines, `  nothing has happened yet; to see what would: ${commandWords("plan", name)}`];
  if (lineage.generations.size > 0) lines.push("", dim("generations"));
  for (const generation of lineage.generations.values()) add(generationLine(generation, lineage, now), 6);
  for (const orphan of lineage.orphans) {
    const what =
      orphan.generation === undefined ? "one that may have been issued" : `serial ${orphan.generation.serial}`;
    add(`  orphan  ${what}: ${orphan.why}; valid until ${minuteWords(orphan.expires)} UTC`, 10);
  }
  const outside = entries.filter((entry) => !lineage.rotations.some((rotation) => rotation.id === entry.rotation));
  if (outside.length > 0) lines.push("", dim("before and between"));
  lines.push(...timelineLines(outside, width));
  for (const rotation of lineage.rotations) lines.push("", ...rotationLines(name, rotation, entries, now, width));
  return lines;
}

function generationLine(generation: Generation, lineage: Lineage, now: Instant): string {
  const marks = [
    generation.number === lineage.current ? good("in use") : "",
    lineage.destroyed.has(generation.number) ? "key destroyed" : "",
    generation.notAfter <= now ? "expired" : `until ${minuteWords(generation.notAfter)} UTC`,
  ].filter((mark) => mark !== "");
  return `  ${`g${generation.number}`.padEnd(4)}${short(generation.fingerprint)}  serial ${generation.serial}, ${generation.algorithm}, by ${generation.issuer}; ${marks.join(", ")}`;
}

function rotationLines(
  name: string,
  rotation: Rotation,
  entries: readonly TimelineEntry[],
  now: Instant,
  width: number,
): string[] {
  const { plan } = rotation;
  const move = plan.from === undefined ? `-> g${plan.to}` : `g${plan.from.number} -> g${plan.to}`;
  const lines = wrap(`${bold(rotation.id)}  ${move}   ${plan.strategy}   ${endWords(rotation, now)}`, width, 2);
  const add = (text: string) => lines.push(...wrap(text, width, 10));
  add(`  because ${plan.reason}`);
  const own = entries.filter((entry) => entry.rotation === rotation.id);
  lines.push(...timelineLines(own, width));
  for (const waiver of rotation.waivers) {
    const about = waiver.claim === undefined ? "" : ` for ${waiver.claim}`;
    const { withdrawn } = waiver;
    const until =
      withdrawn !== undefined
        ? `withdrawn ${minuteWords(withdrawn.at)} UTC by ${withdrawn.by}: ${withdrawn.reason}`
        : waiver.expires <= now
          ? "expired"
          : `until ${minuteWords(waiver.expires)} UTC`;
    add(`  waived  ${waiver.member}${about} by ${waiver.by}: ${waiver.reason} (${until})`);
  }
  for (const approval of rotation.approvals) add(`  approved by ${approval.by} for plan ${short(approval.plan)}`);
  if (rotation.held !== undefined && rotation.end === undefined) {
    lines.push(
      `  ${held("HELD")}  ${rotation.held.stage}`,
      ...reasonLines({ name, width }, rotation.held.reasons, now),
    );
  }
  return lines;
}

function endWords(rotation: Rotation, now: Instant): string {
  const { end } = rotation;
  if (end === undefined)
    return rotation.held === undefined ? "under way" : `${held("HELD")} for ${spanWords(now - rotation.held.at)}`;
  if (end.how === "reverted") return `put back ${relativeWords(end.at, now)}`;
  const old = rotation.plan.from === undefined ? undefined : `g${rotation.plan.from.number}`;
  return `${good(`closed ${end.grade}`)} ${relativeWords(end.at, now)}: ${gradeWords(end.grade, old, rotation.plan.kind)}`;
}

/** Looks that showed the same again and again are told once, with the last of them. */
function timelineLines(entries: readonly TimelineEntry[], width: number): string[] {
  const lines: string[] = [];
  for (let index = 0; index < entries.length; index++) {
    const first = entries[index]!;
    let last = index;
    while (entries[last + 1]?.words === first.words) last += 1;
    lines.push(...entryLines(first, width));
    if (last - index === 1) lines.push(...entryLines(entries[last]!, width));
    if (last - index > 1) {
      lines.push(...entryLines({ ...entries[last]!, words: `the same ${last - index} times more, last then` }, width));
    }
    index = last;
  }
  return lines;
}

function entryLines(entry: TimelineEntry, width: number): string[] {
  const digest = entry.evidence === undefined ? "" : `  ${dim(`[${short(entry.evidence)}]`)}`;
  return wrap(`  ${instantWords(entry.at).slice(0, 19)}  ${entry.words}${digest}`, width, 23);
}
