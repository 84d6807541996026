import { claims, membersFor, partiesFor } from "./claims.ts";
import type { ClaimName, Digest, Instant, Member, Millis, Reason } from "./model.ts";
import { quietUntil } from "./quiet.ts";
import type { Rotation, Seen, Waiver } from "./state.ts";
import { strategies } from "./strategies/table.ts";

/** What the looks at a claim's members add up to, now. */
export interface Finding {
  readonly claim: ClaimName;
  /** `unknown` is neither (I5): not everybody was looked at, a look was stale or undecided, or there is nobody (I13). */
  readonly verdict: "holds" | "fails" | "unknown";
  readonly epoch: Digest | undefined;
  readonly counts: {
    readonly total: number;
    readonly yes: number;
    readonly no: number;
    readonly unknown: number;
    readonly waived: number;
  };
  /** The members that must be looked at (again). */
  readonly missing: readonly string[];
  /** Members looked at that did not say yes. */
  readonly exceptions: readonly Seen[];
  /** Why "for all" cannot be said although every known member was looked at. */
  readonly obstacle?: string;
  /** The member the obstacle is about, where it is one: it can be waived by name. */
  readonly dropped?: string;
  /** When the oldest yes dies. */
  readonly expiresAt: Instant | undefined;
}

/** Linear in the members of the claim's role. */
export function findingOf(rotation: Rotation, claim: ClaimName, now: Instant): Finding {
  const { plan, inventory } = rotation;
  if (inventory === undefined) {
    return {
      claim,
      verdict: "unknown",
      epoch: undefined,
      counts: { total: 0, yes: 0, no: 0, unknown: 0, waived: 0 },
      missing: [],
      exceptions: [],
      obstacle: "the inventory has not been resolved",
      expiresAt: undefined,
    };
  }
  const members = membersFor(claim, plan, inventory);
  const looks = rotation.seen.get(claim);
  const waived = waivedMembers(rotation, claim, now);
  const counts = { total: members.length, yes: 0, no: 0, unknown: 0, waived: 0 };
  const missing: string[] = [];
  const exceptions: Seen[] = [];
  let oldest = Number.POSITIVE_INFINITY;
  for (const member of members) {
    if (waived.has(member.id)) {
      counts.waived += 1;
      continue;
    }
    const seen = looks?.get(member.id);
    if (seen === undefined || isStale(rotation, claim, seen, now)) {
      counts.unknown += 1;
      missing.push(member.id);
    } else {
      counts[seen.saw] += 1;
      if (seen.saw === "yes") oldest = Math.min(oldest, seen.at);
      else exceptions.push(seen);
    }
  }
  const dropped = droppedMember(rotation, claim, members, waived);
  const obstacle =
    dropped === undefined
      ? obstacleOf(rotation, claim, members, counts.total - counts.waived)
      : `is in the plan and no longer in the manifest: nobody looks at it any more${lastSeen(rotation, claim, dropped)}`;
  const all = counts.yes === counts.total - counts.waived && obstacle === undefined;
  return {
    claim,
    verdict: all ? "holds" : counts.no > 0 ? "fails" : "unknown",
    epoch: rotation.epoch,
    counts,
    missing,
    exceptions,
    ...(obstacle === undefined ? {} : { obstacle }),
    ...(dropped === undefined ? {} : { dropped }),
    expiresAt: oldest === Number.POSITIVE_INFINITY ? undefined : oldest + lifeOf(claim, rotation),
  };
}

/**
 * A look dies of age and of every change made since; a no or unknown also when a runner takes the rotation up again.
 * A look from the future is none.
 */
function isStale(rotation: Rotation, claim: ClaimName, seen: Seen, now: Instant): boolean {
  if (seen.at > now || now - seen.at >= rotation.plan.timing.freshness) return true;
  if (seen.seq < rotation.changedSeq) return true;
  if (claim === "silent" && seen.saw === "yes") return outlived(rotation, seen, now);
  // By when it was told: a slow look would otherwise be over before it counts.
  if (claim === "stored" && now - seen.toldAt > lifeOf(claim, rotation)) return true;
  return (seen.saw !== "yes" || claim === "stored") && seen.at < rotation.takenUpAt;
}

