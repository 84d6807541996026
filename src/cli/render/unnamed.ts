import type { Instant } from "../../engine/model.ts";
import type { Diagnosis, UnnamedJournal } from "../../runtime/api.ts";
import { wrap } from "../layout.ts";
import { bold, dim } from "../paint.ts";
import { commandWords, count, minuteWords } from "../words.ts";
import { stateWords } from "./status.ts";

/** What there is of a journal that no manifest names, how bad that is, and what to do about it. */
export function unnamedDiagnosis(journal: UnnamedJournal, now: Instant): Diagnosis {
  const { name, active, problem } = journal;
  const about = "journal";
  const start = `no manifest given names ${name}`;
  if (problem !== undefined)
    return { level: "warning", about, what: `${start}, and its journal cannot be read: ${problem}` };
  if (active !== undefined) {
    return {
      level: "warning",
      about,
      what: `${start}, and ${active.id} (g${active.plan.from?.number ?? "-"} -> g${active.plan.to}) is not over: ${stateWords(journal, now)}${liveWords(journal, now)}`,
      next: `call the credential ${name} again (metadata.name), then ${commandWords("rotate", name)} or ${commandWords("revert", name, "--reason", "...")}; rename it after that`,
    };
  }
  const live = liveWords(journal, now);
  if (live !== "") {
    const next = `call it ${name} again to go on with its history; or keep the journal until they expire`;
    return { level: "warning", about, what: `${start}; nothing is under way${live}`, next };
  }
  const next = "the journal is history: it may be moved away, and is needed only to compare receipts with it";
  return { level: "note", about, what: `${start}; nothing is under way, and none of its generations is live`, next };
}

/** Those still accepted somewhere. */
function liveWords({ current, outstanding, orphans }: UnnamedJournal, now: Instant): string {
  const live = [...(current !== undefined && current.notAfter > now ? [current] : []), ...outstanding];
  const named = live.map(({ number, notAfter }) => `g${number} until ${minuteWords(notAfter)} UTC`);
  return [
    named.length === 0 ? "" : `; live: ${named.join(", ")}`,
    orphans === 0 ? "" : `; ${count(orphans, "orphan")}`,
  ].join("");
}

/** Below the table of those that manifests name. */
export function unnamedLines(journals: readonly UnnamedJournal[], now: Instant, width: number): string[] {
  if (journals.length === 0) return [];
  return [
    "",
    dim("JOURNALS WITHOUT A MANIFEST"),
    ...journals.flatMap((journal) => {
      const { what, next } = unnamedDiagnosis(journal, now);
      return [
        ...wrap(`${bold(journal.name)}: ${what}`, width, 2),
        ...(next === undefined ? [] : wrap(`  next: ${next}`, width, 4)),
      ];
    }),
  ];
}
