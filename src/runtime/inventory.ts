import type * as roles from "../drivers/roles.ts";
import type { Inventory, Member, Role } from "../engine/model.ts";
import type { Bound, Parties } from "./parties.ts";

/** The inventory as data, and the way back from a member to the driver that knows it. */
export interface Resolved {
  readonly inventory: Inventory;
  readonly presenters: ReadonlyMap<string, { readonly bound: Bound<roles.Presenter>; readonly member: roles.Member }>;
  readonly verifiers: ReadonlyMap<string, { readonly bound: Bound<roles.Verifier>; readonly member: roles.Member }>;
}

type Listing = { readonly members: () => Promise<roles.Member[]> };

/** Asks every driver for its members. One that cannot answer in full is noted; "for all" is unknown then (I13). */
export async function resolveInventory(parties: Parties): Promise<Resolved> {
  const unresolved: { of: string; why: string }[] = [];
  const presenters = await listAll(parties.presenters, unresolved);
  const verifiers = await listAll(parties.verifiers, unresolved);
  const places = (list: readonly Bound<unknown>[]): Member[] => list.map(({ id }) => ({ id, of: id }));
  const members: Record<Role, Member[]> = {
    target: places(parties.targets),
    trustStore: places(parties.trustStores),
    sensor: places(parties.sensors),
    presenter: asMembers(presenters),
    verifier: asMembers(verifiers),
  };
  return { inventory: { members, unresolved }, presenters, verifiers };
}

type Listed<T> = Map<string, { bound: Bound<T>; member: roles.Member }>;

async function listAll<T extends Listing>(
  list: readonly Bound<T>[],
  unresolved: { of: string; why: string }[],
): Promise<Listed<T>> {
  const found: Listed<T> = new Map();
  const answers = await Promise.all(
    list.map(async (bound) => {
      try {
        return { bound, members: await bound.instance.members() };
      } catch (error) {
        unresolved.push({ of: bound.id, why: error instanceof Error ? error.message : String(error) });
        return { bound, members: [] };
      }
    }),
  );
  for (const { bound, members } of answers) {
    for (const member of members) {
      // The same address under two entries (two server names) is two members.
      const id = found.has(member.id) ? `${member.id} (${bound.id})` : member.id;
      found.set(id, { bound, member });
    }
  }
  return found;
}

const asMembers = (listed: Listed<unknown>): Member[] =>
  [...listed].map(([id, { bound, member }]) => ({
    id,
    of: bound.id,
    ...(member.instance === undefined ? {} : { instance: member.instance }),
  }));
