import { membersFor } from "./claims.ts";
import type { OpId } from "./events.ts";
import { type Finding, findingOf, isWaivedWhole, reasonsOf, waivedMembers } from "./finding.ts";
import type {
  ClaimName,
  Digest,
  ErrorData,
  Grade,
  Instant,
  Millis,
  Plan,
  Reason,
  StageName,
  StepRef,
} from "./model.ts";
import { quietUntil } from "./quiet.ts";
import { opKey, type Rotation, type StepState } from "./state.ts";
import { asked, isFinal, type Passage, type Stage, type Strategy } from "./strategies/strategy.ts";
import { strategies } from "./strategies/table.ts";

/** What to do next. At most one write per pass: look, decide, write down, do, look again. */
export type Move =
  /** Write down the intent, do it, read it back. `confirm`: only if the inventory still resolves to this epoch. */
  | {
      readonly move: "perform";
      readonly stage: StageName;
      readonly step: StepRef;
      readonly op: OpId;
      readonly attempt: number;
      readonly confirm?: Digest;
    }
  /** A crash lay between intent and outcome: find out what happened, without doing anything. */
  | { readonly move: "read back"; readonly stage: StageName; readonly step: StepRef; readonly op: OpId }
  /** Look at these members (absent: all) for these claims. */
  | {
      readonly move: "observe";
      readonly stage: StageName;
      readonly looks: readonly { readonly claim: ClaimName; readonly members?: readonly string[] }[];
    }
  /** The stage is over. `confirm` as above: a grade is about everybody who is there when it is given. */
  | { readonly move: "pass"; readonly stage: StageName; readonly epoch?: Digest; readonly confirm?: Digest }
  | { readonly move: "wait"; readonly stage: StageName; readonly until: Instant; readonly why: string }
  | { readonly move: "hold"; readonly stage: StageName; readonly reasons: readonly Reason[] }
  /** A step failed for good before anything irreversible: put everything back. */
  | { readonly move: "put back"; readonly why: string; readonly error: ErrorData }
  | { readonly move: "close"; readonly grade: Grade }
  /** `unseen`: waived, so not seen to have the old one back. */
  | { readonly move: "reverted"; readonly why: string; readonly unseen?: readonly string[] }
  | { readonly move: "ended" };

/** Before a hold, a claim is looked at this often: one lost packet is no reason to wake somebody. */
const looksBeforeHold = 3;

/** Pure and total: the same rotation at the same instant gives the same move. Linear in members and steps. */
export function decide(rotation: Rotation, now: Instant): Move {
  if (rotation.end !== undefined) return { move: "ended" };
  const strategy = strategies[rotation.plan.strategy];
  if (rotation.pending !== undefined) return readBack(rotation, rotation.pending);
  if (rotation.held !== undefined) return { move: "hold", stage: rotation.held.stage, reasons: rotation.held.reasons };
  if (goesBack(rotation)) return goBack(rotation, strategy, now, rotation.reverting!.reason);
  return goForward(rotation, strategy, now);
}

/** Asked to, and nothing irreversible was begun in the meantime: from then on the only whole state lies ahead. */
export const goesBack = (rotation: Rotation): boolean => rotation.reverting !== undefined && canPutBack(rotation);

function readBack(rotation: Rotation, op: OpId): Move {
  const step = rotation.steps.get(opKey(op))!;
  return { move: "read back", stage: stageOfOp(op), step: step.step, op };
}

/** The stage an op belongs to: `<credential>/<n>/<stage>/…`, with `undo-` before it on the way back. */
const stageOfOp = (op: OpId): StageName => op.split("/")[2]!.replace(/^undo-/, "") as StageName;

function goForward(rotation: Rotation, strategy: Strategy, now: Instant): Move {
  const stage = currentStage(rotation, now);
  if (stage === undefined) return { move: "close", grade: gradeOf(rotation, strategy) };
  return (
    nextStep(rotation, stage, stage.name, stage, now) ??
    soaking(rotation, stage, now) ??
    unmet(rotation, stage, stage.claims(rotation.plan), now) ??
    pass(stage, rotation.epoch)
  );
}

function pass(stage: Stage, epoch: Digest | undefined): Move {
  if (epoch === undefined) return { move: "pass", stage: stage.name };
  return { move: "pass", stage: stage.name, epoch, ...(stage.grade === undefined ? {} : { confirm: epoch }) };
}

