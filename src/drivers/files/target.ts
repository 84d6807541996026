import { GyreError } from "../../errors.ts";
import { Secret } from "../../pki/secret.ts";
import type { DriverFacts, Material, Step, Stored, Target } from "../roles.ts";
import { runCommand } from "./command.ts";
import { type Disk, realDisk, whileLocked } from "./disk.ts";
import { diskError } from "./disk-error.ts";
import { FileUnit, type Look } from "./file-unit.ts";
import { contentsFor, filesOf, type Rendered, render, storedFrom } from "./material-files.ts";
import { lookUp } from "./owner.ts";
import { readPassword } from "./password.ts";
import { performReload, reloadFact } from "./reload.ts";
import type { TargetSettings } from "./settings.ts";
import { namesStagedFiles, VALIDATE_TIMEOUT, withStagedFiles } from "./validate.ts";
import type { Version } from "./version-store.ts";

export interface FilesOptions {
  /** Relative paths of the settings count from here. */
  readonly baseDir: string;
  /** The system calls that change the disk. */
  readonly disk?: Disk;
}

/**
 * Key, certificate and chain in files, as one atomic unit with compare-and-swap; see docs/drivers/files.md.
 * Errors: `conflict`, `input`, `manifest`, `disk`, `permission`, `command`, `refused`, `locked`, `damaged`. After each
 * but those with `retry: "read back"` the files hold what they held before.
 */
export function createFilesTarget(settings: TargetSettings, options: FilesOptions): Target {
  return new FilesTarget(settings, options.baseDir, options.disk ?? realDisk);
}

const UNTOUCHED = "what was in place is untouched";

class FilesTarget implements Target {
  readonly can: DriverFacts;
  readonly place: string;
  readonly #settings: TargetSettings;
  readonly #baseDir: string;
  readonly #disk: Disk;
  readonly #unit: FileUnit;

  constructor(settings: TargetSettings, baseDir: string, disk: Disk) {
    const files = filesOf(settings, baseDir);
    this.#settings = settings;
    this.#baseDir = baseDir;
    this.#disk = disk;
    this.#unit = new FileUnit(disk, files, settings.layout ?? (files.length > 1 ? "switch" : "rename"));
    this.place = files[0]!.path;
    this.can = {
      reload: reloadFact(settings.reload),
      findAfterCrash: true,
      conditionalWrite: true,
      restore: true,
    };
  }

  async read(): Promise<Stored> {
    return this.#stored(await this.#unit.look());
  }

