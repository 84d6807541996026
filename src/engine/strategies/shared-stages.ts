import { isExpired } from "../claims.ts";
import { asked, each, nothing, old, reloads, type Stage } from "./strategy.ts";

/** Rows that more than one table has, word for word. */

export const planned: Stage = { name: "planned", ...nothing, undo: nothing };

export const delivered: Stage = {
  name: "delivered",
  steps: (plan) => each("deliver", plan.targets, plan.to),
  claims: (plan) => asked(plan, "stored"),
  // Told only after all files are back; the old one is asked for before the new one's key goes (issued.undo).
  undo: {
    steps: (plan) => [...each("restore", plan.targets, old(plan)), ...reloads(plan.targets, old(plan))],
    claims: (plan) => (plan.from === undefined ? [] : asked(plan, "restored", "presentedOld", "acceptedOld")),
  },
};

export const adopted: Stage = {
  name: "adopted",
  steps: (plan) => reloads(plan.targets, plan.to),
  claims: (plan) => asked(plan, "presented", "accepted", "used"),
  undo: nothing,
};

/** There is an old one that verifiers accept and can be made to refuse. */
export const revocable: NonNullable<Stage["when"]> = (plan, now) =>
  plan.revoke && plan.from !== undefined && !isExpired(plan, now);

/** Only before something is taken away: where nothing is, a late user of the old one loses nothing. */
export const quiet: Stage = {
  name: "quiet",
  when: revocable,
  steps: () => [],
  soak: (plan) => plan.quiet.window,
  claims: (plan) => asked(plan, "silent"),
  undo: nothing,
};

/** Corners A and B fresh, stored and quiet still true: what must hold at the moment the old one is taken away. */
export const removalGuard: NonNullable<Stage["guard"]> = (plan) =>
  asked(plan, "stored", "presented", "accepted", "acceptedOld", "silent");

export const refused: Stage = {
  name: "refused",
  when: revocable,
  steps: () => [],
  // Corner D is a verifier's answer. That the reload of its trust left every place and server with the new one, and that
  // nobody came back with the old one meanwhile, is seen again.
  claims: (plan) => asked(plan, "stored", "presented", "accepted", "refused", "drained"),
  undo: nothing,
  // One verifier that cannot refuse is one that goes on accepting it.
  grade: ({ verifiers }) => {
    if (verifiers.some(({ facts }) => facts.canRefuse !== true)) return "SUPERSEDED";
    return verifiers.some(({ facts }) => facts.denies === true) ? "DENIED" : "REFUSED";
  },
};

export const superseded: Stage = {
  name: "superseded",
  when: (plan, now) => !plan.revoke && plan.from !== undefined && !isExpired(plan, now),
  steps: () => [],
  claims: (plan) => asked(plan, "stored", "presented", "accepted"),
  undo: nothing,
  grade: () => "SUPERSEDED",
};

/** The old one was past its notAfter when the rotation began: verifiers refuse it by its date, and are seen to. */
export const expired: Stage = {
  name: "expired",
  when: (plan, now) => isExpired(plan, now),
  steps: () => [],
  claims: (plan) => asked(plan, "stored", "presented", "accepted", "refused"),
  undo: nothing,
  grade: () => "EXPIRED",
};

/** The copies of the old key are deleted last: at the targets, then in the secret store. */
export const closed: Stage = {
  name: "closed",
  steps: (plan) => [
    ...each("forget", plan.targets, old(plan)),
    ...(plan.from === undefined
      ? []
      : [{ kind: "destroy" as const, on: plan.credential, generation: plan.from.number }]),
  ],
  claims: () => [],
  undo: "none",
};

/** Undo of an issue: the unused one is revoked where the issuer can, and its key deleted. A CRL's number is no serial. */
export const unissue: Stage["undo"] = {
  steps: (plan) => [
    ...(plan.issuer.facts.revoke === true && plan.kind !== "crl"
      ? [{ kind: "retire" as const, on: plan.issuer.id, generation: plan.to }]
      : []),
    { kind: "destroy", on: plan.credential, generation: plan.to },
  ],
  claims: () => [],
};
