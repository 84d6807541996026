import { lookup, resolve4, resolve6 } from "node:dns/promises";
import { GyreError } from "../../errors.ts";
import type { ClusterByName } from "../kubernetes/cluster.ts";
import type { EndpointsSettings } from "../kubernetes/endpoints-settings.ts";
import type { Member } from "../roles.ts";
import { joinAddress, splitAddress } from "./address.ts";

/** Where replicas are looked for: the part that presenter and verifier settings share. */
export interface Where {
  readonly addresses?: readonly string[] | undefined;
  readonly resolve?: string | undefined;
  readonly endpoints?: EndpointsSettings | undefined;
  readonly replicas?: number | undefined;
}

/** How names become addresses; the system's unless a test stands in for it. Each throws as node:dns does. */
export interface Names {
  /** getaddrinfo: knows the hosts file and search domains, and leaves out without a word what it could not get. */
  readonly system: (host: string) => Promise<readonly string[]>;
  readonly a: (host: string) => Promise<readonly string[]>;
  readonly aaaa: (host: string) => Promise<readonly string[]>;
}
export const systemNames: Names = {
  system: async (host) => (await lookup(host, { all: true })).map((entry) => entry.address),
  a: resolve4,
  aaaa: resolve6,
};

/**
 * One member per replica address. Throws `unreachable` when the name does not resolve in full, or when the number is
 * not the one that the second source gave: a missing replica must not count as a proven one.
 */
export async function membersOf(where: Where, names: Names = systemNames, cluster?: ClusterByName): Promise<Member[]> {
  if (where.endpoints !== undefined) {
    // Loaded where it is needed: most who look at servers have no cluster.
    const { endpointMembers } = await import("../kubernetes/endpoints-members.ts");
    if (cluster === undefined) throw new GyreError({ code: "bug", message: "tls: endpoints without clusters" });
    return endpointMembers(cluster(where.endpoints.cluster), where.endpoints, where.replicas);
  }
  const addresses = where.resolve === undefined ? (where.addresses ?? []) : await resolveAll(where.resolve, names);
  const found = [...new Set(addresses)];
  if (where.replicas !== undefined && found.length !== where.replicas)
    throw new GyreError({
      code: "unreachable",
      message: `tls: ${where.replicas} replicas expected, ${found.length} addresses found (${found.join(", ") || "none"}); none was looked at`,
      where: where.resolve ?? "addresses",
      retry: "later",
      next: "wait for the replicas, or correct `replicas`",
    });
  return found.map((address) => ({ id: address, address }));
}

async function resolveAll(target: string, names: Names): Promise<string[]> {
  const { host, port } = splitAddress(target);
  const [system, a, aaaa] = await Promise.allSettled([names.system(host), names.a(host), names.aaaa(host)]);
  const dns = [a, aaaa];
  const records = dns.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
  // A name that DNS knows must be known in full: getaddrinfo drops a family whose query failed.
  const failed = dns.find((one) => one.status === "rejected" && !saysNone(one.reason));
  if (records.length > 0 && failed?.status === "rejected") throw unresolved(target, failed.reason);
  const all = new Set([...(system.status === "fulfilled" ? system.value : []), ...records]);
  if (all.size === 0) throw unresolved(target, system.status === "rejected" ? system.reason : undefined);
  return [...all].sort().map((ip) => joinAddress(ip, port));
}

const codeOf = (reason: unknown): string => String((reason as { code?: unknown } | undefined)?.code ?? "no address");
const saysNone = (reason: unknown): boolean => ["ENODATA", "ENOTFOUND"].includes(codeOf(reason));

const unresolved = (target: string, reason: unknown): GyreError =>
  new GyreError({
    code: "unreachable",
    message: `tls: ${target} does not resolve in full (${codeOf(reason)}); no replica was looked at`,
    where: target,
    retry: "later",
    next: "check the name and the DNS server, or list `addresses`",
  });
