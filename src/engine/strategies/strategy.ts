import { partiesFor } from "../claims.ts";
import type { ClaimName, Grade, Instant, Millis, Party, Plan, StageName, StepKind, StepRef } from "../model.ts";

/** What a stage does, or what undoing it does: effects in order, then the findings that let it pass. */
export interface Passage {
  readonly steps: (plan: Plan) => readonly StepRef[];
  readonly claims: (plan: Plan) => readonly ClaimName[];
}

/** A row of a strategy's table. The one loop in decide.ts runs every table. */
export interface Stage extends Passage {
  readonly name: StageName;
  /** Rows that do not apply to a plan are passed over without an event. */
  readonly when?: (plan: Plan, now: Instant) => boolean;
  /** Must hold, unexpired and in one epoch, at the moment of each of the stage's steps (I4). */
  readonly guard?: (plan: Plan) => readonly ClaimName[];
  /** The quiet window: the stage cannot pass before the old was undisturbed for this long. */
  readonly soak?: (plan: Plan) => Millis;
  /** How to take the stage back; "none" where there is no way back. */
  readonly undo: Passage | "none";
  /** The grade a rotation has earned once this stage passed. */
  readonly grade?: (plan: Plan) => Grade;
}

export type Strategy = readonly Stage[];

/** It takes the old one away, or has no way back: what a manifest may want a named approval for (I9). */
export const isFinal = (stage: Stage): boolean => stage.guard !== undefined || stage.undo === "none";

export const nothing: Passage = { steps: () => [], claims: () => [] };

/** One step per party. */
export const each = (kind: StepKind, parties: readonly Party[], generation: number): StepRef[] =>
  parties.map((party) => ({ kind, on: party.id, generation }));

/** Processes that must be told; one that watches its files, or is only restarted, is not told anything. */
export const reloads = (parties: readonly Party[], generation: number): StepRef[] =>
  each(
    "reload",
    parties.filter((party) => party.facts.reload === "command" || party.facts.reload === "signal"),
    generation,
  );

/** Those of the claims that quantify over at least one party of the plan; a claim over nothing is never asked (I13). */
export const asked = (plan: Plan, ...names: ClaimName[]): ClaimName[] =>
  names.filter((name) => partiesFor(name, plan).length > 0);

export const old = (plan: Plan): number => plan.from?.number ?? 0;
