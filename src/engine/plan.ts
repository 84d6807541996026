import { isExpired } from "./claims.ts";
import { applies } from "./decide.ts";
import type {
  Generation,
  Grade,
  Instant,
  IssueRequest,
  Millis,
  Party,
  Plan,
  StageName,
  StrategyName,
  Timing,
} from "./model.ts";
import { strategies } from "./strategies/table.ts";

/** What consumers hold on to, each a reason for the old one to be used after the new one was delivered. */
export interface QuietPeriods {
  readonly window?: Millis;
  readonly consumerPeriod?: Millis;
  readonly connectionAge?: Millis;
  readonly ticketLifetime?: Millis;
  readonly cacheTtl?: Millis;
  readonly sensorLag?: Millis;
}

export interface PlanInput {
  /** Hex, drawn by the runtime. */
  readonly seed: string;
  readonly credential: string;
  readonly kind: "certificate" | "crl";
  readonly reason: string;
  readonly request: IssueRequest;
  readonly issuer: Party;
  readonly targets: readonly Party[];
  /** Stores that will carry the refusal: the issuer's CRL stores, or pins. */
  readonly trustStores: readonly Party[];
  /** The trust stores hold pins: every accepted certificate is listed. */
  readonly pinned: boolean;
  /** Why the old generation cannot be taken from the trust stores, being from before they were used; absent when it can. */
  readonly unlistable?: string;
  readonly presenters: readonly Party[];
  readonly verifiers: readonly Party[];
  readonly sensors: readonly Party[];
  readonly from?: Generation;
  readonly to: number;
  /** As the manifest says; default: whenever a verifier can be seen refusing. */
  readonly revoke?: boolean;
  readonly quiet: QuietPeriods;
  readonly timing: Timing;
  readonly approval?: "required";
}

/** Nothing declared: nginx keeps sessions 5 min and idle connections 75 s; what we do not know is assumed longer. */
const undeclaredQuiet: Millis = 15 * 60_000;

/** The factor on the longest period: a consumer may have begun its period just before the new one was delivered. */
const quietMargin = 1.25;

/** Everything execution needs, so that it chooses nothing. Pure. */
export function makePlan(input: PlanInput, now: Instant): Plan {
  const strategy: StrategyName = input.pinned ? "overlap" : "replace";
  const canRefuse = input.verifiers.filter((verifier) => verifier.facts.canRefuse === true);
  const revoke =
    (input.revoke ?? true) &&
    canRefuse.length > 0 &&
    input.trustStores.length > 0 &&
    input.from !== undefined &&
    input.unlistable === undefined;
  // Where nothing can refuse, false is what follows, not what somebody chose.
  const declined = input.revoke === false && canRefuse.length > 0;
  const { pinned: _, quiet, revoke: __, unlistable, ...kept } = input;
  const draft: Plan = {
    version: 1,
    ...kept,
    request: requestFor(input.request, input.to),
    strategy,
    revoke,
    trustStores: revoke || input.pinned ? input.trustStores : [],
    grade: { reachable: "FIRST", why: "" },
    quiet: quietWindow(quiet, input.sensors),
    notices: [],
  };
  const grade = reachableGrade(draft, declined, unlistable, now);
  return { ...draft, grade, notices: notices(draft, now) };
}

/** A subject may name its generation, so that each has a group of its own. */
const requestFor = (request: IssueRequest, to: number): IssueRequest => ({
  ...request,
  subject: request.subject.replaceAll("{generation}", `g${to}`),
});

function quietWindow(periods: QuietPeriods, sensors: readonly Party[]): Plan["quiet"] {
  const seen = sensors.length > 0 ? "watched by its sensors" : "a time bound only, since no sensor is declared";
  if (periods.window !== undefined) return { window: periods.window, why: `as the manifest says, ${seen}` };
  const { window: _, ...named } = periods;
  const longest = Object.entries(named).sort(([, a], [, b]) => b - a)[0];
  if (longest === undefined)
    return { window: undeclaredQuiet, why: `the default, since the manifest declares no periods; ${seen}` };
  return { window: Math.ceil(longest[1] * quietMargin), why: `1.25 x ${longest[0]}, ${seen}` };
}

