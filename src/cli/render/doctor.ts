import type { Diagnosis } from "../../runtime/api.ts";
import { wrap } from "../layout.ts";
import { bad, bold, good, held } from "../paint.ts";
import { count } from "../words.ts";

const marks: Readonly<Record<Diagnosis["level"], readonly [mark: string, style: (text: string) => string]>> = {
  ok: ["ok", good],
  note: ["note", (text) => text],
  warning: ["warn", held],
  problem: ["BAD", bad],
};

/** One credential against reality, problems where they stand, and a sentence that sums up. */
export function doctorLines(name: string, found: readonly Diagnosis[], width: number): string[] {
  const lines = [bold(name)];
  for (const { level, about, what, next } of found) {
    const [mark, style] = marks[level];
    lines.push(...wrap(`  ${style(mark)}${" ".repeat(6 - mark.length)}${about}: ${what}`, width, 10));
    if (next !== undefined) lines.push(...wrap(`        next: ${next}`, width, 10));
  }
  const problems = found.filter((diagnosis) => diagnosis.level === "problem").length;
  const warnings = found.filter((diagnosis) => diagnosis.level === "warning").length;
  const sum = problems > 0 ? bad(`${count(problems, "problem")} to solve first`) : good("nothing stands in the way");
  lines.push(`  ${sum}${warnings > 0 ? `, ${count(warnings, "warning")}` : ""}`);
  return lines;
}
