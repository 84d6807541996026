import { claims, countedWords } from "../engine/claims.ts";
import type { Event, Recorded } from "../engine/events.ts";
import type { Generation, Instant } from "../engine/model.ts";
import type { Lineage } from "../engine/state.ts";
import type { TimelineEntry } from "./api.ts";

/** Generations that were not seen refused, were once in use, and have not expired: live credentials nobody needs. */
export function outstandingOf(lineage: Lineage, now: Instant): Generation[] {
  const ended = new Set<number>();
  const wasInUse = new Set<number>();
  for (const rotation of lineage.rotations) {
    if (rotation.end?.how !== "closed" || rotation.plan.from === undefined) continue;
    wasInUse.add(rotation.plan.from.number);
    if (rotation.end.grade === "REFUSED" || rotation.end.grade === "DENIED") ended.add(rotation.plan.from.number);
  }
  return [...lineage.generations.values()].filter(
    (generation) =>
      wasInUse.has(generation.number) &&
      !ended.has(generation.number) &&
      generation.notAfter > now &&
      generation.number !== lineage.current,
  );
}

/** The journal in words, one line per entry that a person would ask about. */
export function timelineOf(entries: readonly Recorded[]): TimelineEntry[] {
  let rotation: string | undefined;
  return entries.flatMap(({ seq, at, event }) => {
    if (event.type === "RotationPlanned") rotation = event.rotation;
    const words = wordsFor(event);
    if (words === undefined) return [];
    const evidence = "evidence" in event ? event.evidence : undefined;
    const entry = {
      seq,
      at,
      words,
      ...(rotation === undefined ? {} : { rotation }),
      ...(evidence === undefined ? {} : { evidence }),
    };
    if (event.type === "RotationClosed" || event.type === "RotationReverted") rotation = undefined;
    return [entry];
  });
}

function wordsFor(event: Event): string | undefined {
  switch (event.type) {
    case "GenerationAdopted":
      return `found g${event.generation.number} (serial ${event.generation.serial}) in place at ${event.foundAt}`;
    case "RotationPlanned":
      return `planned ${from(event.plan.from)} -> g${event.plan.to} by ${event.plan.strategy}: ${event.plan.reason}; reachable ${event.plan.grade.reachable}`;
    case "RunnerStarted":
      return `taken up by ${event.runner}`;
    case "InventoryResolved":
      return `inventory: ${inventoryWords(event)}`;
    case "StepIntended":
      return undefined;
    case "StepDone":
      return `${event.did}${event.readBack ? " (found by reading back after an interruption)" : ""}`;
    case "StepFailed":
      return `failed: ${event.error.message}`;
    case "Observed":
      return observedWords(event);
    case "StagePassed":
      return `${event.stage}`;
    case "Held":
      return `held at ${event.stage}: ${event.reasons.map((reason) => `${reason.about} ${reason.what}`).join("; ")}`;
    case "Waived":
      return `${event.member} waived${event.claim === undefined ? "" : ` for ${event.claim}`} by ${event.by} until ${new Date(event.expires).toISOString()}: ${event.reason}`;
    case "WaiverWithdrawn":
      return `${event.member}: waiver${event.claim === undefined ? "s" : ` for ${event.claim}`} withdrawn by ${event.by}: ${event.reason}`;
    case "Approved":
      return `approved by ${event.by}`;
    case "RevertRequested":
      return `going back, asked for by ${event.by}: ${event.reason}`;
    case "Orphaned":
      return `an issued one is in nobody's use (${event.why}) until ${new Date(event.expires).toISOString()}`;
    case "RotationClosed":
      return `closed ${event.grade}`;
    case "RotationReverted":
      return `put back: ${event.why}`;
    case "ReceiptWritten":
      return `receipt ${event.index} written`;
    default:
      return event satisfies never;
  }
}

const from = (generation: Generation | undefined): string =>
  generation === undefined ? "nothing" : `g${generation.number}`;

function inventoryWords({ inventory }: Event & { type: "InventoryResolved" }): string {
  const counts = Object.entries(inventory.members).flatMap(([role, members]) =>
    members.length === 0 ? [] : [`${members.length} ${role}${members.length === 1 ? "" : "s"}`],
  );
  return [...counts, ...inventory.unresolved.map(({ of, why }) => `${of} could not be counted (${why})`)].join(", ");
}

function observedWords(event: Event & { type: "Observed" }): string {
  const { yes, no, unknown } = event.counts;
  const exceptions = event.exceptions.map((sighting) => `${sighting.member} ${sighting.what}`);
  const { noun, words } = claims[event.claim];
  const total = yes + no + unknown;
  // A round may look again at those alone that were missing: `0/1 replicas` would read as if there were no more.
  const counted =
    event.covers === undefined
      ? countedWords(event.claim, { yes, total }, event.generation)
      : `${yes} of the ${total} ${noun} looked at ${words[0]} g${event.generation}`;
  return [counted, ...exceptions].join("; ");
}
