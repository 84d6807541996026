import { type Disk, realDisk } from "../files/disk.ts";

/** Thrown by a disk whose process is dead. */
export class Killed extends Error {
  constructor() {
    super("killed");
  }
}

export interface DyingDisk {
  readonly disk: Disk;
  /** How many calls were made, the fatal one included. */
  calls(): number;
  readonly names: readonly string[];
}

/**
 * A disk on which every system call works up to the `last`, and none after it: to the disk that is what SIGKILL between
 * two calls is, since no clean-up of the dying program reaches it either. `watch` runs before each call that works.
 */
export function dyingDisk(last: number, watch: (call: string) => Promise<void> = async () => undefined): DyingDisk {
  let calls = 0;
  const names: string[] = [];
  const disk = new Proxy(realDisk, {
    get(target, name: keyof Disk) {
      const call = target[name] as (...args: unknown[]) => Promise<unknown>;
      // The kernel lets go of a dead process's descriptors; each try has a directory of its own, so nobody waits for it.
      if (name === "close") return call;
      if (name === "lock") return async () => async () => undefined;
      return async (...args: unknown[]) => {
        calls += 1;
        names.push(
          `${name} ${typeof args[0] === "string" ? args.filter((arg) => typeof arg === "string").join(" ") : ""}`,
        );
        if (calls > last) throw new Killed();
        await watch(name);
        return call(...args);
      };
    },
  });
  return { disk, calls: () => calls, names };
}
