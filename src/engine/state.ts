import { claims, membersFor } from "./claims.ts";
import type { Event, OpId, Recorded, RotationId, Sighting } from "./events.ts";
import type {
  ClaimName,
  Digest,
  ErrorData,
  Generation,
  Grade,
  Instant,
  Inventory,
  Member,
  Plan,
  Reason,
  Role,
  StageName,
  StepRef,
} from "./model.ts";
import { sayMillis } from "./time-words.ts";

/** The latest look at one member for one claim. */
export interface Seen extends Sighting {
  /** When it was looked at, at the earliest: what was seen may have changed from then on. */
  readonly at: Instant;
  /** When it was told. */
  readonly toldAt: Instant;
  /** The entry that told of it. */
  readonly seq: number;
  /** Since when this same verdict has been seen without a break. */
  readonly since: Instant;
}

/** One effect over all its tries. */
export interface StepState {
  readonly step: StepRef;
  /** Intended and neither done nor failed: a crash lay between, or it is being done right now. */
  readonly pending?: OpId;
  /** When its latest try was intended. */
  readonly intendedAt: Instant;
  readonly doneAt?: Instant;
  readonly did?: string;
  readonly readBack?: boolean;
  readonly evidence?: Digest;
  readonly failures: readonly { readonly at: Instant; readonly error: ErrorData; readonly op: OpId }[];
  readonly attempts: number;
}

export interface Round {
  readonly seq: number;
  readonly at: Instant;
  readonly claim: ClaimName;
  readonly epoch: Digest;
  readonly counts: { readonly yes: number; readonly no: number; readonly unknown: number };
  readonly exceptions: readonly Sighting[];
  readonly evidence: Digest;
}

export interface Waiver {
  readonly member: string;
  readonly claim?: ClaimName;
  readonly by: string;
  readonly reason: string;
  readonly expires: Instant;
  readonly at: Instant;
  readonly withdrawn?: { readonly by: string; readonly reason: string; readonly at: Instant };
}

export type End =
  | { readonly how: "closed"; readonly at: Instant; readonly grade: Grade }
  | { readonly how: "reverted"; readonly at: Instant; readonly why: string };

/** One move g(n) -> g(n+1), as far as the journal tells. */
export interface Rotation {
  readonly id: RotationId;
  readonly plan: Plan;
  readonly digest: Digest;
  readonly plannedAt: Instant;
  passed: { stage: StageName; at: Instant; seq: number }[];
  /** By op without its attempt: `<rotation>/<stage>/<kind>/<on>`. */
  steps: Map<string, StepState>;
  /** The op that is intended and not yet known to have happened. At most one (one writer, one write per pass). */
  pending: OpId | undefined;
  epoch: Digest | undefined;
  inventory: Inventory | undefined;
  /** When it was found to be as it is. */
  inventoryAt: Instant;
  /** Who was in it during the rotation and is no longer, by role and id: nobody waived them. */
  left: Map<string, { readonly role: Role; readonly id: string }>;
  seen: Map<ClaimName, Map<string, Seen>>;
  rounds: Round[];
  /** The latest entry that told of a change to what members hold, trust or run: looks from before it say nothing of now. */
  changedSeq: number;
  /** When a runner last took this up; negative looks from before are looked at again. */
  takenUpAt: Instant;
  /** The latest seen use of the old generation, or the end of a sensor's gap. */
  disturbedAt: Instant | undefined;
  held: { stage: StageName; reasons: readonly Reason[]; at: Instant } | undefined;
  holds: { stage: StageName; reasons: readonly Reason[]; at: Instant }[];
  waivers: Waiver[];
  approvals: { by: string; plan: Digest; at: Instant }[];
  reverting: { by: string; reason: string; at: Instant } | undefined;
  end: End | undefined;
}

/** Everything the journal of one credential says. */
export interface Lineage {
  seq: number;
  generations: Map<number, Generation>;
  /** The generation in use: the `to` of the last closed rotation, or the one found in place. */
  current: number | undefined;
  destroyed: Set<number>;
  orphans: { generation: Generation | undefined; why: string; expires: Instant; at: Instant }[];
  rotations: Rotation[];
  /** The rotation that is under way; at most one. */
  active: Rotation | undefined;
  receipts: { rotation: RotationId; digest: Digest; index: number; at: Instant }[];
}

