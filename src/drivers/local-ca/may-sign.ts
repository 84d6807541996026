import { parseCertificates } from "../../pki/certificate.ts";
import { violations } from "../../pki/constraints.ts";
import { writeName } from "../../pki/distinguished-name.ts";
import { normaliseNames } from "../../pki/names.ts";
import type { IssueOrder, Issuer } from "../roles.ts";
import { constraintsOf, notPermitted } from "./policy.ts";
import type { LocalCaSettings } from "./settings.ts";

/** Why this CA may not sign these names, in words, before it is asked to; empty when it may. One not created yet is judged by its settings. */
export function namesNotAllowed(
  settings: LocalCaSettings,
  ca: Issuer,
  order: Pick<IssueOrder, "names" | "subject">,
): string[] {
  const names = normaliseNames(order.names);
  const pem = (ca.chain?.() ?? "") + (ca.roots?.() ?? "");
  const found = notPermitted(names, order.subject, pem === "" ? [] : parseCertificates(pem), settings.permitted);
  const wanted = pem === "" ? constraintsOf(settings.permitted) : undefined;
  return wanted === undefined
    ? found
    : [...new Set([...violations(wanted, names, writeName(order.subject)), ...found])];
}
