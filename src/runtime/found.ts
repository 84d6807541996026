import { hash } from "node:crypto";
import type { Stored, Target } from "../drivers/roles.ts";
import type { Digest, Generation, Party } from "../engine/model.ts";
import type { Lineage } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import { parseCertificates } from "../pki/certificate.ts";
import { readPrivateKey, requireMatch } from "../pki/keys.ts";
import { keyName, type PublicMaterial } from "./context.ts";
import { describeIssued } from "./material.ts";
import { type Bound, type Parties, partyOf } from "./parties.ts";
import type { Ports } from "./ports.ts";
import type { Runner } from "./runner.ts";

/** The plan's targets with the version each held when the plan was made: what a delivery may replace. */
export async function versionsOf(parties: Parties): Promise<Party[]> {
  return Promise.all(
    parties.targets.map(async (bound) => ({ ...partyOf(bound), version: (await bound.instance.read()).version })),
  );
}

/** The plan's trust stores likewise. One that cannot be read is met by its check. */
export async function storeVersionsOf(parties: Pick<Parties, "trustStores">): Promise<Party[]> {
  return Promise.all(
    parties.trustStores.map(async (bound) => {
      const read = await bound.instance.read().catch(() => undefined);
      return { ...partyOf(bound), ...(read === undefined ? {} : { version: read.version }) };
    }),
  );
}

/** What lies at the targets and is therefore in use, whoever put it there. */
export interface Found {
  readonly place: string;
  readonly stored: Stored;
  /** As the lineage has it, or, where it is new to it, as it is taken in by the next rotation. */
  readonly generation: Generation;
  readonly isNew: boolean;
  /** The public part that `generation.material` is the digest of. */
  readonly open: PublicMaterial;
}

/** Which credential, as far as what is in place depends on it. */
export interface Sought {
  readonly name: string;
  readonly kind: "certificate" | "crl";
}

/**
 * Reads every target and says which generation is in place; undefined where they are all empty. Writes nothing.
 * @throws GyreError `conflict` when certificates differ, since then none of them is known to be the one in use, and
 *   whatever reading a target throws
 */
export async function findInPlace(
  targets: readonly Bound<Target>[],
  sought: Sought,
  lineage: Lineage,
): Promise<Found | undefined> {
  const held = (await Promise.all(targets.map(({ instance }) => readPlace(instance, sought.kind)))).filter(
    (one) => one !== undefined,
  );
  const first = sought.kind === "crl" ? newest(held) : held[0];
  if (first === undefined) return undefined;
  const { place, stored, open, description } = first;
  const differing = held.find((other) => other.description.fingerprint !== description.fingerprint);
  // Places that hold an older CRL of the issuer are merely behind, and the next one replaces either.
  if (differing !== undefined && sought.kind === "certificate") throw conflict(sought.name, place, differing.place);
  const known = [...lineage.generations.values()].find((one) => one.fingerprint === description.fingerprint);
  const material: Digest = `sha256:${hash("sha256", JSON.stringify(open), "hex")}`;
  const number = Math.max(0, ...lineage.generations.keys()) + 1;
  return { place, stored, open, generation: known ?? { ...description, number, material }, isNew: known === undefined };
}

interface Held extends Pick<Found, "place" | "stored" | "open"> {
  readonly description: Omit<Generation, "number" | "material">;
}

async function readPlace(target: Target, kind: Sought["kind"]): Promise<Held | undefined> {
  const { place } = target;
  const read = await target.read();
  if (read.malformed !== undefined) throw unusable(`${read.malformed}, and is not empty`, place);
  if (read.version === "absent" || read.certificate.trim() === "") return undefined;
  const open = publicPartOf(read, kind);
  const stored = kind === "crl" ? read : withUsableKey(read, open, place);
  return { place, stored, open, description: describeIssued(open, kind) };
}

/**
 * A key that is not the certificate's would be taken in as the old one's, and every look with it would fail. One with a
 * passphrase that only its server has is left alone: the old generation is then one whose key is not ours to use.
 */
