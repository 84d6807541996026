import { existsSync, statSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { GyreError } from "../errors.ts";
import type { Estate } from "../runtime/api.ts";
import type { Console } from "./console.ts";

/** The options every command has. */
export interface GlobalOptions {
  readonly file?: readonly string[];
  readonly state?: string;
  readonly json?: boolean;
  readonly color: boolean;
  readonly quiet?: boolean;
}

export interface SessionOptions {
  readonly console: Console;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly global: GlobalOptions;
  /** From the first call on, Ctrl-C and SIGTERM abort the signal instead of ending the process. */
  readonly interrupt: () => AbortSignal;
}

/** What a command works with: where to print, which estate, and who asks. */
export class Session {
  readonly console: Console;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly #options: SessionOptions;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.console = options.console;
    this.cwd = options.cwd;
    this.env = options.env;
  }

  /** `-f`, or what lies here under the usual names. Code `manifest` when there is nothing. */
  manifests(): string[] {
    const { file } = this.#options.global;
    if (file !== undefined && file.length > 0) return file.map((path) => path);
    const found = ["gyre.yaml", "gyre"].filter((name) => existsSync(join(this.cwd, name)));
    if (found.length > 0) return found;
    throw new GyreError({
      code: "manifest",
      message: `no manifest here: looked for gyre.yaml and gyre/ in ${this.cwd}; nothing was done`,
      next: "name a file or a directory with -f, or go to where they are",
    });
  }

  /** As given where that works, so that errors name files as the person did. */
  manifestPaths(): string[] {
    return this.manifests().map((path) => (this.cwd === process.cwd() ? path : resolve(this.cwd, path)));
  }

  /** `--state`, GYRE_STATE, or `.gyre` in the directory that holds the first manifest: then both `-f .` and `-f ./a.yaml` find it. */
  stateDirectory(): string {
    const named = this.#options.global.state ?? this.env.GYRE_STATE;
    if (named !== undefined && named !== "") return resolve(this.cwd, named);
    const first = resolve(this.cwd, this.manifests()[0] ?? ".");
    return join(isDirectory(first) ? first : dirname(first), ".gyre");
  }

  /** Reads the manifests and opens the state; the caller closes it. Loaded here, so that other commands start without it. */
  async open(): Promise<Estate> {
    const options = { manifests: this.manifestPaths(), stateDirectory: this.stateDirectory(), env: this.env };
    const { openEstate } = await import("../runtime/estate.ts");
    return openEstate(options);
  }

  /** Opens, works, closes whatever happens. */
  async withEstate<T>(work: (estate: Estate) => Promise<T>): Promise<T> {
    const estate = await this.open();
    try {
      return await work(estate);
    } finally {
      await estate.close();
    }
  }

  interrupted(): AbortSignal {
    return this.#options.interrupt();
  }

  /** `anna@host`, for waivers and approvals. */
  get person(): string {
    return `${userName(this.env)}@${hostname()}`;
  }

  /** For the journal: who ran this. */
  get runner(): string {
    return `${this.person}, pid ${process.pid}`;
  }
}

const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** A container may run as a number that no user database knows. */
function userName(env: SessionOptions["env"]): string {
  try {
    return userInfo().username;
  } catch {
    return env.USER ?? `uid ${process.getuid?.() ?? "unknown"}`;
  }
}
