import type { Receipt } from "../../receipt/statement.ts";
import type { ReceiptJudgement } from "../../receipt/verify.ts";
import { wrap } from "../layout.ts";
import { bad, bold, dim, good, held } from "../paint.ts";
import { commandWords, count, gradeWords, short, spanWords } from "../words.ts";

const styles = { VERIFIED: good, UNPINNED: held, BROKEN: bad } as const;

/** The verdict on a receipt, why, and what it says in short. */
export function receiptLines(file: string, judged: ReceiptJudgement, width: number): string[] {
  const lines: string[] = [];
  const add = (text: string, hang: number) => lines.push(...wrap(text, width, hang));
  add(`${styles[judged.verdict](judged.verdict)}  ${file}`, 2);
  for (const problem of judged.problems) add(`  ${bad("wrong")}   ${problem}`, 10);
  const receipt = judged.statement?.predicate;
  if (receipt !== undefined) lines.push(...essentials(receipt, judged.verdict, width));
  for (const note of judged.notes) add(`  note    ${note}`, 10);
  if (judged.verdict === "UNPINNED") {
    for (const signer of receipt?.signers ?? [])
      add(
        `  next: compare the key with a copy you trust, then: ${commandWords("verify", file, "--key", signer.keyId)}`,
        4,
      );
  }
  if (judged.verdict === "BROKEN") add("  next: do not rely on it; get it again from where it was kept", 4);
  return lines;
}

function essentials(receipt: Receipt, verdict: ReceiptJudgement["verdict"], width: number): string[] {
  const lines: string[] = [];
  const add = (name: string, text: string) => lines.push(...wrap(`  ${dim(name.padEnd(8))}${text}`, width, 10));
  if (verdict === "BROKEN") lines.push(...wrap(`  it says the following, which is not to be believed:`, width, 4));
  const { before, after } = receipt;
  const move = before === undefined ? `-> g${after.number}` : `g${before.number} -> g${after.number}`;
  add(
    "what",
    `${bold(receipt.credential)}  ${move}   ${receipt.strategy}, ${receipt.outcome} ${utc(receipt.closedAt)}`,
  );
  const old = before === undefined ? undefined : `g${before.number}`;
  add("grade", `${bold(receipt.grade)}: ${gradeWords(receipt.grade, old, after.kind)}`);
  add("why", receipt.why);
  if (before !== undefined)
    add("old", `${short(before.fingerprint)} serial ${before.serial}, until ${utc(before.notAfter)}`);
  add(
    "new",
    `${short(after.fingerprint)} serial ${after.serial}, ${after.algorithm}, by ${after.issuer}, until ${utc(after.notAfter)}`,
  );
  const { target, presenter, verifier } = receipt.scope.counts;
  add("scope", [count(target, "target"), count(presenter, "replica"), count(verifier, "verifier")].join(", "));
  for (const member of receipt.verdicts) add("verdict", `${member.member} ${member.verdict}: ${member.what}`);
  const sensors = receipt.quiet.sensors.length === 0 ? "no sensor" : count(receipt.quiet.sensors.length, "sensor");
  const waited = receipt.timeline.some(({ stage }) => stage === "quiet");
  if (waited && receipt.quiet.window > 0) add("quiet", `${spanWords(receipt.quiet.window)}, ${sensors}`);
  for (const waiver of receipt.waivers) add("waived", waiverWords(waiver));
  for (const unknown of receipt.unknowns) add("unknown", `${unknown.about}: ${unknown.what}`);
  for (const failure of receipt.failures) add("failure", `${utc(failure.at)}: ${failure.message}`);
  for (const orphan of receipt.orphans)
    add(
      "orphan",
      `${orphan.serial === undefined ? "perhaps one" : `serial ${orphan.serial}`}: ${orphan.why} (until ${utc(orphan.expires)})`,
    );
  add("old key", `${receipt.oldKey.disposition}: ${receipt.oldKey.what}`);
  for (const gap of receipt.notProvable) add("unshown", gap);
  return lines;
}

function waiverWords({ member, claim, by, reason, expires, withdrawn }: Receipt["waivers"][number]): string {
  const end =
    withdrawn === undefined
      ? `until ${utc(expires)}`
      : `withdrawn ${utc(withdrawn.at)} by ${withdrawn.by}: ${withdrawn.reason}`;
  return `${member}${claim === undefined ? "" : ` for ${claim}`} by ${by}: ${reason} (${end})`;
}

const utc = (timestamp: string): string => `${timestamp.slice(0, 16).replace("T", " ")} UTC`;
