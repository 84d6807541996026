import { basename, dirname, join } from "node:path";
import { GyreError } from "../../errors.ts";
import {
  type Attributes,
  contentOf,
  type Disk,
  destroyFile,
  linkOf,
  lookAt,
  lookThrough,
  replaceLink,
  stageFile,
  syncDirectory,
  temporaryOf,
  unlinkIfThere,
} from "./disk.ts";
import { diskError } from "./disk-error.ts";
import { mustBeWritable } from "./preflight.ts";
import {
  type Content,
  type Contents,
  type FileRole,
  type Layout,
  ROLES,
  sha256,
  type Version,
  VersionStore,
} from "./version-store.ts";

export interface UnitFile {
  readonly role: FileRole;
  /** Absolute. */
  readonly path: string;
}

/** What one look at the files and the store beside them showed. */
export interface Look {
  readonly contents: Partial<Record<FileRole, Buffer>>;
  /** `sha256:…` over all contents, or `absent`. */
  readonly version: string;
  /** The version of the store that the contents are; undefined when somebody else wrote them. */
  readonly at: Version | undefined;
  readonly op: string | undefined;
  readonly torn: boolean;
  readonly current: Version | undefined;
  readonly next: Version | undefined;
}

/**
 * Files that change together. Layout `switch`: each path is a symbolic link through the store's `current`, so that all
 * of them change in the one rename of that link. Layout `rename`: plain files, each changed by a rename of its own; a
 * cut between two of them is seen (`torn`) because the store's `next` says what was going on.
 */
export class FileUnit {
  readonly #disk: Disk;
  readonly files: readonly UnitFile[];
  readonly layout: Layout;
  readonly store: VersionStore;