function withUsableKey(stored: Stored, open: PublicMaterial, place: string): Stored {
  const { privateKey: key, ...rest } = stored;
  if (key === undefined || key.use((bytes) => bytes.includes("ENCRYPTED"))) return rest;
  try {
    requireMatch(parseCertificates(open.certificate)[0]!, readPrivateKey(key), place);
    return stored;
  } catch (error) {
    if (!(error instanceof GyreError)) throw error;
    throw unusable(`the private key beside ${place} is not usable with it: ${error.message}`, place);
  }
}

/** Taking it for empty would overwrite what somebody put there, and call the rotation a first issue. */
function unusable(what: string, place: string): GyreError {
  return new GyreError({
    code: "input",
    message: `${what}; nothing was changed`,
    where: place,
    next: "put the right certificate and key there; or delete what is wrong: without a certificate a first one is issued, without a key the old one is given up without it",
  });
}

/** The leaf apart from its chain, as an issue would have given it. Which roots it leads to, a target does not say. */
function publicPartOf(stored: Stored, kind: Sought["kind"]): PublicMaterial {
  const [leaf, ...chain] = kind === "crl" ? [] : parseCertificates(stored.certificate);
  if (leaf === undefined) return { certificate: stored.certificate, chain: "", roots: "" };
  return { certificate: leaf.pem, chain: chain.map((one) => one.pem).join(""), roots: "" };
}

const newest = (held: readonly Held[]): Held | undefined =>
  held.toSorted((a, b) => b.description.notBefore - a.description.notBefore)[0];

function conflict(name: string, one: string, other: string): GyreError {
  return new GyreError({
    code: "conflict",
    message: `${name}: ${one} and ${other} hold different certificates, so neither is known to be the one in use; nothing was changed`,
    next: "make them the same, or delete the one that is not in use",
  });
}

/** The lineage as it will be once what was found is taken in. The lineage itself stays as it is. */
export function withFound(lineage: Lineage, found: Found | undefined): Lineage {
  if (found === undefined) return lineage;
  const { generation } = found;
  const generations = new Map(lineage.generations).set(generation.number, generation);
  return { ...lineage, generations, current: generation.number };
}

/**
 * Takes what is in place into the lineage, with its key, so that it can be seen refused later: a certificate from
 * before Gyre, or one that somebody delivered by hand since.
 * @throws as `findInPlace`
 */
export async function adoptFound(
  runner: Pick<Runner, "lineage" | "append">,
  ports: Pick<Ports, "secrets" | "evidence"> & { readonly parties: Pick<Parties, "targets"> },
  sought: Sought,
): Promise<void> {
  const { lineage } = runner;
  const found = await findInPlace(ports.parties.targets, sought, lineage);
  if (found?.isNew === false) await keepKey(ports, sought.name, found);
  if (found === undefined || found.generation.number === lineage.current) return;
  if (found.isNew) await take(ports, sought.name, found);
  await runner.append({ type: "GenerationAdopted", generation: found.generation, foundAt: found.place });
}

/** One of ours that somebody put back, from a copy perhaps: its key was deleted from the store when it had been replaced. */
async function keepKey(ports: Pick<Ports, "secrets">, name: string, { stored, generation }: Found): Promise<void> {
  const key = keyName(name, generation.number);
  if (stored.privateKey === undefined || (await ports.secrets.get(key)) !== undefined) return;
  await ports.secrets.put(key, stored.privateKey);
}

async function take(
  ports: Pick<Ports, "secrets" | "evidence">,
  name: string,
  { stored, open, generation }: Found,
): Promise<void> {
  const key = keyName(name, generation.number);
  // A key without a GenerationAdopted behind it is what a crash between the two left; it is this very one or stale.
  await ports.secrets.delete(key);
  if (stored.privateKey !== undefined) await ports.secrets.put(key, stored.privateKey);
  const written = await ports.evidence.put(JSON.stringify(open));
  if (written !== generation.material)
    throw new GyreError({ code: "bug", message: `${name}: evidence ${written} is not ${generation.material}` });
}
