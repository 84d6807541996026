/** Starts keep-using.ts and reads what it noted. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Supervised, Workspace } from "../estate.ts";

export interface ClientOptions {
  readonly name: string;
  readonly address: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly roots?: string;
  readonly serverName?: string;
  /** Milliseconds between two uses; 200 unless told. */
  readonly every?: number;
  readonly hold?: "pooled" | "resume" | "fresh";
  /** Reads its files before each use, not only at start and on SIGHUP. */
  readonly reread?: boolean;
}
export interface Use {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly status?: number;
  /** The client certificate the server named. */
  readonly serial?: string | null;
  readonly reused?: boolean;
  readonly pooled?: boolean;
  readonly error?: string;
}
export interface Client {
  readonly process: Supervised;
  readonly log: string;
  uses(): Use[];
  /** Reads its files again. */
  reload(): void;
  stop(): Promise<void>;
}

export async function startClient(workspace: Workspace, options: ClientOptions): Promise<Client> {
  const log = workspace.path(`${options.name}.uses.jsonl`);
  const process_ = await workspace.start({
    name: options.name,
    command: [
      ...[process.execPath, join(dirname(fileURLToPath(import.meta.url)), "keep-using.ts")],
      ...["--address", options.address, "--cert", options.certificate, "--key", options.privateKey, "--log", log],
      ...["--name", options.serverName ?? "localhost", "--every", String(options.every ?? 200)],
      ...["--hold", options.hold ?? "fresh", ...(options.reread ? ["--reread"] : [])],
      ...(options.roots === undefined ? [] : ["--roots", options.roots]),
    ],
    ready: (one) => one.output().includes("using\n"),
  });
  return {
    process: process_,
    log,
    uses() {
      if (!existsSync(log)) return [];
      const lines = readFileSync(log, "utf8").split("\n");
      return lines.slice(0, -1).map((line) => JSON.parse(line) as Use);
    },
    reload: () => process_.signal("SIGHUP"),
    stop: () => process_.stop(),
  };
}
