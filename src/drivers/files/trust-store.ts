import { basename, dirname, join } from "node:path";
import { GyreError } from "../../errors.ts";
import type { Secret } from "../../pki/secret.ts";
import type { DriverFacts, Step, TrustStore } from "../roles.ts";
import { runCommand } from "./command.ts";
import {
  type Attributes,
  contentOf,
  createFile,
  type Disk,
  lookAt,
  realDisk,
  stageFile,
  syncDirectory,
  temporaryOf,
  unlinkIfThere,
  whileLocked,
} from "./disk.ts";
import { diskError } from "./disk-error.ts";
import { attributesFor, lookUp } from "./owner.ts";
import { readPassword } from "./password.ts";
import { mustBeWritable } from "./preflight.ts";
import { pathFrom, performReload, reloadFact } from "./reload.ts";
import type { TrustStoreSettings } from "./settings.ts";
import type { FilesOptions } from "./target.ts";
import { bundleFormat, crlFormat, type TrustFormat, trustStoreFormat } from "./trust-files.ts";
import { namesStagedFiles, VALIDATE_TIMEOUT, withStagedFiles } from "./validate.ts";
import { sha256 } from "./version-store.ts";

/**
 * One file that says what a verifier trusts: a PEM bundle, PEM CRLs, or a PKCS#12 trust store. Replaced in one rename,
 * with compare-and-swap; see docs/drivers/files.md. Errors as of the files target, and `retry: "read back"` likewise.
 */
export function createFilesTrustStore(settings: TrustStoreSettings, options: FilesOptions): TrustStore {
  return new FilesTrustStore(settings, options.baseDir, options.disk ?? realDisk);
}

type Kind = "bundle" | "crl" | "truststore";
const UNTOUCHED = "what was in place is untouched";

class FilesTrustStore implements TrustStore {
  readonly can: DriverFacts;
  readonly place: string;
  readonly holds: "certificates" | "crls";
  readonly #settings: TrustStoreSettings;
  readonly #baseDir: string;
  readonly #disk: Disk;
  readonly #kind: Kind;

  constructor(settings: TrustStoreSettings, baseDir: string, disk: Disk) {
    this.#settings = settings;
    this.#baseDir = baseDir;
    this.#disk = disk;
    this.#kind = settings.bundle !== undefined ? "bundle" : settings.crl !== undefined ? "crl" : "truststore";
    this.place = pathFrom(baseDir, settings.bundle ?? settings.crl ?? settings.truststore!.path);
    this.holds = this.#kind === "crl" ? "crls" : "certificates";
    this.can = { reload: reloadFact(settings.reload), findAfterCrash: true, conditionalWrite: true };
  }