export const emptyLineage = (): Lineage => ({
  seq: 0,
  generations: new Map(),
  current: undefined,
  destroyed: new Set(),
  orphans: [],
  rotations: [],
  active: undefined,
  receipts: [],
});

/** Thrown by `evolve` for an event that cannot follow what came before: the journal is not one of ours. */
export class IllegalEvent extends Error {
  readonly seq: number;
  constructor(seq: number, why: string) {
    super(`entry ${seq}: ${why}`);
    this.seq = seq;
  }
}

export const opKey = (op: OpId): string => op.slice(0, op.lastIndexOf("#"));

/** Folds one entry into the lineage, in place. Throws IllegalEvent and leaves the lineage unusable when it cannot follow. */
export function evolve(lineage: Lineage, entry: Recorded): Lineage {
  if (entry.seq !== lineage.seq + 1) throw new IllegalEvent(entry.seq, `follows ${lineage.seq}`);
  lineage.seq = entry.seq;
  const { event, at } = entry;
  if (event.type === "GenerationAdopted") return adopt(lineage, event, entry.seq);
  if (event.type === "ReceiptWritten") {
    lineage.receipts.push({ rotation: event.rotation, digest: event.digest, index: event.index, at });
    return lineage;
  }
  if (event.type === "RotationPlanned") return plan(lineage, event, at, entry.seq);
  if (event.type === "Orphaned" && lineage.active === undefined) {
    lineage.orphans.push({ generation: event.generation, why: event.why, expires: event.expires, at });
    return lineage;
  }
  const rotation = lineage.active;
  if (rotation === undefined) throw new IllegalEvent(entry.seq, `${event.type} without a rotation under way`);
  inRotation(lineage, rotation, event, at, entry.seq);
  return lineage;
}

export function fold(entries: readonly Recorded[]): Lineage {
  return entries.reduce(evolve, emptyLineage());
}

function adopt(lineage: Lineage, event: Event & { type: "GenerationAdopted" }, seq: number): Lineage {
  if (lineage.active !== undefined) throw new IllegalEvent(seq, "GenerationAdopted during a rotation");
  lineage.generations.set(event.generation.number, event.generation);
  lineage.current = event.generation.number;
  return lineage;
}

function plan(lineage: Lineage, event: Event & { type: "RotationPlanned" }, at: Instant, seq: number): Lineage {
  if (lineage.active !== undefined) throw new IllegalEvent(seq, `planned while ${lineage.active.id} is under way`);
  if (lineage.generations.has(event.plan.to)) throw new IllegalEvent(seq, `g${event.plan.to} exists already`);
  const rotation: Rotation = {
    id: event.rotation,
    plan: event.plan,
    digest: event.digest,
    plannedAt: at,
    passed: [],
    steps: new Map(),
    pending: undefined,
    epoch: undefined,
    inventory: undefined,
    inventoryAt: at,
    left: new Map(),
    seen: new Map(),
    rounds: [],
    changedSeq: 0,
    takenUpAt: at,
    disturbedAt: undefined,
    held: undefined,
    holds: [],
    waivers: [],
    approvals: [],
    reverting: undefined,
    end: undefined,
  };
  lineage.active = rotation;
  lineage.rotations.push(rotation);
  return lineage;
}