  async check(): Promise<void> {
    await lookUp(this.#settings);
    await this.#password();
    this.#validateCommand(undefined);
    await this.#unit.preflight();
  }

  // ---- deliver ------------------------------------------------------------------------------------------------------

  async deliver(material: Material, expected: string, step: Step): Promise<Stored> {
    const rendered = render(material, this.#settings, await this.#password());
    return this.#locked(async () => {
      const look = await this.#unit.look();
      const mine = look.op === step.op;
      if (mine) mustBeTheSame(look.at ?? look.next, rendered, step, this.place);
      if (mine && !look.torn) return this.#settled();
      if (!mine && look.version !== expected) throw this.#conflict(look, expected);
      await this.#unit.preflight();
      if (!mine || !(await this.#resume(look, step))) await this.#put(rendered, step);
      return this.#unit.look();
    });
  }

  /** Finishes a delivery of this very op that was cut; false when its staged files are no longer whole. */
  async #resume(look: Look, step: Step): Promise<boolean> {
    const version = look.next!;
    if (look.at === undefined) {
      const base = await this.#unit.store.version(version.base);
      if (base === undefined || !(await this.#unit.store.intact(version))) return false;
      await this.#apply(version, base);
    }
    await this.#finish(version, step);
    return true;
  }

  async #put(rendered: Rendered, step: Step): Promise<void> {
    const look = await this.#withoutLeftovers();
    const { base, version } = await this.#stage(rendered, look, step);
    try {
      if (version.unchecked !== true) await this.#validate(version, step, UNTOUCHED);
      const now = await this.#unit.look();
      if (now.version !== look.version) throw this.#conflict(now, look.version);
    } catch (error) {
      await this.#unit.tidy().catch(() => undefined);
      throw error;
    }
    await this.#apply(version, base);
    await this.#finish(version, step);
  }

  /** What another op left half-done is ended first, so that what is kept is one generation and no mixture. */
  async #withoutLeftovers(): Promise<Look> {
    const look = await this.#unit.look();
    if (look.next === undefined) return look;
    try {
      if (look.torn) await this.#unit.recover(look.next);
      else await this.#unit.settle();
    } catch (error) {
      throw this.#failed(error, "clearing a delivery that was cut off", "it is as it was found", "never");
    }
    return this.#unit.look();
  }

  async #stage(rendered: Rendered, look: Look, step: Step): Promise<{ base: Version; version: Version }> {
    const wanted = await lookUp(this.#settings);
    const command = this.#validateCommand(undefined);
    try {
      const base = await this.#unit.keep(look);
      // The same generation once more (a second try, another mode): restore still goes back to what was before it.
      const previous = base.material === rendered.digest ? base.previous : base.name;
      const version = await this.#unit.store.write(
        {
          layout: this.#unit.layout,
          op: step.op,
          material: rendered.digest,
          base: base.name,
          ...(previous === undefined ? {} : { previous }),
          ...(command === undefined || namesStagedFiles(this.#settings.validate!.command) ? {} : { unchecked: true }),
        },
        contentsFor(rendered, wanted, await this.#unit.attributes()),
      );
      return { base, version };
    } catch (error) {
      await this.#unit.tidy().catch(() => undefined);
      throw this.#failed(error, "staging the new version", UNTOUCHED, "later");
    }
  }

  async #apply(version: Version, base: Version): Promise<void> {
    try {
      await this.#unit.apply(version, base);
    } catch (error) {
      const doing = "putting the new version in place";
      if (await this.#putBack(version)) throw this.#failed(error, doing, UNTOUCHED, "later");
      throw this.#failed(error, doing, "it may be half-way, and going back failed too", "read back");
    }
  }

  /** After the switch: a validate command that needs the files in place has its say; then no intent is left. */
  async #finish(version: Version, step: Step): Promise<void> {
    if (version.unchecked === true) {
      try {
        await this.#validate(version, step, "the switch was undone, what was in place before is in place again");
      } catch (error) {
        if (await this.#putBack(version)) throw error;
        throw this.#failed(
          error,
          "going back after the validate command failed",
          "the new version is in place",
          "read back",
        );
      }
    }
    await this.#settled();
  }

  async #putBack(version: Version): Promise<boolean> {
    return this.#unit.undo(version).then(
      () => true,
      () => false,
    );
  }

