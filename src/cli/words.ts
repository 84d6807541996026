import type { Due } from "../engine/due.ts";
import type { Grade, Instant, Millis, StageName, StepRef, StrategyName } from "../engine/model.ts";

/** Every sentence the command line has for a word of the engine. */

/** What each stage is for, in a plan. */
export const stageWords: Readonly<Record<StageName, string>> = {
  planned: "everything the rotation will do is written down",
  issued: "the issuer makes the new one",
  created: "the new one is made, and trusted beside the old",
  verified: "the new one is tried before anybody is given it",
  delivered: "the new one is stored at every target",
  adopted: "every replica is seen using the new one",
  quiet: "nobody uses the old one any more",
  revoked: "the old one is revoked, and every verifier is told",
  deleted: "the old one is no longer trusted anywhere",
  refused: "every verifier is seen refusing the old one and accepting the new",
  superseded: "the new one is in place everywhere; the old one lives on until it expires",
  expired: "the new one is in place everywhere; verifiers that can be asked are seen refusing the expired one",
  closed: "the old key is destroyed and the receipt is signed",
};

export const strategyWords: Readonly<Record<StrategyName, string>> = {
  replace: "the new one takes the old one's place",
  overlap: "both are trusted until the old one is taken away",
};

/** Where a CRL's rotation has other words: nobody presents it, and it has no key. */
const crlStageWords: Partial<Readonly<Record<StageName, string>>> = {
  issued: "the issuer signs the next CRL",
  delivered: "the new CRL is stored at every place",
  adopted: "every server that checks it is told, and seen refusing what only the new CRL lists",
  superseded: "the new CRL is in place everywhere",
  expired: "the new CRL is in place everywhere; the old one had ended",
  closed: "the receipt is signed",
};

export const stageSentence = (stage: StageName, kind: Kind): string =>
  (kind === "crl" ? crlStageWords[stage] : undefined) ?? stageWords[stage];

type Kind = "certificate" | "crl";

/** What a grade means to somebody who reads it for the first time. `old` is `g3`. */
export function gradeWords(grade: Grade, old = "the old one", kind: Kind = "certificate"): string {
  if (kind === "crl") {
    if (grade === "SUPERSEDED")
      return `every place holds the new CRL; whoever kept a copy of ${old} believes it until that one ends`;
    if (grade === "EXPIRED") return `${old} had ended; every place holds the new CRL`;
  }
  const words: Readonly<Record<Grade, string>> = {
    REFUSED: `every verifier was seen refusing ${old}`,
    DENIED: `${old} still authenticates, and was seen authorised for nothing`,
    SUPERSEDED: `nobody presents ${old} any more; until it expires, whoever holds its key can still use it`,
    EXPIRED: `${old} is past its date`,
    FIRST: "the first issue, so there was nothing to replace",
  };
  return words[grade];
}

/** `deliver g4 to /etc/nginx/tls/shop.pem`. */
export function stepWords(step: StepRef): string {
  const g = `g${step.generation}`;
  switch (step.kind) {
    case "issue":
      return `issue ${g} from ${step.on}`;
    case "admit":
      return `add ${g} to ${step.on}`;
    case "deliver":
      return `deliver ${g} to ${step.on}`;
    case "restore":
      return `put ${g} back at ${step.on}`;
    case "reload":
      return `reload the process behind ${step.on}`;
    case "retire":
      return `revoke ${g} at ${step.on}`;
    case "publish":
      return `put the CRL into ${step.on}`;
    case "withdraw":
      return `take ${g} out of ${step.on}`;
    case "forget":
      return `delete the kept copy at ${step.on}`;
    case "destroy":
      return `destroy the private key of ${g}`;
    default:
      return step.kind satisfies never;
  }
}

/** Kept on one line: a command that can be copied, a number with its unit. Printed as blanks. */
export const glued = (text: string): string => text.replaceAll(" ", "\u00a0");

/** A command to copy: arguments quoted where a shell would take them apart, kept on one line. */
export const commandWords = (...words: readonly string[]): string =>
  glued(
    ["gyre", ...words]
      .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
      .join(" "),
  );

const units: readonly (readonly [Millis, string])[] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1000, "s"],
];

/**
 * A length of time in one unit, cut off rather than rounded, so that a certificate never looks longer-lived than it
 * is: `47 h` and `2 d` are told apart because a unit is used from twice its size on (but seconds end at 99).
 */
export function spanWords(length: Millis): string {
  const abs = Math.abs(length);
  if (!Number.isFinite(abs)) return "for ever";
  for (const [size, name] of units) {
    const least = size === 60_000 ? 100_000 : size * 2;
    if (abs >= least) return glued(`${Math.floor(abs / size)} ${name}`);
  }
  return glued(`${Math.floor(abs / 1000)} s`);
}

/** `4 s ago`, `in 3 h`, `now`. */
export function relativeWords(at: Instant, now: Instant): string {
  const difference = at - now;
  if (Math.abs(difference) < 1000) return "now";
  return glued(difference > 0 ? `in ${spanWords(difference)}` : `${spanWords(difference)} ago`);
}

/** `2026-11-24 14:30:05 UTC`: to the second, for timelines and receipts. */
export function instantWords(at: Instant): string {
  if (!Number.isFinite(at) || Math.abs(at) > 8.64e15) return "never";
  return glued(`${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`);
}

/** `2026-11-24 14:30`: UTC, to the minute, where a column's title says so. */
export const minuteWords = (at: Instant): string => instantWords(at).slice(0, 16);

/** `2026-11-24 14:30 UTC (in 3 h)`. */
export const momentWords = (at: Instant, now: Instant): string =>
  `${minuteWords(at)}${glued(" UTC")} (${relativeWords(at, now)})`;

export const count = (number: number, one: string, many = `${one}s`): string =>
  `${number} ${number === 1 ? one : many}`;

/** First eight hex digits, as far as people compare them. */
export const short = (fingerprint: string): string => fingerprint.replace(/^sha256:/, "").slice(0, 8);

/** The due date in a few words, for a table. */
export function dueWords(due: Due | undefined, now: Instant): string {
  if (due === undefined) return "-";
  if (due.action === "rotate") return "now";
  if (due.action === "impossible") return "impossible";
  return relativeWords(due.until, now);
}

/** Why nothing is to be done, or what stands in the way. */
export function dueSentence(due: Due, now: Instant): string {
  if (due.action === "rotate") return `due now: ${due.because}`;
  if (due.action === "wait") return `not due before ${momentWords(due.until, now)}: ${due.because}`;
  const override =
    due.overrideAt === undefined
      ? ""
      : `; unless one opens, it is rotated outside of them from ${momentWords(due.overrideAt, now)} (whenLate: rotate)`;
  return `cannot be renewed in time: ${due.because}${override}`;
}