  async read(): Promise<{ version: string; pem: string }> {
    const bytes = await this.#content();
    if (bytes === undefined) return { version: "absent", pem: "" };
    return { version: versionOf(bytes), pem: (await this.#format()).read(bytes) };
  }

  async check(): Promise<void> {
    await lookUp(this.#settings);
    this.#validateCommand(this.place);
    await this.#preflight();
    const bytes = await this.#content();
    if (bytes !== undefined) (await this.#format()).read(bytes);
  }

  /** Where the file holds this already, nothing is written, whatever version was expected. */
  async put(pem: string, expected: string, step: Step): Promise<{ version: string }> {
    const format = await this.#format();
    return whileLocked(this.#disk, dirname(this.place), async () => {
      const present = await this.#content();
      const next = format.write(present, pem);
      // It may lie here since a run that was cut before its validate command had spoken: that is asked again.
      if (next === undefined) {
        if (!this.#validatesBefore) await this.#validateInPlace(step);
        return { version: versionOf(present!) };
      }
      this.#mustBe(expected, present);
      await this.#preflight();
      await this.#replace(present, next, step);
      return { version: versionOf(next) };
    });
  }

  /** Not shown to the validate command: what it would say of no file was so before, too. */
  async remove(expected: string, _step: Step): Promise<void> {
    await whileLocked(this.#disk, dirname(this.place), async () => {
      const present = await this.#content();
      if (present === undefined) return;
      this.#mustBe(expected, present);
      await this.#preflight();
      await unlinkIfThere(this.#disk, this.place).catch((error: unknown) => {
        throw this.#failed(error, "removing the file", UNTOUCHED);
      });
      await this.#synced();
    });
  }

  async #replace(present: Buffer | undefined, next: Buffer, step: Step): Promise<void> {
    const wanted = await lookUp(this.#settings);
    const inPlace = await this.#attributes();
    try {
      await stageFile(this.#disk, this.place, next, attributesFor(wanted, inPlace, false));
      if (this.#validatesBefore) await this.#validate(temporaryOf(this.place), step, UNTOUCHED);
      else await this.#keep(present, inPlace);
      this.#mustBe(present === undefined ? "absent" : versionOf(present), await this.#content());
      await this.#disk.rename(temporaryOf(this.place), this.place);
    } catch (error) {
      for (const path of [temporaryOf(this.place), this.#kept]) {
        await unlinkIfThere(this.#disk, path).catch(() => undefined);
      }
      throw this.#failed(error, "replacing the file", UNTOUCHED);
    }
    await this.#synced();
    if (!this.#validatesBefore) await this.#validateInPlace(step);
  }

  /** The program looks at the file where it is; when it does not agree, what was there before is put back. */
  async #validateInPlace(step: Step): Promise<void> {
    try {
      await this.#validate(this.place, step, "what was in place before is in place again");
    } catch (error) {
      await this.#takeBack(error);
      throw error;
    }
    await unlinkIfThere(this.#disk, this.#kept);
    await this.#synced();
  }

  async #takeBack(cause: unknown): Promise<void> {
    const kept = await lookAt(this.#kept);
    try {
      if (kept === undefined) await this.#mayStay(cause);
      // An empty copy stands for no file at all.
      else if (kept.size > 0) await this.#disk.rename(this.#kept, this.place);
      else {
        await unlinkIfThere(this.#disk, this.place);
        await unlinkIfThere(this.#disk, this.#kept);
      }
    } catch (error) {
      throw this.#failed(error, "putting back what was there before", "the new file is in place", "read back");
    }
    await this.#synced();
  }

  /** Without a copy the file was not ours to begin with: it is left, and said so. */
  async #mayStay(cause: unknown): Promise<never> {
    const why = cause instanceof GyreError ? cause.message.split("; what was")[0]! : String(cause);
    throw new GyreError({
      code: "command",
      message: `${why}; ${this.place} held this before and was left as it is`,
      where: this.place,
      next: "run the command by hand, put right what it names, then go on",
      cause,
    });
  }

  /** Where the old content waits until the validate command has spoken. */
  get #kept(): string {
    return join(dirname(this.place), `.${basename(this.place)}.gyre-old`);
  }

  async #keep(present: Buffer | undefined, inPlace: Attributes | undefined): Promise<void> {
    if (this.#settings.validate === undefined) return;
    await unlinkIfThere(this.#disk, this.#kept);
    const who = inPlace ?? { uid: process.geteuid!(), gid: process.getegid!(), mode: 0o600 };
    await createFile(this.#disk, this.#kept, present ?? Buffer.alloc(0), who);
  }

  async #synced(): Promise<void> {
    try {
      await syncDirectory(this.#disk, dirname(this.place));
    } catch (error) {
      throw this.#failed(error, "making the change durable", "the new file may be in place", "read back");
    }
  }

  async reload(step: Step): Promise<string> {
    const { reload } = this.#settings;
    if (reload === undefined) return "nothing to do: no reload is configured";
    return performReload(reload, this.#baseDir, step, await this.#secrets());
  }

  get #validatesBefore(): boolean {
    const command = this.#settings.validate?.command;
    return command !== undefined && namesStagedFiles(command);
  }

  #validateCommand(path: string): string[] | undefined {
    const command = this.#settings.validate?.command;
    return command === undefined ? undefined : withStagedFiles(command, new Map([[this.#kind, path]]));
  }

  async #validate(path: string, step: Step, untouched: string): Promise<void> {
    const command = this.#validateCommand(path);
    if (command === undefined) return;
    await runCommand(command, {
      what: "validate command",
      cwd: this.#baseDir,
      timeout: VALIDATE_TIMEOUT,
      signal: step.signal,
      secrets: await this.#secrets(),
      untouched,
    });
  }

  async #preflight(): Promise<void> {
    const seen = await lookAt(this.place);
    if (seen !== undefined && !seen.isFile()) {
      const what = seen.isSymbolicLink() ? "a symbolic link" : seen.isDirectory() ? "a directory" : "no regular file";
      throw new GyreError({
        code: seen.isSymbolicLink() ? "refused" : "input",
        message: `trust store ${this.place} is ${what}; nothing written`,
        where: this.place,
        next: seen.isSymbolicLink() ? "name the file it leads to" : "name a file",
      });
    }
    await mustBeWritable(dirname(this.place), "the trust store");
  }

  #mustBe(expected: string, present: Buffer | undefined): void {
    const now = present === undefined ? "absent" : versionOf(present);
    if (now === expected) return;
    throw new GyreError({
      code: "conflict",
      message: `${this.place} changed under us (now ${now.slice(0, 19)}, planned on ${expected.slice(0, 19)}); nothing written`,
      where: this.place,
      next: "see who else writes it, then plan again",
    });
  }

  async #content(): Promise<Buffer | undefined> {
    return contentOf(this.place).catch((error: unknown) => {
      throw this.#failed(error, "reading the trust store", "nothing written");
    });
  }

  async #attributes(): Promise<Attributes | undefined> {
    const seen = await lookAt(this.place);
    return seen === undefined ? undefined : { uid: seen.uid, gid: seen.gid, mode: seen.mode & 0o7777 };
  }

  async #format(): Promise<TrustFormat> {
    if (this.#kind === "bundle") return bundleFormat(this.place);
    return this.#kind === "crl" ? crlFormat(this.place) : trustStoreFormat(this.place, (await this.#password())!);
  }

  async #password(): Promise<Secret | undefined> {
    const setting = this.#settings.truststore?.password;
    return setting === undefined ? undefined : readPassword(setting, this.#baseDir, "trust store password");
  }

  async #secrets(): Promise<Secret[]> {
    const password = await this.#password();
    return password === undefined ? [] : [password];
  }

  #failed(error: unknown, doing: string, untouched: string, retry?: "read back"): GyreError {
    const path = error instanceof Error && "path" in error && typeof error.path === "string" ? error.path : this.place;
    const told = diskError(error, doing, path, untouched);
    if (retry === undefined || error instanceof GyreError) return told;
    return new GyreError({
      code: told.code,
      message: told.message,
      where: this.place,
      retry,
      next: "look, then run it again",
      cause: error,
    });
  }
}

const versionOf = (bytes: Buffer): string => `sha256:${sha256(bytes)}`;
