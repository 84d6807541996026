import { checkPolicy } from "../../engine/check-policy.ts";
import { isContradiction, scheduleOf } from "../../engine/lead.ts";
import { sayInstant, sayMillis } from "../../engine/time-words.ts";
import type { Diagnosis } from "../api.ts";
import { outstandingOf } from "../story.ts";
import { type Check, note, ok, problem, warning } from "./patient.ts";
import { saidByReloads } from "./reloads.ts";

/** Dates, windows and freezes that do not go together, tried out on some weeks. */
export const policy: Check = ({ manifest, planned }) => {
  const quiet = planned?.stages.includes("quiet") === true ? (planned.plan?.quiet.window ?? 0) : 0;
  const found = checkPolicy(manifest.renew, manifest.request.lifetime, quiet).map(
    ({ level, field, message, next }): Diagnosis => {
      const what = `renew.${field}: ${message}`;
      return level === "error" ? problem("policy", what, next) : warning("policy", what, next);
    },
  );
  const schedule = scheduleOf(manifest.renew, manifest.request.lifetime);
  if (found.length > 0 || isContradiction(schedule)) return found;
  return [ok("policy", `renewed after ${sayMillis(schedule.dueAge)} (${schedule.words})`)];
};

/** The quiet window against what the manifest itself says may go on using the old one. */
export const quiet: Check = ({ manifest, planned }) => {
  if (planned?.plan === undefined || !planned.stages.includes("quiet")) return [];
  const { window, ...periods } = manifest.quiet;
  const longest = Object.entries(periods).sort(([, a], [, b]) => b - a)[0];
  if (window !== undefined && longest !== undefined && window < longest[1] * 1.25) {
    const what = `the quiet window of ${sayMillis(window)} is shorter than 1.25 x ${longest[0]} (${sayMillis(longest[1])}): somebody may still use the old one after it`;
    return [warning("quiet", what, "leave quiet.window out, or make it longer")];
  }
  const { plan } = planned;
  if (window === undefined && longest === undefined)
    return [
      note(
        "quiet",
        `${sayMillis(plan.quiet.window)}: ${plan.quiet.why}`,
        "say what is known under quiet: connectionAge, ticketLifetime, consumerPeriod",
      ),
    ];
  return [ok("quiet", `${sayMillis(plan.quiet.window)}: ${plan.quiet.why}`)];
};

/** Old generations that nobody needs and somebody could use; a life of many periods makes more of them. */
export const outstanding: Check = ({ manifest, lineage, planned, clock }) => {
  const found: Diagnosis[] = [];
  const live = outstandingOf(lineage, clock.now());
  if (live.length > 0) {
    const last = sayInstant(Math.max(...live.map((generation) => generation.notAfter)));
    const what = `${live.length} old ${live.length === 1 ? "generation is" : "generations are"} still accepted until ${last}: live credentials that nobody needs`;
    found.push(warning("outstanding", what, "a shorter lifetime, or a verifier that can refuse (crl, pins)"));
  }
  const schedule = scheduleOf(manifest.renew, manifest.request.lifetime);
  const refuses = planned?.plan?.grade.reachable === "REFUSED" || manifest.kind === "crl";
  if (isContradiction(schedule) || refuses) return found;
  const ratio = manifest.request.lifetime / schedule.dueAge;
  if (ratio > 3)
    found.push(
      warning(
        "outstanding",
        `a life of ${sayMillis(manifest.request.lifetime)}, renewed every ${sayMillis(schedule.dueAge)}: about ${Math.floor(ratio)} are valid at once`,
        `ask for a life of two to three periods, ${sayMillis(schedule.dueAge * 3)} at most`,
      ),
    );
  return found;
};

/** What can be proven at best, and how to prove more. */
export const grade: Check = (patient) => {
  const { plan } = patient.planned ?? {};
  if (plan === undefined) return [];
  const notices = plan.notices.filter((notice) => !saidByReloads(notice, patient));
  return [...notices.map((notice) => note("plan", notice)), ok("grade", `${plan.grade.reachable}: ${plan.grade.why}`)];
};
