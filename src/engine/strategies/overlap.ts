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

/** The new one exists and is admitted beside the old, before anybody is given it (I2). */
const created: Stage = {
  name: "created",
  steps: (plan) => [
    { kind: "issue", on: plan.issuer.id, generation: plan.to },
    ...each("admit", plan.trustStores, plan.to),
    ...reloads(plan.trustStores, plan.to),
  ],
  claims: (plan) => asked(plan, "admitted"),
  undo: {
    steps: (plan) => [
      ...each("withdraw", plan.trustStores, plan.to),
      ...reloads(plan.trustStores, old(plan)),
      ...(unissue === "none" ? [] : unissue.steps(plan)),
    ],
    claims: () => [],
  },
};

const verified: Stage = {
  name: "verified",
  steps: () => [],
  claims: (plan) => asked(plan, "accepted"),
  undo: { steps: () => [], claims: () => [] },
};

/** Withdrawing a pin can be taken back: the old key lives until `closed`. */
const deleted: Stage = {
  name: "deleted",
  when: revocable,
  guard: removalGuard,
  steps: (plan) => [...each("withdraw", plan.trustStores, old(plan)), ...reloads(plan.trustStores, plan.to)],
  claims: (plan) => asked(plan, "withdrawn"),
  undo: {
    steps: (plan) => [...each("admit", plan.trustStores, old(plan)), ...reloads(plan.trustStores, old(plan))],
    claims: (plan) => asked(plan, "acceptedOld"),
  },
};

/** Two credentials at once: the old one is not taken away while anything is seen using it. */
export const overlap: Strategy = [
  planned,
  created,
  verified,
  delivered,
  adopted,
  quiet,
  deleted,
  refused,
  superseded,
  expired,
  closed,
];