function reachableGrade(
  plan: Plan,
  declined: boolean,
  unlistable: string | undefined,
  now: Instant,
): { reachable: Grade; why: string } {
  if (plan.from === undefined) return { reachable: "FIRST", why: "there is no old generation" };
  if (isExpired(plan, now)) return { reachable: "EXPIRED", why: `g${plan.from.number} has expired already` };
  if (plan.kind === "crl") {
    const until = new Date(plan.from.notAfter).toISOString();
    return {
      reachable: "SUPERSEDED",
      why: `a CRL is replaced, never refused; copies of g${plan.from.number} kept elsewhere count until ${until}`,
    };
  }
  const refusing = plan.verifiers.filter((verifier) => verifier.facts.canRefuse === true).length;
  if (plan.revoke && refusing === plan.verifiers.length) {
    if (plan.verifiers.some((verifier) => verifier.facts.denies === true))
      return {
        reachable: "DENIED",
        why: `g${plan.from.number} loses its group's binding: it still authenticates until ${new Date(plan.from.notAfter).toISOString()}, and is allowed what every authenticated user is; a watch that is open then goes on until its server ends it`,
      };
    return {
      reachable: "REFUSED",
      why: `every verifier can refuse g${plan.from.number} by ${plan.strategy === "overlap" ? "pins" : "CRL"}`,
    };
  }
  const until = `g${plan.from.number} stays valid until ${new Date(plan.from.notAfter).toISOString()}`;
  if (declined) return { reachable: "SUPERSEDED", why: `the manifest says revoke: false; ${until}` };
  if (unlistable !== undefined) return { reachable: "SUPERSEDED", why: `${unlistable}; ${until}` };
  if (plan.revoke)
    return {
      reachable: "SUPERSEDED",
      why: `${plan.verifiers.length - refusing} of ${plan.verifiers.length} verifiers cannot refuse it; ${until}`,
    };
  if (plan.verifiers.length === 0) {
    return {
      reachable: "SUPERSEDED",
      why: `no declared verifier checks revocation, as with ordinary server certificates; ${until}. A shorter lifetime closes the gap`,
    };
  }
  return {
    reachable: "SUPERSEDED",
    why: `no verifier can refuse it; ${until}. Reach REFUSED with a CRL (issuer crl.deliver and mutualTls refuses: crl) or pins (trust)`,
  };
}

function notices(plan: Plan, now: Instant): string[] {
  const found: string[] = [];
  for (const target of plan.targets) {
    if (target.facts.reload === "kubelet")
      found.push(
        `${target.id}: kubelet changes the files of pods that mount it, within two minutes; nothing tells a pod that has it by subPath, as a variable or as a copy (gyre doctor names them): ${untold(plan)}`,
      );
    if (target.facts.reload === "restart" || target.facts.reload === "none" || target.facts.reload === undefined) {
      found.push(`${target.id}: nothing tells its process to load new material; ${untold(plan)}`);
    }
  }
  if (plan.from !== undefined && !plan.revoke && plan.request.kind === "certificate") {
    const left = plan.from.notAfter - now;
    if (left > plan.request.lifetime * 2)
      found.push(
        `g${plan.from.number} outlives the next generation: ${Math.round(left / 86400_000)} days of a live, unused credential`,
      );
  }
  if (plan.issuer.facts.findAfterCrash !== true) {
    found.push(
      `${plan.issuer.id} cannot be asked after a crash: a second issue is possible and would be recorded as an orphan`,
    );
  }
  return found;
}

/** What becomes of a process that nobody tells: presenters show that it still has the old one, else only its use does. */
function untold(plan: Plan): string {
  if (plan.presenters.length > 0) return "the rotation will hold until it is restarted";
  const old = plan.from === undefined ? undefined : `g${plan.from.number}`;
  if (old === undefined || !plan.revoke) return "whether it did is not seen, so restart it";
  return plan.sensors.length > 0
    ? `restart it, or it is shut out when ${old} is revoked after it was quiet for the window`
    : `whether it did is not seen: restart it, or it is shut out when ${old} is revoked`;
}

/** The stages of a plan's table that apply, in order. */
export const stagesOf = (plan: Plan, now: Instant): StageName[] =>
  strategies[plan.strategy].filter((stage) => applies(stage, plan, now)).map((stage) => stage.name);
