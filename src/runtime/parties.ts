import type { Issuer, Presenter, Sensor, Target, TrustStore, Verifier } from "../drivers/roles.ts";
import type { Facts, Party, Role, StepKind, StepRef } from "../engine/model.ts";

/** A driver instance under the id the plan knows it by. */
export interface Bound<T> {
  readonly id: string;
  readonly driver: string;
  readonly instance: T;
}

/** `pending`: it was only looked at and does not exist yet; what its first issue will create, in words. */
export interface BoundIssuer extends Bound<Issuer> {
  readonly pending?: string;
}

/** Everything one credential's rotation talks to. */
export interface Parties {
  readonly issuer: BoundIssuer;
  readonly targets: readonly Bound<Target>[];
  /** Carry the refusal: pins, or the issuer's CRL. */
  readonly trustStores: readonly Bound<TrustStore>[];
  readonly presenters: readonly Bound<Presenter>[];
  readonly verifiers: readonly Bound<Verifier>[];
  readonly sensors: readonly Bound<Sensor>[];
}

type Capable = { readonly can: Facts; readonly listed?: readonly string[] };

/** The plan's entry for a driver instance: its facts are frozen here. */
export const partyOf = (bound: Bound<Capable>): Party => ({
  id: bound.id,
  driver: bound.driver,
  facts: bound.instance.can,
  ...(bound.instance.listed === undefined ? {} : { listed: bound.instance.listed }),
});

export const partiesOf = (bound: readonly Bound<Capable>[]): Party[] => bound.map(partyOf);

const lists = {
  target: "targets",
  trustStore: "trustStores",
  presenter: "presenters",
  verifier: "verifiers",
  sensor: "sensors",
} as const satisfies Record<Role, keyof Parties>;

/** The instance behind an id of the plan. A plan names only what was bound, so a miss means the manifest changed since. */
export function boundTo<R extends Role>(
  parties: Parties,
  role: R,
  id: string,
): Parties[(typeof lists)[R]][number] | undefined {
  const list: readonly Parties[(typeof lists)[R]][number][] = parties[lists[role]];
  return list.find((bound) => bound.id === id);
}

/** What each step acts on; a reload is of whichever of the two has the name. A key is destroyed in our own store. */
const actsOn: Readonly<Record<StepKind, readonly ("issuer" | "target" | "trustStore")[]>> = {
  issue: ["issuer"],
  retire: ["issuer"],
  deliver: ["target"],
  restore: ["target"],
  forget: ["target"],
  admit: ["trustStore"],
  publish: ["trustStore"],
  withdraw: ["trustStore"],
  reload: ["target", "trustStore"],
  destroy: [],
};

/** The manifest still names what the plan's step acts on. */
export function isNamed(parties: Parties, { kind, on }: StepRef): boolean {
  const roles = actsOn[kind];
  return (
    roles.length === 0 ||
    roles.some((role) => (role === "issuer" ? parties.issuer.id === on : boundTo(parties, role, on) !== undefined))
  );
}
