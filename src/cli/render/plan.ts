import { claims, generationOf } from "../../engine/claims.ts";
import type { ClaimName, Instant, Plan } from "../../engine/model.ts";
import { isFinal, type Stage } from "../../engine/strategies/strategy.ts";
import { strategies } from "../../engine/strategies/table.ts";
import type { Planned } from "../../runtime/api.ts";
import { wrap } from "../layout.ts";
import { bold, dim, held } from "../paint.ts";
import {
  commandWords,
  dueSentence,
  gradeWords,
  short,
  spanWords,
  stageSentence,
  stepWords,
  strategyWords,
} from "../words.ts";

/** What a rotation would do, stage by stage. `now` decides what is due, nothing else. */
export function planLines(name: string, planned: Planned, now: Instant, width: number): string[] {
  const lines: string[] = [];
  const add = (text: string, hang = 2) => lines.push(...wrap(text, width, hang));
  const { plan } = planned;
  if (planned.underWay !== undefined)
    add(`${bold(name)}  ${held("under way")}: ${planned.underWay}; this is its plan, written down when it began`);
  else add(`${bold(name)}  ${dueSentence(planned.due, now)}`);
  if (plan === undefined) {
    if (planned.due.action === "impossible") add(`  next: ${planned.due.next}`, 4);
    add(
      `  nothing would be done; to see what a rotation would do all the same: ${commandWords("plan", name, "--now")}`,
      4,
    );
    return lines;
  }
  add(`  ${move(plan)}   ${plan.strategy}: ${strategyWords[plan.strategy]}`, 4);
  add(`  from ${plan.issuer.id}: ${requestWords(plan)}`, 4);
  lines.push("");
  const stages = strategies[plan.strategy].filter(
    (stage) => planned.stages.includes(stage.name) && stage.name !== "planned",
  );
  for (const [index, stage] of stages.entries()) lines.push(...stageLines(stage, index + 1, plan, width));
  lines.push("");
  add(`  grade   ${bold(plan.grade.reachable)}: ${gradeWords(plan.grade.reachable, oldName(plan), plan.kind)}`, 10);
  add(`          ${plan.grade.why}`, 10);
  if (planned.stages.includes("quiet")) add(`  quiet   ${spanWords(plan.quiet.window)}: ${plan.quiet.why}`, 10);
  if (plan.approval === "required" && plan.from !== undefined)
    add(
      `  ask     waits before ${stages.find(isFinal)?.name ?? "closed"} for a named approval: ${commandWords("approve", name, "--by", "NAME")}`,
      10,
    );
  for (const notice of [...(planned.notes ?? []), ...plan.notices]) add(`  note    ${notice}`, 10);
  if (planned.digest !== undefined) lines.push(dim(`  digest  ${planned.digest}`));
  add(
    planned.underWay === undefined
      ? `nothing was written; to do it: ${commandWords("rotate", name, ...(planned.due.action === "rotate" ? [] : ["--now"]))}`
      : `to go on: ${commandWords("rotate", name)}`,
  );
  return lines;
}

const oldName = (plan: Plan): string | undefined => (plan.from === undefined ? undefined : `g${plan.from.number}`);

const move = (plan: Plan): string =>
  plan.from === undefined ? `-> g${plan.to}` : `g${plan.from.number} (${short(plan.from.fingerprint)}) -> g${plan.to}`;

function requestWords(plan: Plan): string {
  const { request } = plan;
  const what =
    request.kind === "crl"
      ? "a CRL"
      : `${request.algorithm}, ${[request.subject, ...request.names].filter((text) => text !== "").join(", ")}`;
  return `${what}, ${spanWords(request.lifetime)}`;
}

function stageLines(stage: Stage, number: number, plan: Plan, width: number): string[] {
  const lines = wrap(
    `  ${String(number).padStart(2)}  ${bold(stage.name)}${" ".repeat(Math.max(1, 12 - stage.name.length))}${stageSentence(stage.name, plan.kind)}`,
    width,
    18,
  );
  const add = (text: string) => lines.push(...wrap(`      ${text}`, width, 15));
  const guard = stage.guard?.(plan) ?? [];
  if (guard.length > 0) add(`only if  ${guard.map((claim) => claimWords(claim, plan)).join("; ")}`);
  for (const step of stage.steps(plan)) add(`do       ${stepWords(step)}`);
  if (stage.soak !== undefined)
    add(`wait     ${spanWords(stage.soak(plan))} without a use of ${oldName(plan) ?? "the old one"}`);
  for (const claim of stage.claims(plan)) add(`until    ${claimWords(claim, plan)}`);
  if (stage.undo === "none") add("note     there is no way back from here");
  return lines;
}

/** `all replicas present g4`. */
export function claimWords(name: ClaimName, plan: Plan): string {
  const claim = claims[name];
  return `all ${claim.noun} ${claim.words[0]} g${generationOf(name, plan)}`;
}
