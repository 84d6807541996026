/**
 * Addresses on the loopback device that are no loopback addresses: Kubernetes takes 127.0.0.0/8 neither for an API server
 * nor for an endpoint. They are of 198.18.0.0/15, which RFC 2544 sets aside for tests, and traffic to them never leaves
 * the machine. Needs root.
 */
import { randomInt } from "node:crypto";
import { networkInterfaces } from "node:os";
import type { Workspace } from "./estate.ts";
import { runCommand } from "./peers/peer.ts";

/** That many addresses, side by side; taken off the device again when the workspace ends. */
export async function ownAddresses(workspace: Workspace, count: number): Promise<string[]> {
  const taken = new Set(Object.values(networkInterfaces()).flatMap((one) => (one ?? []).map(({ address }) => address)));
  for (let attempt = 0; attempt < 100; attempt++) {
    const net = `198.${18 + randomInt(2)}.${randomInt(256)}`;
    const first = 1 + randomInt(200);
    const wanted = Array.from({ length: count }, (_, n) => `${net}.${first + n}`);
    if (wanted.some((address) => taken.has(address))) continue;
    for (const address of wanted) await runCommand(["ip", "address", "add", `${address}/32`, "dev", "lo"]);
    workspace.atEnd(async () => {
      for (const address of wanted) await runCommand(["ip", "address", "delete", `${address}/32`, "dev", "lo"]);
    });
    return wanted;
  }
  throw new Error("no free addresses in 198.18.0.0/15");
}