  async #settled(): Promise<Look> {
    try {
      await this.#unit.settle();
    } catch (error) {
      throw this.#failed(error, "tidying up", "the version asked for is in place", "read back");
    }
    return this.#unit.look();
  }

  // ---- restore ------------------------------------------------------------------------------------------------------

  async restore(expected: string, step: Step): Promise<Stored> {
    return this.#locked(async () => {
      const look = await this.#unit.look();
      const mine = look.op === step.op;
      if (mine && !look.torn) return this.#settled();
      if (!mine && look.version !== expected) throw this.#conflict(look, expected);
      await this.#unit.preflight();
      try {
        await this.#goBack(look, step);
      } catch (error) {
        const torn = (await this.#unit.look()).torn;
        if (!torn) throw this.#failed(error, "putting the kept version back", "nothing was changed", "later");
        throw this.#failed(error, "putting the kept version back", "it is half-way", "read back");
      }
      return this.#unit.look();
    });
  }

  async #goBack(look: Look, step: Step): Promise<void> {
    const { store } = this.#unit;
    if (look.torn && look.next!.restoring === true) return this.#unit.recover(look.next!);
    if (look.torn) {
      const base = await store.version(look.next!.base);
      if (base !== undefined) await store.amend({ ...base, op: step.op });
      return this.#unit.undo(look.next!);
    }
    // A delivery that never came to its switch replaced nothing. (A restore that did not is begun again.)
    const begun = look.next !== undefined && look.at?.name !== look.next.name;
    if (begun && look.next?.restoring !== true) return this.#unit.settle();
    const kept = look.at === undefined ? undefined : await this.#unit.keptBefore(look.at);
    if (kept === undefined) {
      throw new GyreError({
        code: "refused",
        message: `restore ${this.place}: nothing is kept there that could be put back; nothing written`,
        where: this.place,
        next: "deliver the old generation anew",
      });
    }
    const base = await this.#unit.inPlace(look);
    const back = {
      ...kept,
      layout: this.#unit.layout,
      op: step.op,
      base: base.name,
      restoring: true,
      unchecked: false,
    };
    await store.amend(back);
    await this.#unit.apply(back, base);
    await this.#unit.settle();
  }

  // ---- the rest -----------------------------------------------------------------------------------------------------

  async reload(step: Step): Promise<string> {
    const { reload } = this.#settings;
    if (reload === undefined) return "nothing to do: no reload is configured";
    return performReload(reload, this.#baseDir, step, await this.#secrets(undefined));
  }

  async forget(_step: Step): Promise<void> {
    await this.#locked(async () => {
      const look = await this.#unit.look();
      try {
        await this.#unit.forget(look);
      } catch (error) {
        throw this.#failed(error, "removing the kept copies", `${UNTOUCHED}; some copies are left`, "later");
      }
      return look;
    });
  }

  async #locked(work: () => Promise<Look>): Promise<Stored> {
    return this.#stored(await whileLocked(this.#disk, this.#unit.directory, work));
  }

  async #stored(look: Look): Promise<Stored> {
    return {
      version: look.version,
      ...storedFrom(look.contents, this.#settings, await this.#password(), this.#baseDir),
      ...(look.op === undefined ? {} : { op: look.op }),
      ...(look.torn ? { torn: true } : {}),
    };
  }

  /** The validate command with the staged paths of a version in it. Without one it is only checked. */
  #validateCommand(version: Version | undefined): string[] | undefined {
    const command = this.#settings.validate?.command;
    if (command === undefined) return undefined;
    const paths = this.#unit.files.map(({ role, path }): [string, string] => [
      role,
      version === undefined ? path : this.#unit.store.fileOf(version, role),
    ]);
    return withStagedFiles(command, new Map(paths));
  }

  async #validate(version: Version, step: Step, untouched: string): Promise<void> {
    const command = this.#validateCommand(version);
    if (command === undefined) return;
    await runCommand(command, {
      what: "validate command",
      cwd: this.#baseDir,
      timeout: VALIDATE_TIMEOUT,
      signal: step.signal,
      secrets: await this.#secrets(version),
      untouched,
    });
  }

  async #password(): Promise<Secret | undefined> {
    const { keystore } = this.#settings;
    return keystore === undefined ? undefined : readPassword(keystore.password, this.#baseDir, "key store password");
  }

  /** What no error may repeat: the keys in place and staged, and the password. */
  async #secrets(version: Version | undefined): Promise<Secret[]> {
    const { contents } = await this.#unit.look();
    const staged = version === undefined ? {} : await this.#unit.store.contents(version);
    const files = [contents.privateKey, contents.combined, staged.privateKey?.bytes, staged.combined?.bytes];
    const password = await this.#password();
    const secrets = files.filter((bytes) => bytes !== undefined).map((bytes) => Secret.of(bytes));
    return password === undefined ? secrets : [...secrets, password];
  }

  #conflict(look: Look, expected: string): GyreError {
    return new GyreError({
      code: "conflict",
      message: `${this.place} changed under us (now ${short(look.version)}, planned on ${short(expected)}); nothing written`,
      where: this.place,
      next: "see who else writes it, then plan again",
    });
  }

  #failed(error: unknown, doing: string, untouched: string, retry: GyreError["retry"]): GyreError {
    if (error instanceof GyreError && retry !== "read back") return error;
    const path = error instanceof Error && "path" in error && typeof error.path === "string" ? error.path : this.place;
    const told = diskError(error, doing, path, untouched);
    if (retry !== "read back") return told;
    return new GyreError({
      code: told.code,
      message: `${this.place}: ${doing} failed (${told.message}); ${untouched}`,
      where: this.place,
      retry,
      next: "run it again: the same step finishes what was begun",
      cause: error,
    });
  }
}

function mustBeTheSame(version: Version | undefined, rendered: Rendered, step: Step, place: string): void {
  if (version?.material === undefined || version.material === rendered.digest) return;
  throw new GyreError({
    code: "conflict",
    message: `${place}: ${step.op} has delivered other material before; nothing written`,
    where: place,
    next: "plan again",
  });
}

const short = (version: string): string => (version.startsWith("sha256:") ? version.slice(0, 19) : version);
