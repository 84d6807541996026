import type { ClaimName, Instant, Inventory, Member, Plan, Role } from "./model.ts";

/** What a claim quantifies over, which generation it is about, and how its words read to the person on call. */
export interface Claim {
  readonly role: Role;
  readonly about: "old" | "new";
  /** `2/3 replicas present g4`, `1/1 replica presents g4`: the verb phrase after the counts, of many and of one. */
  readonly words: readonly [many: string, one: string];
  readonly noun: string;
  /** What releases a hold on it, for one member. */
  readonly release: (member: string, plan: Plan) => string;
}

const g = (plan: Plan, about: "old" | "new") => `g${about === "new" ? plan.to : (plan.from?.number ?? "?")}`;

/** One row per claim. The runtime's looks (runtime/looks.ts) have one function per row of the same name. */
export const claims: Readonly<Record<ClaimName, Claim>> = {
  stored: {
    role: "target",
    about: "new",
    noun: "targets",
    words: ["hold", "holds"],
    release: (member, plan) => `${member} holds ${g(plan, "new")}`,
  },
  presented: {
    role: "presenter",
    about: "new",
    noun: "replicas",
    words: ["present", "presents"],
    release: (member, plan) => `${member} presents ${g(plan, "new")} with a complete chain`,
  },
  accepted: {
    role: "verifier",
    about: "new",
    noun: "verifiers",
    words: ["accept", "accepts"],
    release: (member, plan) => `${member} accepts ${g(plan, "new")}`,
  },
  acceptedOld: {
    role: "verifier",
    about: "old",
    noun: "verifiers",
    words: ["still accept", "still accepts"],
    release: (member, plan) =>
      `${member} answers a request with ${g(plan, "old")} (corner A: the probe must be seen to work)`,
  },
  used: {
    role: "sensor",
    about: "new",
    noun: "sensors",
    words: ["saw others use", "saw others use"],
    release: (member, plan) => `${member} records a use of ${g(plan, "new")} by its consumer`,
  },
  silent: {
    role: "sensor",
    about: "old",
    noun: "sensors",
    words: ["saw no use of", "saw no use of"],
    release: (member, plan) => `${member} records no use of ${g(plan, "old")} for the quiet window, and our own probe`,
  },
  admitted: {
    role: "trustStore",
    about: "new",
    noun: "trust stores",
    words: ["list", "lists"],
    release: (member, plan) => `${member} lists ${g(plan, "new")}`,
  },
  published: {
    role: "trustStore",
    about: "old",
    noun: "trust stores",
    words: ["hold the CRL with", "holds the CRL with"],
    release: (member, plan) => `${member} holds the issuer's CRL that lists ${g(plan, "old")}`,
  },
  withdrawn: {
    role: "trustStore",
    about: "old",
    noun: "trust stores",
    words: ["no longer list", "no longer lists"],
    release: (member, plan) => `${member} no longer lists ${g(plan, "old")}`,
  },
  refused: {
    role: "verifier",
    about: "old",
    noun: "verifiers",
    words: ["refuse", "refuses"],
    release: (member, plan) => `${member} refuses ${g(plan, "old")} and accepts ${g(plan, "new")} right after`,
  },
  drained: {
    role: "verifier",
    about: "old",
    noun: "verifiers",
    words: ["resume no session of", "resumes no session of"],
    release: (member, plan) => `${member} resumes no session of ${g(plan, "old")}`,
  },
  restored: {
    role: "target",
    about: "old",
    noun: "targets",
    words: ["hold again", "holds again"],
    release: (member, plan) => `${member} holds ${g(plan, "old")} again`,
  },
  presentedOld: {
    role: "presenter",
    about: "old",
    noun: "replicas",
    words: ["present again", "presents again"],
    release: (member, plan) => `${member} presents ${g(plan, "old")} again`,
  },
};

/** `2/3 replicas present g4`; where there is nobody to be seen, what that means. */
export function countedWords(claim: ClaimName, counts: { yes: number; total: number }, generation: number): string {
  const { noun, words } = claims[claim];
  if (counts.total === 0) return `no ${noun} are known, so nothing was seen of g${generation}`;
  const [who, what] = counts.total === 1 ? [noun.replace(/s$/, ""), words[1]] : [noun, words[0]];
  return `${counts.yes}/${counts.total} ${who} ${what} g${generation}`;
}

/** The generation number a claim is about; 0 where there is no old one. */
export function generationOf(claim: ClaimName, plan: Plan): number {
  return claims[claim].about === "new" ? plan.to : (plan.from?.number ?? 0);
}

const partiesOf: Readonly<Record<Role, (plan: Plan) => Plan["targets"]>> = {
  target: (plan) => plan.targets,
  trustStore: (plan) => plan.trustStores,
  presenter: (plan) => plan.presenters,
  verifier: (plan) => plan.verifiers,
  sensor: (plan) => plan.sensors,
};

const aboutUse: readonly ClaimName[] = ["acceptedOld", "refused", "drained"];

/** The parties of the plan a claim is about: all of its role, narrowed by the facts where a claim needs an ability. */
export function partiesFor(claim: ClaimName, plan: Plan): Plan["targets"] {
  const parties = partiesOf[claims[claim].role](plan);
  if (claim === "used") return parties.filter((party) => party.facts.mustSeeNewUse === true);
  // An old CRL is nothing that a verifier accepts or refuses; its successor is proven by a canary (looks.ts).
  if (plan.kind === "crl" && aboutUse.includes(claim)) return [];
  if (claim === "refused" || claim === "acceptedOld") return parties.filter((party) => party.facts.canRefuse === true);
  if (claim === "drained")
    return parties.filter((party) => party.facts.canRefuse === true && party.facts.sessions === true);
  return parties;
}

/** The old generation is past its notAfter on every clock we allow for: verifiers refuse it by its date. */
export const isExpired = (plan: Plan, now: Instant): boolean =>
  plan.from !== undefined && now >= plan.from.notAfter + plan.timing.skew;

/** The members a claim quantifies over, in this inventory. */
export function membersFor(claim: ClaimName, plan: Plan, inventory: Inventory): readonly Member[] {
  const members = inventory.members[claims[claim].role];
  const parties = partiesFor(claim, plan);
  if (parties.length === partiesOf[claims[claim].role](plan).length) return members;
  const ids = new Set(parties.map((party) => party.id));
  return members.filter((member) => ids.has(member.of));
}
