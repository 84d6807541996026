import { claimsAbout, isInForce, openClaims } from "../engine/finding.ts";
import type { ClaimName, Instant } from "../engine/model.ts";
import type { Rotation, Waiver } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import { nearest } from "../manifest/nearest.ts";

/**
 * What a waiver is written down for: the claims named, or the one that is open about the member. A waiver for everything
 * would also cover what nobody has asked yet.
 * @throws GyreError `input`
 */
export function claimsToWaive(
  rotation: Rotation,
  member: string,
  named: readonly ClaimName[],
  now: Instant,
): readonly ClaimName[] {
  const { credential } = rotation.plan;
  mustBeKnown(rotation, member);
  const asked = claimsAbout(rotation, member);
  const stranger = named.find((claim) => !asked.includes(claim));
  if (stranger !== undefined)
    throw unwritten(
      `${credential}: this rotation does not ask ${stranger} of ${member}`,
      `--claim, one of: ${asked.join(", ")}`,
    );
  if (named.length > 0) return [...new Set(named)];
  const open = openClaims(rotation, member, now);
  if (open.length === 1) return open;
  if (open.length > 1)
    throw unwritten(
      `${credential}: ${open.length} claims are open about ${member}: ${open.join(", ")}`,
      `name the one to accept: gyre waive ${credential} ${member} --claim ${open[0]} --reason ...`,
    );
  throw unwritten(
    `${credential}: no claim is open about ${member}`,
    asked.length === 0
      ? `nothing is asked of it: gyre plan ${credential} says what is`
      : `name what to accept beforehand: --claim, one of: ${asked.join(", ")}`,
  );
}

function mustBeKnown({ inventory, plan }: Rotation, member: string): void {
  const listed = [...plan.presenters, ...plan.verifiers].flatMap((party) => party.listed ?? []);
  const found = Object.values(inventory?.members ?? {}).flatMap((members) => members.map(({ id }) => id));
  const known = inventory === undefined ? found : [...new Set([...found, ...listed])];
  if (known.includes(member)) return;
  const near = nearest(member, known);
  throw unwritten(
    `${plan.credential} has no member ${member}${near === undefined ? "" : `; did you mean ${near}?`}`,
    known.length === 0 ? `gyre rotate ${plan.credential} resolves the inventory first` : `one of: ${known.join(", ")}`,
  );
}

/**
 * The waivers of the member in force, or those of them for the claims named.
 * @throws GyreError `input` where there is none
 */
export function waiversToWithdraw(
  { plan, waivers }: Rotation,
  member: string,
  named: readonly ClaimName[],
  now: Instant,
): readonly Waiver[] {
  const inForce = waivers.filter((waiver) => isInForce(waiver, now));
  const taken = inForce.filter(
    (waiver) =>
      waiver.member === member && (named.length === 0 || (waiver.claim !== undefined && named.includes(waiver.claim))),
  );
  if (taken.length > 0) return taken;
  const what = named.length === 0 ? "" : ` for ${named.join(", ")}`;
  throw unwritten(
    `${plan.credential}: no waiver of ${member}${what} is in force`,
    inForce.length === 0
      ? "none of this rotation is"
      : `in force: ${inForce.map(({ member: other, claim }) => `${other} (${claim ?? "everything"})`).join(", ")}`,
  );
}

const unwritten = (message: string, next: string): GyreError =>
  new GyreError({ code: "input", message: `${message}; nothing was written`, next });