  constructor(disk: Disk, files: readonly UnitFile[], layout: Layout) {
    this.#disk = disk;
    this.files = [...files].sort((a, b) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role));
    this.layout = layout;
    this.store = new VersionStore(disk, this.files[0]!.path);
  }

  /** The directory of the first file: the store lies in it, and writers lock it. */
  get directory(): string {
    return dirname(this.files[0]!.path);
  }

  async look(): Promise<Look> {
    // The paths are read one after the other; when the link moved meanwhile, they may be of two versions.
    for (let tries = 0; ; tries++) {
      const before = await linkOf(join(this.store.directory, "current"));
      const contents = await this.#read();
      const { current, next } = await this.store.read();
      const after = await linkOf(join(this.store.directory, "current"));
      if (before !== after && tries < 10) continue;
      const judged = await this.#judge(contents, current, next);
      return { contents, version: versionOf(contents), current, next, ...judged };
    }
  }

  async #read(): Promise<Partial<Record<FileRole, Buffer>>> {
    const contents: Partial<Record<FileRole, Buffer>> = {};
    for (const { role, path } of this.files) {
      const bytes = await contentOf(path).catch((error: unknown) => {
        throw diskError(error, `reading the ${wordFor(role)}`, path, "nothing written");
      });
      if (bytes !== undefined) contents[role] = bytes;
    }
    return contents;
  }

  async #judge(
    contents: Partial<Record<FileRole, Buffer>>,
    current: Version | undefined,
    next: Version | undefined,
  ): Promise<Pick<Look, "at" | "op" | "torn">> {
    const seen = this.files.map(({ role }) => ({ role, hash: hashOf(contents[role]) }));
    const holds = (version: Version) => seen.every(({ role, hash }) => hash === (version.files[role] ?? null));
    if (next !== undefined && current?.name === next.name && holds(next)) {
      return { at: next, op: next.op, torn: next.unchecked === true };
    }
    if (next?.layout === "rename" && current?.name !== next.name) {
      const base = await this.store.version(next.base);
      const changed = seen.filter(({ role }) => (next.files[role] ?? null) !== (base?.files[role] ?? null));
      const arrived = changed.filter(({ role, hash }) => hash === (next.files[role] ?? null));
      const explained = seen.every(
        ({ role, hash }) => hash === (next.files[role] ?? null) || hash === (base?.files[role] ?? null),
      );
      if (arrived.length > 0 && explained) return { at: undefined, op: next.op, torn: true };
    }
    if (current !== undefined && holds(current)) return { at: current, op: current.op, torn: false };
    return { at: undefined, op: undefined, torn: false };
  }

  /**
   * Finds what would stop a write before anything is changed: directories that are missing, read-only or on another
   * file system; paths that are directories, devices or somebody else's links.
   * @throws GyreError `input`, `disk`, `permission` or `refused`, naming the path
   */
  async preflight(): Promise<void> {
    const home = await mustBeWritable(this.directory, "the version store");
    for (const file of this.files) {
      const directory = dirname(file.path);
      const seen = await lookAt(file.path);
      if (seen?.isSymbolicLink()) await this.#mustBeOurs(file);
      else if (seen !== undefined && !seen.isFile()) {
        const message = `${wordFor(file.role)} ${file.path} is ${seen.isDirectory() ? "a directory" : "no regular file"}; nothing written`;
        throw new GyreError({ code: "input", message, where: file.path, next: "name a file" });
      }
      if (await this.#isLinked(file)) continue; // the switch changes the store only
      const there = await mustBeWritable(directory, `the ${wordFor(file.role)}`);
      if (this.layout === "switch" && there.dev !== home.dev) {
        throw new GyreError({
          code: "refused",
          message: `${wordFor(file.role)} ${file.path} is on another file system than ${this.files[0]!.path}: the switch would keep both on the latter's; nothing written`,
          where: file.path,
          next: "put both on one file system, use combined, or say layout: rename (then the files do not change in one step)",
        });
      }
    }
  }

  async #mustBeOurs({ role, path }: UnitFile): Promise<void> {
    const target = (await linkOf(path)) ?? "";
    if (isStoreLink(target)) return;
    throw new GyreError({
      code: "refused",
      message: `${wordFor(role)} ${path} is a symbolic link to ${target} that Gyre did not make; nothing written`,
      where: path,
      next: `name ${target} in the manifest, or put a plain file in the link's place`,
    });
  }

  #linkFor({ role, path }: UnitFile): string {
    const through = this.store.throughCurrent(role);
    // Relative where that cannot be wrong, so that the directory may be mounted elsewhere; absolute across directories.
    return dirname(path) === this.directory ? join(basename(this.store.directory), "current", role) : through;
  }

  async #isLinked(file: UnitFile): Promise<boolean> {
    return this.layout === "switch" && (await linkOf(file.path)) === this.#linkFor(file);
  }

  async #anyLinked(): Promise<boolean> {
    return (await Promise.all(this.files.map((file) => linkOf(file.path)))).some((target) => isStoreLink(target ?? ""));
  }

  /** Owner and mode of what a path leads to. */
  async attributes(): Promise<Partial<Record<FileRole, Attributes>>> {
    const found: Partial<Record<FileRole, Attributes>> = {};
    for (const { role, path } of this.files) {
      const seen = await lookThrough(path);
      if (seen !== undefined) found[role] = { uid: seen.uid, gid: seen.gid, mode: seen.mode & 0o7777 };
    }
    return found;
  }

  /**
   * A version of the store that holds what is in place: the current one where the paths lead to it, else a copy with
   * the same owner and mode. Nothing in place changes.
   */
  async keep(look: Look): Promise<Version> {
    await this.store.create();
    const linked = (await Promise.all(this.files.map((file) => this.#isLinked(file)))).every(Boolean);
    if (linked && look.at !== undefined && look.at.name === look.current?.name) return look.at;
    const attributes = await this.attributes();
    const contents: Contents = {};
    for (const { role } of this.files) {
      const [bytes, who] = [look.contents[role], attributes[role]];
      if (bytes !== undefined && who !== undefined) contents[role] = { bytes, who };
    }
    const { op, material, previous } = look.at ?? {};
    return this.store.write(
      {
        layout: this.layout,
        ...(op === undefined ? {} : { op }),
        ...(material === undefined ? {} : { material }),
        ...(previous === undefined ? {} : { previous }),
      },
      contents,
    );
  }

  /** What a restore takes the place of: links must lead to its content, plain files are compared with its record. */
  async inPlace(look: Look): Promise<Version> {
    return this.layout === "rename" && look.at !== undefined ? look.at : this.keep(look);
  }

  /** Puts a staged version in place of `base`. After a cut anywhere in it, `look` tells how far it came. */
  async apply(version: Version, base: Version): Promise<void> {
    if (version.layout === "switch") await this.#linkTo(base);
    await this.store.point("next", version);
    if (version.layout === "rename") await this.#renameAll(await this.store.contents(version));
    await this.store.point("current", version);
  }

  /** Takes plain files over without changing what a reader finds: the store's copy first, then link by link. */
  async #linkTo(base: Version): Promise<void> {
    const { current } = await this.store.read();
    if (current?.name !== base.name) await this.store.point("current", base);
    const directories = new Set<string>();
    for (const file of this.files) {
      if (await this.#isLinked(file)) continue;
      await replaceLink(this.#disk, file.path, this.#linkFor(file));
      directories.add(dirname(file.path));
    }
    for (const directory of directories) await syncDirectory(this.#disk, directory);
  }

  async #renameAll(contents: Contents): Promise<void> {
    const changed: UnitFile[] = [];
    // Everything that needs room comes before the first rename: a full disk leaves all files as they were.
    for (const file of this.files) {
      const content = contents[file.role];
      if (content !== undefined && (await isInPlace(file.path, content))) continue;
      changed.push(file);
      if (content !== undefined) await stageFile(this.#disk, file.path, content.bytes, content.who);
    }
    for (const { role, path } of changed) {
      if (contents[role] === undefined) await unlinkIfThere(this.#disk, path);
      else await this.#disk.rename(temporaryOf(path), path);
    }
    for (const directory of new Set(changed.map(({ path }) => dirname(path)))) {
      await syncDirectory(this.#disk, directory);
    }
  }

  /** Ends what a cut left half-done: a restore goes on to its end, a delivery goes back to its beginning. */
  async recover(version: Version): Promise<void> {
    const base = await this.store.version(version.base);
    if (version.restoring !== true || base === undefined) return this.undo(version);
    await this.apply(version, base);
    await this.settle();
  }

  /** Goes back from a version that was being put in place to what was there before it. */
  async undo(version: Version): Promise<void> {
    const base = await this.store.version(version.base);
    if (base === undefined || !(await this.store.intact(base)))
      throw this.#damaged(version.base ?? "what was there before");
    // By the layout it was begun with: the manifest may say another one by now.
    if (version.layout === "rename") await this.#renameAll(await this.store.contents(base));
    await this.store.point("current", base);
    await this.settle();
  }

  /** The version `restore` puts back, checked; undefined when none is kept. */
  async keptBefore(version: Version): Promise<Version | undefined> {
    const kept = await this.store.version(version.previous);
    if (kept !== undefined && !(await this.store.intact(kept))) throw this.#damaged(kept.name);
    return kept;
  }

  #damaged(name: string): GyreError {
    const path = join(this.store.directory, name);
    const message = `the kept copy ${path} is missing or was changed; nothing written`;
    return new GyreError({ code: "damaged", message, where: path, next: "deliver the old generation anew" });
  }

  /** Ends a delivery: no intent is left, and no copies but the ones a restore may need. */
  async settle(): Promise<void> {
    const { current } = await this.store.read();
    await this.store.clearNext();
    if (current === undefined) return;
    if (current.layout === "rename") await this.store.strip(current);
    if (current.layout === "switch" && isEmpty(current)) await this.#unlinkAll();
    await this.tidy();
  }

  /** A link that leads nowhere is a riddle to the next reader: where nothing was, nothing is left. */
  async #unlinkAll(): Promise<void> {
    for (const file of this.files) {
      if (!(await this.#isLinked(file))) continue;
      await this.#disk.unlink(file.path);
      await syncDirectory(this.#disk, dirname(file.path));
    }
  }

  /** Removes what no link and no restore can lead to. */
  async tidy(): Promise<void> {
    const { current, next } = await this.store.read();
    const kept = new Set<string>();
    const queue = [current?.name, next?.name, next?.base];
    for (let name = queue.pop(); queue.length > 0 || name !== undefined; name = queue.pop()) {
      if (name === undefined || kept.has(name)) continue;
      kept.add(name);
      queue.push((await this.store.version(name))?.previous);
    }
    if (kept.size > 0) await this.store.removeAllBut(kept);
    // With its own links lost, a store that paths lead to is left alone.
    else if (!(await this.#anyLinked())) await this.store.removeWhole();
    for (const { path } of this.files) await destroyFile(this.#disk, temporaryOf(path));
  }

  /** Overwrites and removes every copy but what is in place. Leaves a cut-off delivery alone. */
  async forget(look: Look): Promise<void> {
    if (look.torn) return;
    await this.store.clearNext();
    if (look.current === undefined || (isEmpty(look.current) && look.version === "absent")) {
      if (!(await this.#anyLinked())) await this.store.removeWhole();
    } else await this.store.removeAllBut(new Set([look.current.name]));
    for (const { path } of this.files) await destroyFile(this.#disk, temporaryOf(path));
  }
}

/** Link targets that a version store of any target makes. */
const isStoreLink = (target: string): boolean => /(^|\/)\.gyre-[^/]+\/current\/[a-zA-Z]+$/.test(target);

const isEmpty = (version: Version): boolean => Object.values(version.files).every((hash) => hash === null);

const hashOf = (bytes: Buffer | undefined): string | null => (bytes === undefined ? null : sha256(bytes));

export const wordFor = (role: FileRole): string => (role === "privateKey" ? "private key" : role);

/** Over role, length and bytes of each file, so that no two sets of files share a version. */
function versionOf(contents: Partial<Record<FileRole, Buffer>>): string {
  const parts: Buffer[] = [];
  for (const role of ROLES) {
    const bytes = contents[role];
    if (bytes !== undefined) parts.push(Buffer.from(`${role} ${bytes.length}\n`, "utf8"), bytes);
  }
  return parts.length === 0 ? "absent" : `sha256:${sha256(Buffer.concat(parts))}`;
}

async function isInPlace(path: string, { bytes, who }: Content): Promise<boolean> {
  const seen = await lookAt(path);
  if (seen === undefined || !seen.isFile() || (seen.mode & 0o7777) !== who.mode) return false;
  return seen.uid === who.uid && seen.gid === who.gid && (await contentOf(path))?.equals(bytes) === true;
}
