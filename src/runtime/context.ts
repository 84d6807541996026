import { randomBytes } from "node:crypto";
import type { CredentialHandle, Material, Named, Step } from "../drivers/roles.ts";
import type { Generation, Instant } from "../engine/model.ts";
import type { Lineage, Rotation } from "../engine/state.ts";
import { GyreError } from "../errors.ts";
import { Secret } from "../pki/secret.ts";
import type { Resolved } from "./inventory.ts";
import type { Ports } from "./ports.ts";

/** One pass of the loop: what effects and looks are handed. */
export interface Context {
  readonly ports: Ports;
  readonly lineage: Lineage;
  readonly rotation: Rotation;
  readonly now: Instant;
  readonly signal: AbortSignal;
}
export interface LookContext extends Context {
  readonly resolved: Resolved;
}

export const keyName = (credential: string, generation: number): string => `${credential}/g${generation}.key`;
export const sessionName = (credential: string, generation: number, member: string): string =>
  `${credential}/g${generation}.session.${Buffer.from(member).toString("hex")}`;

/** Marks our probes in access logs; the part before the dot is the same for the whole rotation. */
export const rotationTag = (rotation: Rotation): string => rotation.digest.slice(7, 19);

/** An op as drivers know it. A lineage begun anew counts its rotations from 1 again; an issuer's records do not. */
export const driverOp = ({ rotation }: Context, op: string): string => `${op}~${rotation.plan.seed}`;

export const stepFor = (context: Context, op: string): Step => ({
  op: driverOp(context, op),
  signal: context.signal,
  tag: `${rotationTag(context.rotation)}.${randomBytes(4).toString("hex")}`,
});

/** The public part of a generation, as it is kept beside the journal. */
export interface PublicMaterial {
  readonly certificate: string;
  readonly chain: string;
  readonly roots: string;
}

export async function publicMaterial(context: Context, generation: Generation): Promise<PublicMaterial> {
  const content = await context.ports.evidence.get(generation.material);
  return JSON.parse(content.toString("utf8")) as PublicMaterial;
}

export async function materialOf(context: Context, generation: Generation): Promise<Material> {
  const open = await publicMaterial(context, generation);
  const privateKey = await context.ports.secrets.get(keyName(context.rotation.plan.credential, generation.number));
  return privateKey === undefined ? open : { ...open, privateKey };
}

export function generationAt(context: Context, number: number): Generation {
  const generation = context.lineage.generations.get(number);
  if (generation === undefined)
    throw new GyreError({
      code: "bug",
      message: `g${number} of ${context.rotation.plan.credential} is not in the journal`,
    });
  return generation;
}

export const named = (generation: Generation): Named => ({
  fingerprint: generation.fingerprint,
  serial: generation.serial,
  issuer: generation.issuer,
  notAfter: generation.notAfter,
});

/** A generation in the hand of a probe; undefined where its key is not ours to use. */
export async function handleOf(context: Context, number: number): Promise<CredentialHandle | undefined> {
  const generation = generationAt(context, number);
  const material = await materialOf(context, generation);
  if (material.privateKey === undefined) return undefined;
  return {
    ...named(generation),
    certificate: material.certificate,
    chain: material.chain,
    privateKey: material.privateKey,
  };
}

/** What a certificate seen in the wild is in this lineage: `g3`, or the head of its fingerprint. */
export function nameOf(lineage: Lineage, fingerprint: string): string {
  for (const generation of lineage.generations.values())
    if (generation.fingerprint === fingerprint) return `g${generation.number}`;
  return `a certificate that is not ours (${fingerprint.slice(0, 16)}…)`;
}

/** Stands in the secret store where a verifier offered no session to resume. */
export const noSession = Secret.of("no session was offered");
export const isNoSession = (secret: Secret): boolean =>
  secret.use((bytes) => noSession.use((none) => bytes.equals(none)));
