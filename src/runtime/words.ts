import { countedWords, generationOf } from "../engine/claims.ts";
import { findingOf } from "../engine/finding.ts";
import type { ClaimName, Instant, Reason, StageName } from "../engine/model.ts";
import type { Rotation } from "../engine/state.ts";
import { strategies } from "../engine/strategies/table.ts";

function counted(rotation: Rotation, claim: ClaimName, now: Instant): string {
  const { counts } = findingOf(rotation, claim, now);
  const about = generationOf(claim, rotation.plan);
  const waived = counts.waived === 0 ? "" : ` (${counts.waived} waived)`;
  return `${countedWords(claim, counts, about)}${waived}`;
}

/** `2/2 targets hold g4`, or what the stage's steps did. */
export function passedWords(rotation: Rotation, stage: StageName, now: Instant): string {
  const asked = [
    ...new Set(
      rotation.rounds
        .filter((round) => claimsOfStage(rotation, stage).includes(round.claim))
        .map((round) => round.claim),
    ),
  ];
  if (asked.length > 0) return asked.map((claim) => counted(rotation, claim, now)).join(", ");
  const did = [...rotation.steps]
    .filter(([key]) => key.startsWith(`${rotation.id}/${stage}/`))
    .map(([, step]) => step.did ?? "");
  if (stage === "quiet")
    return `the old one was left alone for ${Math.round(rotation.plan.quiet.window / 1000)} s (${rotation.plan.quiet.why})`;
  return did.join("; ");
}

export const heldWords = (rotation: Rotation, reasons: readonly Reason[], now: Instant): string => {
  const named = [...new Set(reasons.flatMap((reason) => (reason.claim === undefined ? [] : [reason.claim])))];
  return named.map((claim) => counted(rotation, claim, now)).join(", ");
};

function claimsOfStage(rotation: Rotation, stage: StageName): readonly string[] {
  return strategies[rotation.plan.strategy].find((row) => row.name === stage)?.claims(rotation.plan) ?? [];
}
