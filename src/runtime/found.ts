import type { Stored } from "../drivers/roles.ts";
import type { Generation, Party } from "../engine/model.ts";
import { GyreError } from "../errors.ts";
import { parseCertificates } from "../pki/certificate.ts";
import { keyName } from "./context.ts";
import { describeIssued } from "./material.ts";
import { type Parties, partyOf } from "./parties.ts";
import type { Ports } from "./ports.ts";
import type { Runner } from "./runner.ts";

/** The plan's targets with the version each held when the plan was made: what a delivery may replace. */
export async function versionsOf(parties: Parties): Promise<Party[]> {
  return Promise.all(
    parties.targets.map(async (bound) => ({ ...partyOf(bound), version: (await bound.instance.read()).version })),
  );
}

/**
 * What is in place is the old generation, whoever put it there: a certificate from before Gyre, or one that somebody
 * delivered by hand since, is taken into the lineage, with its key, so that it can be seen refused later.
 * Several targets that hold different things cannot be one credential: code `conflict`.
 */
export async function adoptFound(
  runner: Runner,
  ports: Ports,
  credential: { readonly name: string; readonly kind: "certificate" | "crl" },
): Promise<void> {
  const found = await readAll(ports.parties);
  if (credential.kind === "crl")
    found.sort((a, b) => describeIssued(b.stored, "crl").notBefore - describeIssued(a.stored, "crl").notBefore);
  const [first, ...others] = found;
  if (first === undefined) return;
  const fingerprint = fingerprintOf(first.stored, credential.kind);
  // Places that hold an older CRL of the issuer are merely behind, and the next one replaces either.
  const differing =
    credential.kind === "crl"
      ? undefined
      : others.find((other) => fingerprintOf(other.stored, credential.kind) !== fingerprint);
  if (differing !== undefined) {
    throw new GyreError({
      code: "conflict",
      message: `${credential.name}: ${first.place} and ${differing.place} hold different ${credential.kind}s, so neither is known to be the one in use; nothing was changed`,
      next: "make them the same, or delete the one that is not in use",
    });
  }
  const { lineage } = runner;
  const current = lineage.current === undefined ? undefined : lineage.generations.get(lineage.current);
  if (current?.fingerprint === fingerprint) return;
  const known = [...lineage.generations.values()].find((generation) => generation.fingerprint === fingerprint);
  const generation =
    known ?? (await take(ports, credential, first.stored, Math.max(0, ...lineage.generations.keys()) + 1));
  await runner.append({ type: "GenerationAdopted", generation, foundAt: first.place });
}

async function readAll(parties: Parties): Promise<{ place: string; stored: Stored }[]> {
  const read = await Promise.all(
    parties.targets.map(async ({ instance }) => ({ place: instance.place, stored: await instance.read() })),
  );
  return read.filter(({ stored }) => stored.version !== "absent" && stored.certificate.trim() !== "");
}

const fingerprintOf = (stored: Stored, kind: "certificate" | "crl"): string =>
  describeIssued({ certificate: stored.certificate }, kind).fingerprint;

async function take(
  ports: Ports,
  credential: { name: string; kind: "certificate" | "crl" },
  stored: Stored,
  number: number,
): Promise<Generation> {
  const key = keyName(credential.name, number);
  // A key without a GenerationAdopted behind it is what a crash between the two left; it is this very one or stale.
  await ports.secrets.delete(key);
  if (stored.privateKey !== undefined) await ports.secrets.put(key, stored.privateKey);
  const [leaf, ...chain] = credential.kind === "crl" ? [] : parseCertificates(stored.certificate);
  const open =
    leaf === undefined
      ? { certificate: stored.certificate, chain: "", roots: "" }
      : { certificate: leaf.pem, chain: chain.map((one) => one.pem).join(""), roots: "" };
  const material = await ports.evidence.put(JSON.stringify(open));
  return { ...describeIssued(open, credential.kind), number, material };
}
