import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errno } from "../../disk/disk-error.ts";
import { GyreError } from "../../errors.ts";
import {
  type Attributes,
  contentOf,
  createFile,
  type Disk,
  destroyFile,
  linkOf,
  lookAt,
  replaceFile,
  replaceLink,
  syncDirectory,
  unlinkIfThere,
} from "./disk.ts";

/** The files one target may keep, in the order they are written and counted. */
export const ROLES = ["certificate", "privateKey", "chain", "combined", "keystore"] as const;
export type FileRole = (typeof ROLES)[number];

export type Layout = "switch" | "rename";

/** The record beside the files of one version: who wrote it, what it holds, what it replaced. */
export interface VersionRecord {
  readonly format: 1;
  readonly layout: Layout;
  /** The op that put it in place; absent for a copy of what somebody else wrote. */
  readonly op?: string;
  /** Digest of the certificates it was made from; absent for a copy. */
  readonly material?: string;
  /** SHA-256 of each file, hex; null where there is none. */
  readonly files: Partial<Record<FileRole, string | null>>;
  /** What `restore` puts back. */
  readonly previous?: string;
  /** What was in place when this one began to be put there. */
  readonly base?: string;
  /** A validate command has to agree after the switch, and has not yet. */
  readonly unchecked?: boolean;
  /** It was put back, not delivered: a cut in the middle is finished, never turned round. */
  readonly restoring?: boolean;
}
export interface Version extends VersionRecord {
  /** Name of its directory in the store. */
  readonly name: string;
}

/** A file to be written into a version. */
export interface Content {
  readonly bytes: Buffer;
  readonly who: Attributes;
}
export type Contents = Partial<Record<FileRole, Content>>;

const RECORD = "version.json";
export const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");

/**
 * The directory `.gyre-<name>` beside the certificate: one sub-directory per version, a link `current` to the one in
 * place, and a link `next` to the one being put there. Both links change by rename, so each step is all or nothing:
 *   v3/ v4/           versions, each with version.json written and synced last
 *   current -> v3     what is in place
 *   next    -> v4     intent: written before anything in place changes, removed when the delivery is over
 */
export class VersionStore {
  readonly #disk: Disk;
  readonly directory: string;

  constructor(disk: Disk, certificatePath: string) {
    this.#disk = disk;
    this.directory = join(dirname(certificatePath), `.gyre-${basename(certificatePath)}`);
  }

  /** A file of the version in place, through the link: what the configured paths lead to with layout `switch`. */
  throughCurrent(role: FileRole): string {
    return join(this.directory, "current", role);
  }
  fileOf(version: Version, role: FileRole): string {
    return join(this.directory, version.name, role);
  }

  async read(): Promise<{ readonly current: Version | undefined; readonly next: Version | undefined }> {
    return { current: await this.#linked("current"), next: await this.#linked("next") };
  }

  async #linked(link: "current" | "next"): Promise<Version | undefined> {
    const name = await linkOf(join(this.directory, link));
    return name === undefined ? undefined : this.version(name);
  }

  /** Undefined when there is no such version or its record cannot be read: then nothing is claimed of it. */
  async version(name: string | undefined): Promise<Version | undefined> {
    if (name === undefined || !/^v\d+$/.test(name)) return undefined;
    const text = await contentOf(join(this.directory, name, RECORD));
    const record = text === undefined ? undefined : parseRecord(text.toString("utf8"));
    return record === undefined ? undefined : { ...record, name };
  }

