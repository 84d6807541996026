import { createCipheriv, createDecipheriv, hash, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { constants, open, readdir, readFile, stat, unlink } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { diskError, errno } from "../disk/disk-error.ts";
import { createFile, isTemporaryOf, makeDirectory, syncDirectory, writeAll } from "../disk/durable.ts";
import { GyreError } from "../errors.ts";
import { Secret } from "../pki/secret.ts";
import type { SecretStore } from "./secret-store.ts";

/** Where the store key (32 bytes) comes from: a file, made on first use with mode 0600, or the caller. */
export type KeySource = { readonly file: string } | { readonly secret: Secret };

/**
 * One file per secret, `<directory>/<name>.enc`:
 *
 *   "GYRE-SECRET-1\n" | key id (8) | nonce (12) | tag (16) | ciphertext        AES-256-GCM
 *
 * Everything before the tag and the name are authenticated, so a blob cannot pass for another one. The key id is
 * derived from the store key and tells a wrong key from a damaged file. Nonces are random: safe far beyond the 2^32
 * blobs that NIST SP 800-38D section 8.3 allows per key. Directories are 0700 and files 0600; anything wider is refused.
 */
const MAGIC = Buffer.from("GYRE-SECRET-1\n");
const KEY_ID = 8;
const NONCE = 12;
const TAG = 16;
const HEAD = MAGIC.length + KEY_ID + NONCE;
const SUFFIX = ".enc";

/**
 * Opens a store of encrypted blobs, creating the directory (0700) on first use.
 * @throws GyreError `permission` when others may read the directory or the key, `input` for a wrong or lost key
 */
export async function openSecrets(directory: string, source: KeySource): Promise<SecretStore> {
  try {
    await makeDirectory(directory, 0o700);
    await refuseOpenDoors(directory, "0700");
    const key = await storeKey(directory, source);
    const id = keyId(key);
    await mustFit(directory, id);
    return new FileSecrets(directory, key, id);
  } catch (error) {
    throw diskError(error, `secret store ${directory}: opening`, directory, "no secret was touched");
  }
}

class FileSecrets implements SecretStore {
  readonly #directory: string;
  readonly #key: Secret;
  readonly #id: Buffer;
  constructor(directory: string, key: Secret, id: Buffer) {
    this.#directory = directory;
    this.#key = key;
    this.#id = id;
  }

  async put(name: string, secret: Secret): Promise<`sha256:${string}`> {
    const path = this.#path(name);
    try {
      await makeDirectory(dirname(path), 0o700);
      const blob = this.#encrypt(name, secret);
      if (await createFile(path, blob, 0o600)) return digestOf(blob);
      const there = await readFile(path);
      if (equal(this.#decrypt(name, path, there), secret)) return digestOf(there);
    } catch (error) {
      throw diskError(error, `secret ${name}: writing ${path}`, path, "no other secret was touched");
    }
    throw new GyreError({
      code: "conflict",
      message: `secret ${name}: another one is stored under this name; it was left untouched`,
      where: path,
      next: "find out which rotation stored it; a name is used once and never again",
    });
  }

  async get(name: string): Promise<Secret | undefined> {
    const path = this.#path(name);
    try {
      const blob = await readFile(path);
      await refuseOpenDoors(path, "0600");
      return this.#decrypt(name, path, blob);
    } catch (error) {
      if (errno(error) === "ENOENT") return undefined;
      throw diskError(error, `secret ${name}: reading ${path}`, path, "nothing was changed");
    }
  }

  /**
   * What an overwrite can promise: these blocks of this file, on file systems that write in place. Journals, snapshots,
   * backups and flash may keep older blocks; they hold ciphertext, so whoever needs more destroys the store key too.
   */
  async delete(name: string): Promise<void> {
    const path = this.#path(name);
    const directory = dirname(path);
    try {
      const names = await readdir(directory).catch((error: unknown) => {
        if (errno(error) === "ENOENT") return [];
        throw error;
      });
      // A `put` cut off by a crash may have left the same ciphertext under a temporary name.
      for (const file of names.filter((file) => isTemporaryOf(path, file))) await overwrite(join(directory, file));
      await overwrite(path);
      if (names.length > 0) await syncDirectory(directory);
    } catch (error) {
      throw diskError(
        error,
        `secret ${name}: destroying ${path}`,
        path,
        "it may still be there; no other secret was touched",
      );
    }
  }

  async list(): Promise<readonly string[]> {
    try {
      const files = await readdir(this.#directory, { recursive: true, withFileTypes: true });
      return files
        .filter((file) => file.isFile() && file.name.endsWith(SUFFIX) && !file.name.startsWith("."))
        .map((file) => relative(this.#directory, join(file.parentPath, file.name)).split(sep).join("/"))
        .map((path) => path.slice(0, -SUFFIX.length))
        .sort();
    } catch (error) {
      throw diskError(error, `secret store ${this.#directory}: listing`, this.#directory, "nothing was changed");
    }
  }

  #path(name: string): string {
    const parts = name.split("/");
    // Letters, digits, and - _ . @ within: no empty part, no leading dot, so neither `..` nor an absolute path.
    if (parts.length <= 8 && parts.every((part) => /^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$/.test(part))) {
      return join(this.#directory, `${name}${SUFFIX}`);
    }
    throw new GyreError({
      code: "input",
      message: `secret store: ${JSON.stringify(name)} is no name for a secret; nothing was read or written`,
      next: "use parts like shop-tls/g4.key: letters, digits, and - _ . @ after the first character",
    });
  }

  #encrypt(name: string, secret: Secret): Buffer {
    const head = Buffer.concat([MAGIC, this.#id, randomBytes(NONCE)]);
    const cipher = this.#key.use((key) => createCipheriv("aes-256-gcm", key, head.subarray(-NONCE)));
    cipher.setAAD(bound(head, name));
    const text = secret.use((bytes) => Buffer.concat([cipher.update(bytes), cipher.final()]));
    return Buffer.concat([head, cipher.getAuthTag(), text]);
  }

  #decrypt(name: string, path: string, blob: Buffer): Secret {
    const head = blob.subarray(0, HEAD);
    if (blob.length < HEAD + TAG || !head.subarray(0, MAGIC.length).equals(MAGIC)) throw rotten(name, path);
    const id = head.subarray(MAGIC.length, MAGIC.length + KEY_ID);
    if (!id.equals(this.#id)) throw wrongKey(name, path, id, this.#id);
    const decipher = this.#key.use((key) =>
      createDecipheriv("aes-256-gcm", key, head.subarray(-NONCE), { authTagLength: TAG }),
    );
    decipher.setAAD(bound(head, name));
    decipher.setAuthTag(blob.subarray(HEAD, HEAD + TAG));
    const plain = [decipher.update(blob.subarray(HEAD + TAG))];
    try {
      plain.push(decipher.final());
    } catch {
      for (const part of plain) part.fill(0);
      throw rotten(name, path);
    }
    const whole = Buffer.concat(plain);
    const secret = Secret.of(whole);
    for (const part of [...plain, whole]) part.fill(0);
    return secret;
  }
}

/** So many blobs are asked which key they are under: one of them may be damaged, and is told when it is read. */
const ASKED = 4;

/**
 * A store key that was exchanged makes every blob unreadable, which should not show when a rotation is half over.
 * @throws GyreError `input` when none of the first few is under our key
 */
async function mustFit(directory: string, ours: Buffer): Promise<void> {
  const names = await readdir(directory, { recursive: true, withFileTypes: true });
  const blobs = names.filter((name) => name.isFile() && name.name.endsWith(SUFFIX) && !name.name.startsWith("."));
  let foreign: GyreError | undefined;
  for (const blob of blobs.slice(0, ASKED)) {
    const path = join(blob.parentPath, blob.name);
    const head = (await readFile(path)).subarray(0, HEAD);
    if (head.length < HEAD || !head.subarray(0, MAGIC.length).equals(MAGIC)) return;
    const found = head.subarray(MAGIC.length, MAGIC.length + KEY_ID);
    if (found.equals(ours)) return;
    foreign ??= wrongKey(relative(directory, path).slice(0, -SUFFIX.length), path, found, ours);
  }
  if (foreign !== undefined) throw foreign;
}

function bound(head: Buffer, name: string): Buffer {
  return Buffer.concat([head, Buffer.from(name, "utf8")]);
}

function digestOf(blob: Buffer): `sha256:${string}` {
  return `sha256:${hash("sha256", blob, "hex")}`;
}

function equal(a: Secret, b: Secret): boolean {
  return a.use((x) => b.use((y) => x.length === y.length && timingSafeEqual(x, y)));
}

function rotten(name: string, path: string): GyreError {
  return new GyreError({
    code: "damaged",
    message: `secret ${name}: the file is not what was written under this name; left as it is`,
    where: path,
    next: "restore the file from a copy; if there is none, rotate this credential again",
  });
}

function wrongKey(name: string, path: string, found: Buffer, ours: Buffer): GyreError {
  return new GyreError({
    code: "input",
    message: `secret ${name}: encrypted with another store key (key id ${found.toString("hex")}, ours is ${ours.toString("hex")}); nothing was changed`,
    where: path,
    next: "give the store key this secret was written with",
  });
}

/** Names a store key without telling anything of it: HKDF (RFC 5869) with its own label. */
function keyId(key: Secret): Buffer {
  return key.use((bytes) => Buffer.from(hkdfSync("sha256", bytes, "", "gyre secret store: key id", KEY_ID)));
}

async function storeKey(directory: string, source: KeySource): Promise<Secret> {
  if ("secret" in source) return checked(source.secret, "the store key given");
  const { file } = source;
  try {
    return await readKey(file);
  } catch (error) {
    if (errno(error) !== "ENOENT") throw error;
  }
  // A new key beside old blobs would make them look lost for good: somebody forgot to bring the key along.
  const encrypted = (await readdir(directory, { recursive: true })).filter((name) => name.endsWith(SUFFIX)).length;
  if (encrypted > 0) {
    throw new GyreError({
      code: "input",
      message: `secret store ${directory}: holds ${encrypted} secrets, but their store key ${file} is not there; nothing was changed`,
      where: file,
      next: `put the store key back at ${file} (32 bytes, mode 0600)`,
    });
  }
  await makeDirectory(dirname(file), 0o700);
  const bytes = randomBytes(32);
  await createFile(file, bytes, 0o600);
  bytes.fill(0);
  // Not ours if another process created it first: what is on disk counts.
  return readKey(file);
}

async function readKey(file: string): Promise<Secret> {
  const bytes = await readFile(file);
  try {
    await refuseOpenDoors(file, "0600");
    return checked(Secret.of(bytes), `store key ${file}`);
  } finally {
    bytes.fill(0);
  }
}

function checked(key: Secret, what: string): Secret {
  if (key.length === 32) return key;
  throw new GyreError({
    code: "input",
    message: `secret store: ${what} has ${key.length} bytes, not 32; nothing was read or written`,
    next: "give exactly 32 random bytes (openssl rand 32)",
  });
}

async function refuseOpenDoors(path: string, mode: string): Promise<void> {
  const found = await stat(path);
  if ((found.mode & 0o077) === 0) return;
  throw new GyreError({
    code: "permission",
    message: `${path}: others than its owner have access to it (mode 0${(found.mode & 0o777).toString(8)}); not used`,
    where: path,
    next: `chmod ${mode} ${path}, and take what it held as seen by others`,
  });
}

async function overwrite(path: string): Promise<void> {
  try {
    const handle = await open(path, constants.O_WRONLY);
    try {
      const { size } = await handle.stat();
      await writeAll(handle, randomBytes(size));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await unlink(path);
  } catch (error) {
    if (errno(error) !== "ENOENT") throw error;
  }
}
