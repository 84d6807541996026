import { spawn } from "node:child_process";
import { type FileHandle, open } from "node:fs/promises";
import { GyreError } from "../../errors.ts";
import { childEnvironment } from "./command.ts";
import { diskError } from "./disk-error.ts";

/** Longer than a validate command of another writer should take. */
const PATIENCE = 60_000;

/**
 * Waits until no other Gyre process changes files in `directory`, so that compare-and-swap holds between processes.
 * flock(2) on the directory itself: the kernel drops it however we die, and nothing is left behind. Node has no call
 * for it; the `flock` program sets it on our descriptor, handed to it as fd 3, and leaves it with us.
 * @returns the function that lets the next one in
 * @throws GyreError `locked` after a minute, `command` where there is no `flock` program
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const handle = await open(directory, "r").catch((error: unknown) => {
    throw diskError(error, "locking the directory", directory, "nothing written");
  });
  try {
    await lock(handle, directory);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return () => handle.close();
}

async function lock(handle: FileHandle, directory: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<{ code: number | null; said: string }>();
  const child = spawn("flock", ["-x", "3"], {
    stdio: ["ignore", "ignore", "pipe", handle.fd],
    env: childEnvironment(),
  });
  let said = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(0, 500);
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
  child.once("error", reject);
  child.once("close", (code) => resolve({ code, said: said.trim() }));
  const ended = await promise
    .catch((error: unknown) => {
      throw new GyreError({
        code: "command",
        message: `locking ${directory}: the program flock could not be started; nothing written`,
        next: "install util-linux (or busybox), which has it",
        cause: error,
      });
    })
    .finally(() => clearTimeout(timer));
  if (ended.code === 0) return;
  if (ended.code !== null) {
    const message = `locking ${directory}: flock failed (${ended.said}); nothing written`;
    throw new GyreError({ code: "disk", message, where: directory, next: "use a file system that has flock(2)" });
  }
  throw new GyreError({
    code: "locked",
    message: `another process has been changing files in ${directory} for ${PATIENCE / 1000} s; nothing written`,
    where: directory,
    retry: "later",
    next: "see who it is (fuser), wait for it to end, then repeat",
  });
}