/**
 * The first row of the table that applies to the plan and has not been passed. A grade is earned once: an old one that
 * expires after it was seen refused is not asked again (its key may be destroyed already).
 */
export function currentStage(rotation: Rotation, now: Instant): Stage | undefined {
  const table = strategies[rotation.plan.strategy];
  const passed = new Set(rotation.passed.map((entry) => entry.stage));
  const graded = table.some((stage) => stage.grade !== undefined && passed.has(stage.name));
  return table.find(
    (stage) => applies(stage, rotation.plan, now) && !passed.has(stage.name) && !(graded && stage.grade !== undefined),
  );
}

export const applies = (stage: Stage, plan: Plan, now: Instant): boolean => stage.when?.(plan, now) ?? true;

function gradeOf(rotation: Rotation, strategy: Strategy): Grade {
  if (rotation.plan.from === undefined) return "FIRST";
  const passed = new Set(rotation.passed.map((entry) => entry.stage));
  const graded = strategy.find((stage) => stage.grade !== undefined && passed.has(stage.name));
  if (graded?.grade === undefined) throw new Error(`no graded stage of ${rotation.id} was passed`);
  return graded.grade(rotation.plan);
}

export const opOf = (rotation: Rotation, prefix: string, step: StepRef, attempt: number): OpId =>
  `${rotation.id}/${prefix}/${step.kind}/${step.on}#${attempt}`;

/** The next of the passage's steps that is not done, with its guard; undefined when all are done. */
function nextStep(rotation: Rotation, stage: Stage, prefix: string, passage: Passage, now: Instant): Move | undefined {
  for (const step of passage.steps(rotation.plan)) {
    const state = rotation.steps.get(opKey(opOf(rotation, prefix, step, 1)));
    if (state?.doneAt !== undefined) continue;
    const failed = state === undefined ? undefined : afterFailure(rotation, stage, step, state, now);
    if (failed === "let it be") continue;
    if (failed !== undefined) return failed;
    const blocked = goesBack(rotation) ? undefined : guarded(rotation, stage, now);
    if (blocked !== undefined) return blocked;
    const attempt = (state?.attempts ?? 0) + 1;
    const op = opOf(rotation, prefix, step, attempt);
    const deciding = stage.guard !== undefined && !goesBack(rotation) && !stageBegun(rotation, stage);
    const confirm = deciding ? rotation.epoch : undefined;
    return { move: "perform", stage: stage.name, step, op, attempt, ...(confirm === undefined ? {} : { confirm }) };
  }
  return undefined;
}

/** What must hold at the moment of a stage's next step: a named approval where the old one is taken away or destroyed, and its guard. */
function guarded(rotation: Rotation, stage: Stage, now: Instant): Move | undefined {
  const { plan } = rotation;
  // A first issue takes nothing away from anybody.
  if (isFinal(stage) && plan.approval === "required" && plan.from !== undefined) {
    const approved = rotation.approvals.some((approval) => approval.plan === rotation.digest);
    if (!approved) return { move: "hold", stage: stage.name, reasons: [needsApproval(rotation, stage, now)] };
  }
  if (stage.guard === undefined) return undefined;
  const names = guardNow(rotation, stage, stage.guard(plan));
  if (names.length === 0) return undefined;
  if (plan.from !== undefined && now >= plan.from.notAfter - plan.timing.skew) return untilExpired(plan, stage);
  // A use seen after the quiet stage starts the window again: silence just now is not silence for its whole length.
  const disturbed = names.includes("silent") ? quietWindow(rotation, stage, now) : undefined;
  return disturbed ?? unmet(rotation, stage, names, now);
}

/**
 * Asked in full before the first step. What that step took away breaks corner A, so afterwards the rest is asked, and
 * only where somebody else took the rotation up in between: the findings of hours ago are no reason to take more away.
 */
function guardNow(rotation: Rotation, stage: Stage, names: readonly ClaimName[]): readonly ClaimName[] {
  if (!stageBegun(rotation, stage)) return names;
  const doneAt = stage.steps(rotation.plan).map((step) => stepState(rotation, stage, step)?.doneAt ?? 0);
  return rotation.takenUpAt > Math.max(...doneAt) ? names.filter((name) => name !== "acceptedOld") : [];
}