/**
 * What is stored anybody may write again at any moment, and nothing else would show it, since a server holds what it
 * loaded; looking is cheap. So such a look counts for the stage at hand, and hardly for the one after a wait.
 */
const storedLife: Millis = 30_000;
const lifeOf = (claim: ClaimName, { plan }: Rotation): Millis =>
  claim === "stored" ? Math.min(storedLife, plan.timing.freshness) : plan.timing.freshness;

/**
 * Silence is said of the whole window up to now: a yes from before the window's end (another sensor restarted it) says
 * nothing of the rest, and one from before other looks were waited for nothing of that time. Removal follows at once.
 */
const outlived = (rotation: Rotation, seen: Seen, now: Instant): boolean =>
  seen.at < quietUntil(rotation) || now - seen.toldAt > rotation.plan.timing.poll;

/** In force from when it was given until it ends or was withdrawn. */
export const isInForce = (waiver: Waiver, now: Instant): boolean =>
  waiver.expires > now && (waiver.withdrawn === undefined || waiver.withdrawn.at > now);

const isAbout = (waiver: Waiver, claim: ClaimName): boolean => waiver.claim === undefined || waiver.claim === claim;

export function waivedMembers(rotation: Rotation, claim: ClaimName, now: Instant): ReadonlySet<string> {
  const named = rotation.waivers.filter((waiver) => isInForce(waiver, now) && isAbout(waiver, claim));
  return new Set(named.map((waiver) => waiver.member));
}

/** Nobody is left to be seen, by waivers alone: no member is unknown for another reason. */
export function isWaivedWhole(rotation: Rotation, claim: ClaimName, now: Instant): boolean {
  const { plan, inventory } = rotation;
  if (inventory === undefined) return false;
  const parties = new Set(partiesFor(claim, plan).map(({ id }) => id));
  if (inventory.unresolved.some(({ of }) => parties.has(of))) return false;
  const { counts, dropped } = findingOf(rotation, claim, now);
  return counts.total > 0 && counts.waived === counts.total && dropped === undefined;
}

/** The claims that this rotation, in the direction it now has, asks of a member, in the order of its table. */
export function claimsAbout(rotation: Rotation, member: string): ClaimName[] {
  const { plan, inventory, reverting } = rotation;
  const asked = strategies[plan.strategy].flatMap((stage) => {
    if (reverting !== undefined) return stage.undo === "none" ? [] : stage.undo.claims(plan);
    return [...(stage.guard?.(plan) ?? []), ...stage.claims(plan)];
  });
  return [...new Set(asked)].filter((claim) => {
    const members = inventory === undefined ? [] : membersFor(claim, plan, inventory);
    const listed = partiesFor(claim, plan).flatMap((party) => party.listed ?? []);
    return members.some(({ id }) => id === member) || listed.includes(member);
  });
}

/** Those of them that the member was last seen not to meet, or that a hold names, and that nobody has waived. */
export function openClaims(rotation: Rotation, member: string, now: Instant): ClaimName[] {
  const { holds, passed } = rotation;
  const last = holds.at(-1);
  const standing = passed.some(({ stage }) => stage === last?.stage) ? [] : (last?.reasons ?? []);
  return claimsAbout(rotation, member).filter((claim) => {
    if (waivedMembers(rotation, claim, now).has(member)) return false;
    const seen = rotation.seen.get(claim)?.get(member);
    if (seen !== undefined) return seen.saw !== "yes";
    return standing.some((reason) => reason.about === member && reason.claim === claim);
  });
}

