/** What every peer can do, whatever program it is. */
import { spawn } from "node:child_process";
import type { Supervised } from "../estate.ts";

export interface Peer {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** `host:port`. */
  readonly address: string;
  /** What an operator would configure as the reload: give it to a manifest. */
  readonly reloadCommand: readonly string[];
  readonly pidFile: string;
  /** One JSON line for each request, where the peer keeps one. */
  readonly accessLog: string;
  /** The process now; another one after `stop` and `start`. */
  readonly process: Supervised;
  /** Runs `reloadCommand` and waits for the command, not for its effect: wait for that with the witness. */
  reload(): Promise<void>;
  stop(): Promise<void>;
  /** Starts again on the same port, with what its files hold now. */
  start(): Promise<void>;
}

/** Runs a command to its end. Rejects with its output when it fails. */
export function runCommand(command: readonly string[]): Promise<string> {
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (chunk) => {
      output += chunk;
    });
    child.stderr.on("data", (chunk) => {
      output += chunk;
    });
    child.once("error", reject);
    child.once("close", (code, signal) =>
      code === 0 ? resolve(output) : reject(new Error(`${command.join(" ")}: ended with ${code ?? signal}\n${output}`)),
    );
  });
}