/** Clocks differ, so it is accepted here and refused there for a while; then it ends by its date and is seen to. */
const untilExpired = (plan: Plan, stage: Stage): Move => ({
  move: "wait",
  stage: stage.name,
  until: plan.from!.notAfter + plan.timing.skew,
  why: `g${plan.from!.number} expires ${new Date(plan.from!.notAfter).toISOString()}: there is nothing left to take away`,
});

const stepState = (rotation: Rotation, stage: Stage, step: StepRef): StepState | undefined =>
  rotation.steps.get(opKey(opOf(rotation, stage.name, step, 1)));

export function stageBegun(rotation: Rotation, stage: Stage): boolean {
  return stage.steps(rotation.plan).some((step) => {
    const state = stepState(rotation, stage, step);
    return state?.doneAt !== undefined || state?.pending !== undefined || mayHaveHappened(state);
  });
}

/** A try that was cut off and cannot be asked about: what it does is repeatable, but it may stand already. */
const mayHaveHappened = (state: StepState | undefined): boolean =>
  state?.failures.some((failure) => failure.error.retry === "read back") ?? false;

function needsApproval(rotation: Rotation, stage: Stage, now: Instant): Reason {
  return {
    about: rotation.plan.credential,
    verdict: "approval",
    what: `${stage.name} ${whatEnds(stage, rotation.plan)}, and the manifest asks for a named approval of plan ${rotation.digest}`,
    since: now,
    release: `gyre approve ${rotation.plan.credential} --by NAME`,
  };
}

const whatEnds = (stage: Stage, { from }: Plan): string =>
  stage.guard === undefined ? `destroys the key of g${from?.number}` : `takes g${from?.number} away`;

/** A failed try: again later, put back, hold, or (a reload while going back) leave it to the findings. */
function afterFailure(
  rotation: Rotation,
  stage: Stage,
  step: StepRef,
  state: StepState,
  now: Instant,
): Move | "let it be" | undefined {
  const last = state.failures.at(-1);
  if (last === undefined) return undefined;
  const sinceTakenUp = state.failures.filter((failure) => failure.at >= rotation.takenUpAt).length;
  const { attempts, poll } = rotation.plan.timing;
  const again =
    last.error.retry !== "never" ? sinceTakenUp < attempts : sinceTakenUp === 0 && !endsIt(rotation, step, last.error);
  if (again) {
    const until = last.at + poll * 2 ** Math.max(0, sinceTakenUp - 1);
    return sinceTakenUp > 0 && now < until
      ? { move: "wait", stage: stage.name, until, why: last.error.message }
      : undefined;
  }
  if (goesBack(rotation)) {
    // Whether a process took the old one back is seen on the wire; its reload command need not have succeeded.
    if (step.kind === "reload") return "let it be";
    return { move: "hold", stage: stage.name, reasons: [failedReason(step, last)] };
  }
  if (endsIt(rotation, step, last.error)) return { move: "put back", why: last.error.message, error: last.error };
  const reason = failedReason(step, last);
  const release = `start what reads ${step.on}, then gyre rotate ${rotation.plan.credential}`;
  const reasons = [isStartedWith(rotation, step) ? { ...reason, release } : reason];
  return { move: "hold", stage: stage.name, reasons };
}

/** Somebody's other write may have gone by the next time; the rest ends the rotation while it can be put back. */
const endsIt = (rotation: Rotation, step: StepRef, error: ErrorData): boolean =>
  error.code !== "conflict" &&
  rotation.reverting === undefined &&
  canPutBack(rotation) &&
  !isStartedWith(rotation, step);

/**
 * The reload after a first CRL or pin. A server cannot be started before the file is there, so nobody may be there to be
 * told; taking the file away again would never let it start.
 */
const isStartedWith = ({ plan }: Rotation, { kind, on }: StepRef): boolean =>
  plan.from === undefined &&
  kind === "reload" &&
  (plan.kind === "crl" || plan.trustStores.some((store) => store.id === on));

function failedReason(step: StepRef, failure: { at: Instant; error: ErrorData }): Reason {
  return {
    about: step.on,
    verdict: "failed",
    what: failure.error.message,
    since: failure.at,
    release: failure.error.next ?? "the cause is mended and the rotation is taken up again",
  };
}

/** Nothing irreversible was begun. */
export function canPutBack(rotation: Rotation): boolean {
  return strategies[rotation.plan.strategy].every((stage) => stage.undo !== "none" || !stageBegun(rotation, stage));
}