/** Taking a member out of the manifest in mid-rotation proves nothing of it; only a name under a waiver lets it go. */
function droppedMember(
  rotation: Rotation,
  claim: ClaimName,
  members: readonly Member[],
  waived: ReadonlySet<string>,
): string | undefined {
  // A party that could not be counted lists nobody now: that is an obstacle of its own, and says nothing of the manifest.
  const unresolved = new Set(rotation.inventory?.unresolved.map((entry) => entry.of));
  const parties = partiesFor(claim, rotation.plan).filter((party) => !unresolved.has(party.id));
  const listed = parties.flatMap((party) => party.listed ?? []);
  if (listed.length === 0) return undefined;
  const present = new Set(members.map((member) => member.id));
  // One that never was in a counted inventory (a load balancer's address, corrected at once) leaves nothing open.
  const looked = new Set([...rotation.left.values()].map(({ id }) => id));
  return listed.find((id) => looked.has(id) && !present.has(id) && !waived.has(id));
}

function lastSeen(rotation: Rotation, claim: ClaimName, member: string): string {
  const last = rotation.rounds
    .flatMap((round) => (round.claim === claim ? round.exceptions : []))
    .findLast((one) => one.member === member);
  return last === undefined ? "" : `; when it was last looked at, it ${last.what}`;
}

function obstacleOf(
  rotation: Rotation,
  claim: ClaimName,
  members: readonly Member[],
  left: number,
): string | undefined {
  const parties = partiesFor(claim, rotation.plan);
  const ids = new Set(parties.map((party) => party.id));
  const unresolved = rotation.inventory?.unresolved.find((entry) => ids.has(entry.of));
  if (unresolved !== undefined) return `the members of ${unresolved.of} could not be counted: ${unresolved.why}`;
  if (left === 0 && members.length > 0)
    return `every one of the ${claims[claim].noun} is waived: nothing is left to prove it`;
  // Each entry of the plan by itself: one that the manifest no longer names, or that lists nobody, is proven by no other's.
  const counted = new Set(members.map((member) => member.of));
  const empty = parties.find((party) => !counted.has(party.id));
  if (empty !== undefined)
    return `${empty.id} of the plan has no ${claims[claim].noun}: "for all" over nothing proves nothing`;
  return left > 0 ? undefined : `there are no ${claims[claim].noun}: "for all" over nothing proves nothing`;
}

/** Where nobody is left to look at because all were waived, only a waiver less changes that. */
function releaseOf({ plan, waivers }: Rotation, { claim, counts }: Finding, now: Instant): string {
  if (counts.total === 0 || counts.waived < counts.total) return "the inventory can be resolved in full";
  const standing = waivers.filter((waiver) => isInForce(waiver, now) && isAbout(waiver, claim));
  const end = new Date(Math.max(...standing.map(({ expires }) => expires))).toISOString();
  return `a waiver is withdrawn (gyre waive ${plan.credential} MEMBER --withdraw --reason ...) or ends (the latest at ${end}), and its member is seen to do what is asked`;
}

/** One reason per exception, and one for an obstacle: what a hold is made of. */
export function reasonsOf(rotation: Rotation, finding: Finding, now: Instant): Reason[] {
  const { plan } = rotation;
  const claim = claims[finding.claim];
  const reasons: Reason[] = finding.exceptions.map((seen) => ({
    about: seen.member,
    claim: finding.claim,
    verdict: seen.saw === "no" ? "no" : "unknown",
    what: seen.what,
    since: seen.since,
    release: claim.release(seen.member, plan),
  }));
  for (const member of finding.missing) {
    reasons.push({
      about: member,
      claim: finding.claim,
      verdict: "unknown",
      what: "not looked at",
      since: now,
      release: claim.release(member, plan),
    });
  }
  if (finding.obstacle !== undefined) {
    reasons.push({
      about: finding.dropped ?? plan.credential,
      claim: finding.claim,
      verdict: "unknown",
      what: finding.obstacle,
      since: now,
      release:
        finding.dropped === undefined
          ? releaseOf(rotation, finding, now)
          : `${finding.dropped} is put back into the manifest`,
    });
  }
  return reasons;
}