function inRotation(lineage: Lineage, rotation: Rotation, event: Event, at: Instant, seq: number): void {
  switch (event.type) {
    case "RunnerStarted":
      rotation.takenUpAt = at;
      rotation.held = undefined;
      return;
    case "InventoryResolved":
      resolved(rotation, event.epoch, event.inventory, at);
      return;
    case "StepIntended":
      intended(rotation, event, at, seq);
      return;
    case "StepDone":
      done(lineage, rotation, event, at, seq);
      return;
    case "StepFailed":
      failed(rotation, event, at, seq);
      return;
    case "Observed":
      observed(rotation, event, at, seq);
      return;
    case "StagePassed":
      if (rotation.pending !== undefined) throw new IllegalEvent(seq, `passed while ${rotation.pending} is pending`);
      if (hasPassed(rotation, event.stage)) throw new IllegalEvent(seq, `${event.stage} passed twice`);
      rotation.passed.push({ stage: event.stage, at, seq });
      return;
    case "Held":
      rotation.held = { stage: event.stage, reasons: event.reasons, at };
      rotation.holds.push(rotation.held);
      return;
    case "Waived":
      rotation.waivers.push({ ...event, at });
      rotation.held = undefined;
      return;
    case "WaiverWithdrawn":
      rotation.waivers = rotation.waivers.map((waiver) =>
        withdraws(event, waiver) ? withdrawn(waiver, event, at) : waiver,
      );
      rotation.held = undefined;
      return;
    case "Approved":
      rotation.approvals.push({ by: event.by, plan: event.plan, at });
      rotation.held = undefined;
      return;
    case "RevertRequested":
      if (rotation.reverting !== undefined) throw new IllegalEvent(seq, "reverted twice");
      rotation.reverting = { by: event.by, reason: event.reason, at };
      rotation.held = undefined;
      // Looks at the old generation from before the decision say nothing about whether it is back.
      rotation.changedSeq = seq;
      return;
    case "Orphaned":
      lineage.orphans.push({ generation: event.generation, why: event.why, expires: event.expires, at });
      return;
    case "RotationClosed":
      if (rotation.pending !== undefined) throw new IllegalEvent(seq, `closed while ${rotation.pending} is pending`);
      if (!hasPassed(rotation, "closed")) throw new IllegalEvent(seq, "closed without its last stage");
      rotation.end = { how: "closed", at, grade: event.grade };
      lineage.current = rotation.plan.to;
      lineage.active = undefined;
      return;
    case "RotationReverted":
      if (rotation.pending !== undefined) throw new IllegalEvent(seq, `reverted while ${rotation.pending} is pending`);
      if (rotation.reverting === undefined) throw new IllegalEvent(seq, "reverted without being asked to");
      rotation.end = { how: "reverted", at, why: event.why };
      lineage.active = undefined;
      return;
    case "GenerationAdopted":
    case "RotationPlanned":
    case "ReceiptWritten":
      throw new IllegalEvent(seq, `${event.type} inside a rotation`);
    default:
      event satisfies never;
  }
}

type Withdrawal = Event & { type: "WaiverWithdrawn" };

const withdraws = (event: Withdrawal, waiver: Waiver): boolean =>
  waiver.member === event.member &&
  waiver.withdrawn === undefined &&
  (event.claim === undefined || waiver.claim === event.claim);

const withdrawn = (waiver: Waiver, { by, reason }: Withdrawal, at: Instant): Waiver => ({
  ...waiver,
  withdrawn: { by, reason, at },
});

const hasPassed = (rotation: Rotation, stage: StageName): boolean =>
  rotation.passed.some((entry) => entry.stage === stage);

/** Looks survive for members that stayed the same instance; the rest must be looked at again. */
function resolved(rotation: Rotation, epoch: Digest, inventory: Inventory, at: Instant): void {
  const instances = (from: Inventory | undefined): Map<string, Member> =>
    new Map(
      Object.entries(from?.members ?? {}).flatMap(([role, members]) =>
        members.map((m) => [`${role} ${m.id}`, m] as const),
      ),
    );
  const before = instances(rotation.inventory);
  const after = instances(inventory);
  for (const [claim, looks] of rotation.seen) {
    for (const id of looks.keys()) {
      const key = `${claims[claim].role} ${id}`;
      const was = before.get(key);
      const is = after.get(key);
      if (is === undefined || was?.instance !== is.instance || was?.of !== is.of) looks.delete(id);
    }
  }
  for (const [key, { id }] of before) rotation.left.set(key, { role: key.slice(0, key.indexOf(" ")) as Role, id });
  for (const key of after.keys()) rotation.left.delete(key);
  rotation.epoch = epoch;
  rotation.inventory = inventory;
  rotation.inventoryAt = at;
}

/** What these do can be seen at a member; the others change a ledger, a copy or a key that no look is about. */
const changing: ReadonlySet<StepRef["kind"]> = new Set<StepRef["kind"]>([
  "admit",
  "deliver",
  "restore",
  "reload",
  "publish",
  "withdraw",
]);

