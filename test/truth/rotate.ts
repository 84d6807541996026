/** The real command line as a process of its own, from its first word to its last; nothing of its output is read here. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { gyreProgram } from "../../lab/gyre.ts";
import type { World } from "./scene.ts";

/** Which probes the build has: the real ones, or liars (liar.mjs). */
export type Build = "real" | "says accepted" | "says refused" | "says what is hoped";

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
  readonly seconds: number;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

const liar = fileURLToPath(new URL("liar.mjs", import.meta.url));
/** Milliseconds: far beyond any scene; a runner that does not end by then is killed, and the line is false. */
const longest = 120_000;

/** What else is loaded before the command line, with the variables it reads. */
export interface Preload {
  readonly module: string;
  readonly env: Readonly<Record<string, string>>;
}

export function startGyre(
  world: World,
  args: readonly string[],
  build: Build = "real",
  also: Preload | undefined = undefined,
): Running {
  const began = performance.now();
  const preload = [...(build === "real" ? [] : [liar]), ...(also === undefined ? [] : [also.module])].flatMap((one) => [
    "--import",
    one,
  ]);
  const lies = build === "real" ? {} : { TRUTH_LIAR: JSON.stringify({ build, ...world.lies() }) };
  const child = spawn(process.execPath, [...preload, gyreProgram, ...args, "--json"], {
    cwd: world.home,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...lies, ...also?.env },
  });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    out += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    err += chunk;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    const late = setTimeout(() => child.kill("SIGKILL"), longest);
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(late);
      resolve({ code, signal, out, err, seconds: (performance.now() - began) / 1000 });
    });
  });
  return { child, ended };
}

/** `gyre rotate CREDENTIAL --now`, to its end. With a rotation under way it goes on with that. */
export const rotate = (world: World, build: Build = "real"): Promise<Ended> =>
  startGyre(world, ["rotate", world.credential, "--now"], build).ended;