/** The quiet window, counted from adoption or the last disturbance. */
function soaking(rotation: Rotation, stage: Stage, now: Instant): Move | undefined {
  if (stage.soak === undefined) return undefined;
  return quietWindow(rotation, stage, now);
}

function quietWindow(rotation: Rotation, stage: Stage, now: Instant): Move | undefined {
  if (unheard(rotation, now)) return { move: "observe", stage: stage.name, looks: [{ claim: "silent" }] };
  const until = quietUntil(rotation);
  if (now >= until) return undefined;
  const silent = rotation.seen.get("silent");
  const disturbed = [...(silent?.values() ?? [])].filter((seen) => seen.saw !== "yes" && seen.at >= rotation.takenUpAt);
  const { quiet, timing } = rotation.plan;
  const overdue = stageStart(rotation) + quiet.window + timing.patience;
  if (disturbed.length > 0 && now >= overdue && !endsSoon(rotation, until - now)) {
    // Only the disturbed ones: the others are not due before the window ends.
    const finding = { ...findingOf(rotation, "silent", now), missing: [] };
    return { move: "hold", stage: stage.name, reasons: reasonsOf(rotation, finding, now) };
  }
  return { move: "wait", stage: stage.name, until, why: `quiet window: ${quiet.why}` };
}

/** So long a remainder of a quiet window is waited for in one run, whatever its runner's limit (a minute, by default). */
const shortRemainder: Millis = 30_000;

/**
 * A runner that takes a rotation up finds what happened before it came: a use while the rotation was held, a sensor that
 * was mended. Where the window that this began again ends soon it is waited for, once, and nobody is called.
 */
function endsSoon(rotation: Rotation, remainder: Millis): boolean {
  const looks = rotation.rounds.filter((round) => round.claim === "silent" && round.at >= rotation.takenUpAt);
  return looks.length === 1 && remainder <= Math.min(shortRemainder, rotation.plan.timing.patience);
}

/** A sensor's silence counts from a moment it was proven alive, so each is looked at when its window begins, not only at its end. */
function unheard(rotation: Rotation, now: Instant): boolean {
  const { plan, inventory } = rotation;
  if (asked(plan, "silent").length === 0) return false;
  if (inventory === undefined) return true;
  const waived = waivedMembers(rotation, "silent", now);
  const looks = rotation.seen.get("silent");
  return membersFor("silent", plan, inventory).some(({ id }) => !waived.has(id) && looks?.has(id) !== true);
}

/** When the current stage was entered. */
const stageStart = (rotation: Rotation): Instant => rotation.passed.at(-1)?.at ?? rotation.plannedAt;

/** Since when the current stage waits for its findings: its last step, or the passing of the stage before it. */
function waitingSince(rotation: Rotation): Instant {
  let since = Math.max(stageStart(rotation), rotation.reverting?.at ?? 0);
  for (const step of rotation.steps.values()) since = Math.max(since, step.doneAt ?? 0);
  return since;
}

/** What must happen while one of the claims is not met; undefined when all hold. */
function unmet(rotation: Rotation, stage: Stage, names: readonly ClaimName[], now: Instant): Move | undefined {
  const findings = names.map((name) => findingOf(rotation, name, now));
  const open = findings.filter((finding) => finding.verdict !== "holds");
  if (open.length === 0) return undefined;
  const { patience, poll } = rotation.plan.timing;
  const looks = (claim: ClaimName) =>
    rotation.rounds.filter((round) => round.claim === claim && round.at >= rotation.takenUpAt);
  const unseen = open.filter(
    (finding) => finding.epoch === undefined || finding.missing.length > 0 || looks(finding.claim).length === 0,
  );
  if (unseen.length > 0) return observe(stage, unseen);
  const lastLook = Math.max(rotation.takenUpAt, ...open.map((finding) => looks(finding.claim).at(-1)?.at ?? 0));
  // Bad for longer than the patience over as many short runs as it took, and just seen to be so, is as good as three looks.
  const known = (finding: Finding): boolean => now - badSince(rotation, finding) >= patience && now < lastLook + poll;
  const tooFew = open.some((finding) => looks(finding.claim).length < looksBeforeHold && !known(finding));
  const patient = now - waitingSince(rotation) < patience || tooFew;
  if (!patient) {
    return { move: "hold", stage: stage.name, reasons: open.flatMap((finding) => reasonsOf(rotation, finding, now)) };
  }
  if (now < lastLook + poll) {
    const first = open[0]!;
    return {
      move: "wait",
      stage: stage.name,
      until: lastLook + poll,
      why: `${first.claim}: ${first.exceptions[0]?.what ?? first.obstacle ?? ""}`,
    };
  }
  return observe(stage, open);
}

