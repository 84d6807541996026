import { spawn } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import { errno } from "../disk/disk-error.ts";
import { GyreError } from "../errors.ts";

/**
 * flock(2) on a descriptor we hold. Node has no call for it, so util-linux (or busybox) `flock` makes it for us: it is
 * handed our descriptor as its fd 3, and a flock belongs to the *open file description* that both share. The child
 * exits, the lock stays with us, and the kernel drops it when we close the descriptor or die, however we die.
 * Node opens everything close-on-exec, so no other child ever holds it.
 * @param how "try" gives up at once, "wait" after `patience` milliseconds
 * @returns whether the lock is ours
 * @throws GyreError `command` when there is no `flock` program
 */
export async function flock(fd: number, how: "try" | "wait", patience = 0): Promise<boolean> {
  const child = spawn("flock", how === "try" ? ["-x", "-n", "3"] : ["-x", "3"], {
    stdio: ["ignore", "ignore", "pipe", fd],
    env: { PATH: process.env.PATH ?? "/usr/bin:/bin" },
  });
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said += text.slice(0, 500);
  });
  // A waiting child that is killed either has the lock by then (harmless: the caller closes the descriptor) or not.
  const timer = how === "wait" ? setTimeout(() => child.kill("SIGKILL"), patience) : undefined;
  try {
    const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => resolve({ code, signal }));
    });
    if (code === 0) return true;
    if (signal !== null || (code === 1 && said === "")) return false;
    throw new Error(`exit ${code}: ${said.trim()}`);
  } catch (error) {
    const missing = errno(error) === "ENOENT";
    throw new GyreError({
      code: "command",
      message: missing
        ? "taking a lock: no program `flock` on PATH; nothing was written"
        : `taking a lock: \`flock\` failed (${error instanceof Error ? error.message : String(error)}); nothing was written`,
      next: missing
        ? "install util-linux (or busybox), which has it"
        : "see whether this file system supports flock(2)",
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

/** A process that has the lock, as the kernel tells it. */
export interface Holder {
  readonly pid: number;
  /** Stopped by SIGSTOP or SIGTSTP: it keeps the lock and does nothing. */
  readonly stopped: boolean;
}

/** State T (or t, traced) in /proc/PID/stat: the field after the last `)`, since a command name may hold anything. */
export async function isStopped(pid: number): Promise<boolean> {
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return /^\) [Tt] /.test(line.slice(line.lastIndexOf(")")));
}

/**
 * Who holds a flock on the file `path`, found by looking and not by believing a pid file: /proc/PID/fdinfo shows the
 * lock at every descriptor it belongs to (/proc/locks would name the long gone `flock` child). Empty when the holder
 * cannot be seen: another user's, another container's, another host's.
 */
export async function holdersOf(path: string, inode: bigint): Promise<readonly Holder[]> {
  const found: Holder[] = [];
  for (const name of await readdir("/proc").catch(() => [])) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    for (const fd of await readdir(`/proc/${name}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${name}/fd/${fd}`).catch(() => "");
      if (target !== path) continue;
      const info = await readFile(`/proc/${name}/fdinfo/${fd}`, "utf8").catch(() => "");
      if (!new RegExp(`^lock:.* FLOCK .*:${inode} `, "m").test(info)) continue;
      found.push({ pid, stopped: await isStopped(pid) });
      break;
    }
  }
  return found;
}