function intended(rotation: Rotation, event: Event & { type: "StepIntended" }, at: Instant, seq: number): void {
  if (rotation.pending !== undefined)
    throw new IllegalEvent(seq, `${event.op} intended while ${rotation.pending} is pending`);
  const key = opKey(event.op);
  const before = rotation.steps.get(key);
  if (before?.doneAt !== undefined) throw new IllegalEvent(seq, `${key} was done already`);
  rotation.pending = event.op;
  rotation.steps.set(key, {
    step: event.step,
    failures: before?.failures ?? [],
    attempts: event.attempt,
    pending: event.op,
    intendedAt: at,
  });
}

function done(
  lineage: Lineage,
  rotation: Rotation,
  event: Event & { type: "StepDone" },
  at: Instant,
  seq: number,
): void {
  if (rotation.pending !== event.op) throw new IllegalEvent(seq, `${event.op} done without being intended`);
  rotation.pending = undefined;
  if (changing.has(event.step.kind)) rotation.changedSeq = seq;
  const before = rotation.steps.get(opKey(event.op))!;
  const { pending: _, ...rest } = before;
  rotation.steps.set(opKey(event.op), {
    ...rest,
    doneAt: at,
    did: event.did,
    readBack: event.readBack,
    ...(event.evidence === undefined ? {} : { evidence: event.evidence }),
  });
  const { generation, step } = event;
  if (generation !== undefined && generation.number !== step.generation)
    throw new IllegalEvent(seq, `${event.op} made g${generation.number} instead of g${step.generation}`);
  if (generation !== undefined) lineage.generations.set(generation.number, generation);
  if (event.step.kind === "destroy") lineage.destroyed.add(event.step.generation);
}

function failed(rotation: Rotation, event: Event & { type: "StepFailed" }, at: Instant, seq: number): void {
  if (rotation.pending !== event.op) throw new IllegalEvent(seq, `${event.op} failed without being intended`);
  rotation.pending = undefined;
  // A failure may have left something behind; looking again costs little.
  if (changing.has(event.step.kind)) rotation.changedSeq = seq;
  const { pending: _, ...before } = rotation.steps.get(opKey(event.op))!;
  rotation.steps.set(opKey(event.op), {
    ...before,
    failures: [...before.failures, { at, error: event.error, op: event.op }],
  });
}

function observed(rotation: Rotation, event: Event & { type: "Observed" }, at: Instant, seq: number): void {
  if (rotation.inventory === undefined || rotation.epoch !== event.epoch) {
    throw new IllegalEvent(seq, `observed in epoch ${event.epoch}, which is not the current one`);
  }
  rotation.rounds.push({
    seq,
    at,
    claim: event.claim,
    epoch: event.epoch,
    counts: event.counts,
    exceptions: event.exceptions,
    evidence: event.evidence,
  });
  if (event.disturbedAt !== undefined) rotation.disturbedAt = Math.max(rotation.disturbedAt ?? 0, event.disturbedAt);
  const looks = rotation.seen.get(event.claim) ?? new Map<string, Seen>();
  rotation.seen.set(event.claim, looks);
  const exceptions = new Map(event.exceptions.map((sighting) => [sighting.member, sighting]));
  const covered = event.covers ?? membersFor(event.claim, rotation.plan, rotation.inventory).map((member) => member.id);
  for (const member of covered) {
    const sighting = exceptions.get(member) ?? { member, saw: "yes" as const, what: "" };
    looks.set(member, seenOf(rotation, sighting, looks.get(member), { at: event.startedAt ?? at, toldAt: at, seq }));
  }
}

/** A yes that took longer than it counts was over before it was told: it says nothing, and would be looked for for ever. */
function seenOf(
  { plan }: Rotation,
  sighting: Sighting,
  before: Seen | undefined,
  when: Pick<Seen, "at" | "toldAt" | "seq">,
): Seen {
  const took = when.toldAt - when.at;
  const { freshness } = plan.timing;
  const late = took >= freshness;
  const what = `the look took ${sayMillis(took)}, and counts for ${sayMillis(freshness)}`;
  const told: Sighting = late && sighting.saw === "yes" ? { member: sighting.member, saw: "unknown", what } : sighting;
  const at = late ? when.toldAt : when.at;
  // Patience runs from when it was told: a round that others made long has given nobody a second look yet.
  return { ...told, ...when, at, since: before?.saw === told.saw ? before.since : when.toldAt };
}