/** Since when every look has shown what keeps the finding from holding, over as many runs as it took. */
function badSince(rotation: Rotation, finding: Finding): Instant {
  const counted = finding.obstacle === undefined ? 0 : rotation.inventoryAt;
  return finding.exceptions.reduce((latest, seen) => Math.max(latest, seen.since), counted);
}

function observe(stage: Stage, findings: readonly Finding[]): Move {
  const looks = findings.map((finding) => {
    const members = [...finding.missing, ...finding.exceptions.map((seen) => seen.member)];
    const partial = members.length > 0 && members.length < finding.counts.total;
    return { claim: finding.claim, ...(partial ? { members } : {}) };
  });
  return { move: "observe", stage: stage.name, looks };
}

/** Undo, last stage first: each stage's way back, then the findings that show it worked; at the end all of them once more. */
function goBack(rotation: Rotation, strategy: Strategy, now: Instant, why: string): Move {
  const ways = strategy
    .filter((stage) => stageBegun(rotation, stage))
    .reverse()
    .flatMap((stage) => wayBack(rotation, stage));
  // Nothing is taken away on the way back: where everybody was waived by name, nobody need be seen for it.
  const claimsOf = ({ way }: WayBack): readonly ClaimName[] =>
    showable(way.claims(rotation.plan), rotation.plan, now).filter((name) => !isWaivedWhole(rotation, name, now));
  for (const [index, one] of ways.entries()) {
    const next = nextStep(rotation, one.stage, undoPrefix(one.stage), one.way, now);
    if (next !== undefined) return next;
    // The next way back was begun on these findings; its own effects outdate them, and the end asks again.
    if (ways.slice(index + 1).some((later) => isBegun(rotation, later))) continue;
    const open = unmet(rotation, one.stage, claimsOf(one), now);
    if (open !== undefined) return open;
  }
  const [first] = ways;
  const all = [...new Set(ways.flatMap(claimsOf))];
  const open = first === undefined ? undefined : unmet(rotation, first.stage, all, now);
  if (open !== undefined) return open;
  const asked = ways.flatMap(({ way }) => showable(way.claims(rotation.plan), rotation.plan, now));
  const unseen = [...new Set(asked.flatMap((name) => [...waivedMembers(rotation, name, now)]))];
  return { move: "reverted", why, ...(unseen.length === 0 ? {} : { unseen }) };
}

interface WayBack {
  readonly stage: Stage;
  readonly way: Passage;
}

const undoPrefix = (stage: Stage): string => `undo-${stage.name}`;

function wayBack(rotation: Rotation, stage: Stage): WayBack[] {
  const { undo } = stage;
  if (undo === "none") return [];
  return [{ stage, way: { claims: undo.claims, steps: (plan) => undoable(rotation, stage, plan) } }];
}

const isBegun = (rotation: Rotation, { stage, way }: WayBack): boolean =>
  way.steps(rotation.plan).some((step) => rotation.steps.has(opKey(opOf(rotation, undoPrefix(stage), step, 1))));

/** An old one that expired is put back where it was, but nobody can be asked to take it. */
const showable = (names: readonly ClaimName[], { from }: Plan, now: Instant): readonly ClaimName[] =>
  from === undefined || now < from.notAfter ? names : names.filter((name) => name === "restored");

/** Only what was begun is put back: a target that was never written is not restored. */
function undoable(rotation: Rotation, stage: Stage, plan: Plan): readonly StepRef[] {
  if (stage.undo === "none") return [];
  const forward = { restore: "deliver", withdraw: "admit", admit: "withdraw" } as const;
  const touched = (step: StepRef): boolean => {
    const kind = forward[step.kind as keyof typeof forward];
    if (kind === undefined) return true;
    const state = stepState(rotation, stage, { ...step, kind });
    return state?.doneAt !== undefined || mayHaveHappened(state);
  };
  return stage.undo.steps(plan).filter(touched);
}