  /** Writes a version that nothing leads to yet; what a failure leaves of it, `removeAllBut` removes. */
  async write(record: Omit<VersionRecord, "format" | "files">, contents: Contents): Promise<Version> {
    const name = `v${1 + Math.max(0, ...(await this.#numbers()))}`;
    const directory = join(this.directory, name);
    const files: Partial<Record<FileRole, string | null>> = {};
    for (const role of ROLES) files[role] = contents[role] === undefined ? null : sha256(contents[role].bytes);
    await this.#disk.mkdir(directory, 0o755);
    for (const role of ROLES) {
      const content = contents[role];
      if (content !== undefined) await createFile(this.#disk, join(directory, role), content.bytes, content.who);
    }
    const version: Version = { format: 1, ...record, files, name };
    await createFile(this.#disk, join(directory, RECORD), recordBytes(version), ourOwn());
    await syncDirectory(this.#disk, directory);
    await syncDirectory(this.#disk, this.directory);
    return version;
  }

  /** Replaces the record of a version in one rename. */
  async amend(version: Version): Promise<void> {
    const directory = join(this.directory, version.name);
    await replaceFile(this.#disk, join(directory, RECORD), recordBytes(version), ourOwn());
    await syncDirectory(this.#disk, directory);
  }

  /** Whether the version's files still have the content that its record names. */
  async intact(version: Version): Promise<boolean> {
    for (const role of ROLES) {
      const bytes = await contentOf(this.fileOf(version, role));
      if ((bytes === undefined ? null : sha256(bytes)) !== (version.files[role] ?? null)) return false;
    }
    return true;
  }

  async contents(version: Version): Promise<Contents> {
    const contents: Contents = {};
    for (const role of ROLES) {
      const path = this.fileOf(version, role);
      const seen = await lookAt(path);
      if (seen === undefined) continue;
      const who = { uid: seen.uid, gid: seen.gid, mode: seen.mode & 0o7777 };
      contents[role] = { bytes: (await contentOf(path))!, who };
    }
    return contents;
  }

  /** Makes the store itself. */
  async create(): Promise<void> {
    try {
      await this.#disk.mkdir(this.directory, 0o755);
    } catch (error) {
      if (errno(error) === "EEXIST") return;
      throw error;
    }
    await syncDirectory(this.#disk, dirname(this.directory));
  }

  async point(link: "current" | "next", version: Version): Promise<void> {
    await replaceLink(this.#disk, join(this.directory, link), version.name);
    await syncDirectory(this.#disk, this.directory);
  }

  async clearNext(): Promise<void> {
    if ((await linkOf(join(this.directory, "next"))) === undefined) return;
    await this.#disk.unlink(join(this.directory, "next"));
    await syncDirectory(this.#disk, this.directory);
  }

  /** Deletes the files of a version and keeps its record: with layout `rename` the files in place are the copy. */
  async strip(version: Version): Promise<void> {
    for (const role of ROLES) await destroyFile(this.#disk, this.fileOf(version, role));
  }

  /** Overwrites and removes a version. Repeats safely. */
  async remove(name: string): Promise<void> {
    const directory = join(this.directory, name);
    for (const file of await readdir(directory).catch(() => [])) await destroyFile(this.#disk, join(directory, file));
    await this.#disk.rmdir(directory);
  }

  /** Removes every version that is not named, and leftovers of cut-off links. */
  async removeAllBut(kept: ReadonlySet<string>): Promise<void> {
    for (const number of await this.#numbers()) if (!kept.has(`v${number}`)) await this.remove(`v${number}`);
    for (const link of ["current", "next"]) {
      await unlinkIfThere(this.#disk, join(this.directory, `.${link}.gyre-new`));
    }
    await syncDirectory(this.#disk, this.directory);
  }

  /** Removes the store with everything in it. Repeats safely. */
  async removeWhole(): Promise<void> {
    if ((await lookAt(this.directory)) === undefined) return;
    for (const link of ["next", "current"]) await unlinkIfThere(this.#disk, join(this.directory, link));
    await this.removeAllBut(new Set());
    await this.#disk.rmdir(this.directory);
    await syncDirectory(this.#disk, dirname(this.directory));
  }

  async #numbers(): Promise<number[]> {
    const names = await readdir(this.directory).catch((error: unknown) => {
      if (errno(error) === "ENOENT") return [];
      throw error;
    });
    return names.filter((name) => /^v\d+$/.test(name)).map((name) => Number(name.slice(1)));
  }
}

const ourOwn = (): Attributes => ({ uid: process.geteuid!(), gid: process.getegid!(), mode: 0o644 });

function recordBytes({ name: _, ...record }: Version): Buffer {
  return Buffer.from(`${JSON.stringify(record)}\n`, "utf8");
}

function parseRecord(text: string): VersionRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || !("format" in value) || !("files" in value)) return undefined;
  if (typeof value.format === "number" && value.format > 1) {
    throw new GyreError({
      code: "newer",
      message: "the version store beside the certificate was written by a newer Gyre; nothing written",
      next: "use that version, or restore the files by hand and remove the .gyre-… directory",
    });
  }
  return value.format === 1 && typeof value.files === "object" && value.files !== null
    ? (value as VersionRecord)
    : undefined;
}
