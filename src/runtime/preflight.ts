import { randomBytes } from "node:crypto";
import type { Member, Presenter, Step } from "../drivers/roles.ts";
import { sayMillis } from "../engine/time-words.ts";
import { GyreError } from "../errors.ts";
import type { Parties } from "./parties.ts";

interface Checked {
  check?(): Promise<void>;
}

/**
 * Asks everybody whether the rotation can be carried out at all, before the first entry of it is written: what fails
 * here needs no putting back. By looking only; a disk that fills later is met where it is met.
 * @throws GyreError of the first that cannot
 */
export async function mustBePossible(name: string, parties: Parties, skew: number): Promise<void> {
  const { issuer, targets, trustStores, presenters, verifiers } = parties;
  for (const { instance } of [issuer, ...targets, ...trustStores, ...presenters, ...verifiers])
    await (instance as Checked).check?.();
  await mustAgreeOnTime(name, parties, skew);
}

/** As far as certificates are backdated unless a manifest says otherwise: beyond it nobody else takes a new one. */
const farOff = 15 * 60_000;

/** One server that agrees is enough, so a few are asked, and the others are not waited for. */
const asked = 5;

/**
 * Every date is judged by this host's clock: a year off, and the old certificate passes for expired and the new one is
 * of no use to anybody. Where servers tell the time, one of them must agree; where none does, nothing is known.
 * @throws GyreError `refused`
 */
export async function mustAgreeOnTime(name: string, parties: Parties, skew: number): Promise<void> {
  const bound = Math.max(skew, farOff);
  const members = await membersWithClocks(parties);
  if (members.length === 0) return;
  const done = new AbortController();
  const differing: { at: string; difference: number }[] = [];
  const agreed = members.map(async ({ presenter, member }) => {
    const step: Step = { op: `${name}/clock`, tag: randomBytes(6).toString("hex"), signal: done.signal };
    const difference = await presenter.clock!(member, step).catch(() => undefined);
    if (difference !== undefined && Math.abs(difference) <= bound) return;
    if (difference !== undefined) differing.push({ at: member.address, difference });
    throw new Error("no word on the time");
  });
  const one = await Promise.any(agreed).then(
    () => true,
    () => false,
  );
  done.abort();
  const [first] = differing.sort((a, b) => Math.abs(a.difference) - Math.abs(b.difference));
  if (one || first === undefined) return;
  const others = differing.length === 1 ? "" : ` (and ${differing.length - 1} more differ further)`;
  throw new GyreError({
    code: "refused",
    message: `${name}: the clock here says ${new Date().toISOString()}, and that of ${first.at} is ${sayMillis(Math.abs(first.difference))} ${first.difference > 0 ? "ahead of" : "behind"} it${others}: a certificate issued by it would not be valid elsewhere; nothing was changed`,
    where: first.at,
    next: "set the clock that is wrong, then repeat",
  });
}

async function membersWithClocks({ presenters }: Parties): Promise<{ presenter: Presenter; member: Member }[]> {
  const found: { presenter: Presenter; member: Member }[] = [];
  for (const { instance } of presenters) {
    if (instance.clock === undefined || found.length >= asked) continue;
    const members = await instance.members().catch(() => []);
    found.push(...members.slice(0, asked - found.length).map((member) => ({ presenter: instance, member })));
  }
  return found;
}
