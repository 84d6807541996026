import { runCommand } from "../../../lab/peers/peer.ts";
import type { Replica } from "../replicas.ts";

/** Stops (where it still runs) and starts a server, as an operator would; breaks of its process are gone with it. */
export async function restart(replica: Replica): Promise<void> {
  await replica.peer.stop();
  await replica.peer.start();
}

/** Runs the reload script of a replica that has one. */
export async function runHook(replica: Replica): Promise<void> {
  await runCommand(["/bin/sh", replica.hook!.path]);
}
