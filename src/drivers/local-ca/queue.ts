import { realDisk, whileLocked } from "../files/disk.ts";

/**
 * Work on one directory, one piece after the other, in this process and between processes. The lock is taken once for
 * all that is waiting, so that a hundred issues at once do not take it a hundred times.
 */
export class LockedQueue {
  readonly #directory: string;
  readonly #waiting: (() => Promise<void>)[] = [];
  readonly #failed: ((error: unknown) => void)[] = [];
  #busy = false;

  constructor(directory: string) {
    this.#directory = directory;
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#waiting.push(() => work().then(resolve, reject));
    this.#failed.push(reject);
    if (!this.#busy) void this.#drain();
    return promise;
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    try {
      while (this.#waiting.length > 0) await whileLocked(realDisk, this.#directory, () => this.#workOff());
    } catch (error) {
      // Without the lock nothing was begun.
      this.#waiting.length = 0;
      for (const reject of this.#failed.splice(0)) reject(error);
    } finally {
      this.#busy = false;
    }
  }

  async #workOff(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      this.#failed.shift();
      await next();
    }
  }
}
