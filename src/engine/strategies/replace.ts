import {
  adopted,
  closed,
  delivered,
  expired,
  planned,
  quiet,
  refused,
  removalGuard,
  revocable,
  superseded,
  unissue,
} from "./shared-stages.ts";
import { asked, each, old, reloads, type Stage, type Strategy } from "./strategy.ts";

const issued: Stage = {
  name: "issued",
  steps: (plan) => [{ kind: "issue", on: plan.issuer.id, generation: plan.to }],
  claims: () => [],
  undo: unissue,
};

/** A CRL entry is not taken back (RFC 5280 knows removal from hold only), so there is no undo. */
const revoked: Stage = {
  name: "revoked",
  when: revocable,
  guard: removalGuard,
  steps: (plan) => [
    { kind: "retire", on: plan.issuer.id, generation: old(plan) },
    ...each("publish", plan.trustStores, old(plan)),
    ...reloads(plan.trustStores, old(plan)),
  ],
  claims: (plan) => asked(plan, "published"),
  undo: "none",
};

/** One credential in use at a time: the new one takes the old one's place, then the old one is revoked where that can be seen. */
export const replace: Strategy = [
  planned,
  issued,
  delivered,
  adopted,
  quiet,
  revoked,
  refused,
  superseded,
  expired,
  closed,
];
