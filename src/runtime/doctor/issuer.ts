import { namesNotAllowed } from "../../drivers/local-ca/may-sign.ts";
import { sayInstant, sayMillis } from "../../engine/time-words.ts";
import { lint } from "../../pki/lint.ts";
import type { Diagnosis } from "../api.ts";
import { authoritiesOf, type Check, note, ok, problem, warning } from "./patient.ts";

const about = (name: string): string => `issuer ${name}`;

/** It opens, its passphrase is right, its record is whole. */
export const issuerAnswers: Check = async ({ parties, issuer }) => {
  const { instance, pending } = parties.issuer;
  await instance.check?.();
  if (pending !== undefined) return [note(about(issuer.name), pending)];
  return [
    ok(
      about(issuer.name),
      instance.certificate === undefined ? "answers" : `answers as ${instance.certificate.subject}`,
    ),
  ];
};

/** Every CA certificate holds now, when clocks differ, and as long as what is wanted from it. */
export const issuerLives: Check = ({ parties, issuer, manifest, clock }) => {
  const { intermediates, roots } = authoritiesOf(parties.issuer.instance);
  const now = clock.now();
  const { skew } = manifest.timing;
  const { lifetime } = manifest.request;
  return [...intermediates, ...roots].flatMap((ca): Diagnosis[] => {
    const name = `its CA ${JSON.stringify(ca.subject)}`;
    const say = (level: typeof problem, what: string, next: string) => [
      level(about(issuer.name), `${name} ${what}`, next),
    ];
    const move = "move to a new CA: another directory in the manifest";
    if (ca.notAfter <= now) return say(problem, `expired ${sayInstant(ca.notAfter)}`, move);
    if (ca.notBefore > now) return say(problem, `is not valid before ${sayInstant(ca.notBefore)}`, "set the clock");
    if (ca.notAfter <= now + skew)
      return say(
        problem,
        `expires ${sayInstant(ca.notAfter)}, sooner than clocks may differ (${sayMillis(skew)})`,
        move,
      );
    if (ca.notBefore > now - skew) {
      // It heals by itself in minutes, so it is no warning.
      const slow = `is valid since ${sayInstant(ca.notBefore)}: a verifier whose clock is ${sayMillis(skew)} behind does not trust it yet`;
      return [note(about(issuer.name), `${name} ${slow}`, `wait until ${sayInstant(ca.notBefore + skew)}`)];
    }
    if (ca.notAfter < now + lifetime) {
      const left = sayMillis(ca.notAfter - now);
      return say(
        problem,
        `lives ${left} more, and ${sayMillis(lifetime)} are wanted of what it signs`,
        `${move}; or a shorter lifetime`,
      );
    }
    if (ca.notAfter < now + 2 * lifetime)
      return say(
        warning,
        `lives ${sayMillis(ca.notAfter - now)} more: long enough for this rotation, not for the one after`,
        move,
      );
    return lint(ca, { now })
      .filter(({ severity }) => severity === "error")
      .flatMap(({ message, reference }) => say(warning, `${message} (${reference})`, move));
  });
};

/** What is wanted is within what the issuer gives. */
export const issuerAllows: Check = ({ parties, issuer, manifest }) => {
  const { instance } = parties.issuer;
  const { request } = manifest;
  const limit = instance.can.maxLifetime;
  const found: Diagnosis[] = [];
  if (request.kind === "certificate" && limit !== undefined && request.lifetime > limit) {
    const what = `a lifetime of ${sayMillis(request.lifetime)} is wanted, and it signs at most ${sayMillis(limit)}`;
    found.push(problem(about(issuer.name), what, `ask for ${sayMillis(limit)}, or raise maxLifetime`));
  }
  if (issuer.driver.driver === "local-ca" && request.kind === "certificate") {
    const refused = namesNotAllowed(issuer.driver.settings, instance, request);
    if (refused.length > 0)
      found.push(
        problem(about(issuer.name), `it may not sign these names: ${refused.join("; ")}`, "ask for permitted names"),
      );
  }
  return found;
};

/** A CRL that lapses refuses everybody, whatever this rotation does. */
export const issuerCrl: Check = ({ crl, clock }) => {
  if (crl?.due === undefined) return [];
  const { due, name } = crl;
  const now = clock.now();
  const rotate = `gyre rotate ${name}`;
  if (due.expiresAt !== undefined && due.expiresAt <= now)
    return [
      problem(`CRL ${name}`, `expired ${sayInstant(due.expiresAt)}: verifiers that read it refuse everybody`, rotate),
    ];
  if (due.action === "impossible") return [warning(`CRL ${name}`, due.because, due.next)];
  if (due.action === "rotate")
    return [
      warning(`CRL ${name}`, due.expiresAt === undefined ? "was never published" : `is due: ${due.because}`, rotate),
    ];
  return [ok(`CRL ${name}`, `next due ${sayInstant(due.until)}`)];
};
