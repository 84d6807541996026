import { GyreError } from "../../errors.ts";
import type { Certificate } from "../../pki/certificate.ts";
import { violations } from "../../pki/constraints.ts";
import { writeName } from "../../pki/distinguished-name.ts";
import type { NameConstraints } from "../../pki/extensions.ts";
import type { LocalCaSettings } from "./settings.ts";

export type Permitted = NonNullable<LocalCaSettings["permitted"]>;

const TYPES = { dns: "DNS", ip: "IP", uri: "URI", email: "email" } as const;

/**
 * The name constraints of a CA. RFC 5280 4.2.1.10 leaves kinds of names free that no subtree mentions; for addresses
 * that is closed by excluding all of them. DNS names, URIs and e-mail addresses have no subtree that means "all" to
 * every verifier, so those are held back by this CA when it signs.
 */
export function constraintsOf(permitted: Permitted | undefined): NameConstraints | undefined {
  if (permitted === undefined) return undefined;
  const trees = kinds(permitted).flatMap(([type, values]) => values.map((value) => `${type}:${value}`));
  if (trees.length === 0) return undefined;
  return { permitted: trees, excluded: permitted.ip === undefined ? ["IP:0.0.0.0/0", "IP:::/0"] : [] };
}

function kinds(permitted: Permitted): [string, readonly string[]][] {
  return Object.entries(TYPES).map(([key, type]) => [type, permitted[key as keyof typeof TYPES] ?? []]);
}

/** Why names may not be signed, in words; empty when they may. */
export function notPermitted(
  names: readonly string[],
  subject: string,
  authority: readonly Certificate[],
  permitted: Permitted | undefined,
): string[] {
  const subjectDer = writeName(subject);
  const found = authority.flatMap(({ nameConstraints }) =>
    nameConstraints === undefined ? [] : violations(nameConstraints, names, subjectDer),
  );
  if (permitted !== undefined) {
    const free = kinds(permitted).filter(([, values]) => values.length > 0);
    const other = names.filter((name) => free.length > 0 && !free.some(([type]) => name.startsWith(`${type}:`)));
    const allowed = free.map(([type]) => type).join(", ");
    found.push(...other.map((name) => `${name} is no name of a permitted kind (${allowed})`));
  }
  return [...new Set(found)];
}

/** A length of time for people: `30d`, `36h`, `90s`. Rounded down, so that asking for it is granted. */
export function words(ms: number): string {
  const units: [string, number][] = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1000],
  ];
  const [unit, size] = units.find(([, length]) => ms >= 2 * length) ?? units.at(-1)!;
  return `${Math.max(0, Math.floor(ms / size))}${unit}`;
}

export function issuerError(message: string, next: string): GyreError {
  return new GyreError({ code: "issuer", message: `${message}; nothing was issued`, next });
}

/** What the pki room found wrong with a file of the CA, said with the file and what was left undone. */
export function unusable(error: unknown, what: string, path: string): unknown {
  if (!(error instanceof GyreError)) return error;
  const named = error.message.includes(path) ? what : `${what} ${path}`;
  return new GyreError({
    code: error.code,
    message: `${named}: ${error.message}; nothing was issued`,
    where: error.where ?? path,
    next: error.next ?? `put ${path} back from a backup, or correct the manifest`,
    cause: error,
  });
}
