import type { Dirent } from "node:fs";
import { readlinkSync, realpathSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Item, itemsOf } from "./contents.ts";
import { type Found, problem } from "./found.ts";
import { type Carried, looksLikeKubeconfig } from "./kubeconfig.ts";
import { readWhole, systemWords } from "./read-file.ts";
import type { ScanOptions } from "./scan.ts";
import { entryFindings, judgeItems, judgeKubeconfig, stem, Together } from "./together.ts";

/** How long files are read in one go before others get their turn, milliseconds. Reading without waiting is faster:
 *  a small file takes 5 µs to read and 50 µs to hand to another thread and back. */
const SLICE = 8;

const KEY_NAME = /key|\.p8$/i;

/** Everything in one file; explicit files also have the keys beside them looked at. */
export function* scanFile(path: string, options: Required<ScanOptions>): Generator<Found> {
  const folder = new Together(options);
  const found = [...examine(path, folder, true)];
  const certificates = found.some((one) => one.what === "certificate");
  if (certificates && !folder.hasKeys) {
    yield* withSiblingKeys(path, options);
    return;
  }
  yield* found;
  yield* folder.keys();
}

function* withSiblingKeys(path: string, options: Required<ScanOptions>): Generator<Found> {
  const folder = new Together(options);
  for (const sibling of siblings(path)) for (const _ of examine(sibling, folder, false));
  yield* examine(path, folder, true);
  yield* folder.keys();
}

function siblings(path: string): string[] {
  const base = path.replace(/\.[^./]+$/, "");
  const folder = dirname(path);
  const names = [
    `${base}.key`,
    `${base}-key.pem`,
    `${base}.key.pem`,
    join(folder, "tls.key"),
    join(folder, "privkey.pem"),
  ];
  return names.filter(
    (name) => name !== path && stem(name) === stem(path) && statSync(name, { throwIfNoEntry: false })?.isFile(),
  );
}

/** Directories below too, each one told before those inside it; a directory that links to one around it is passed over. */
export async function* scanFolder(
  path: string,
  options: Required<ScanOptions>,
  above: readonly string[] = [],
): AsyncGenerator<Found> {
  let entries: Dirent[];
  let real: string;
  try {
    real = realpathSync(path);
    entries = await readdir(path, { withFileTypes: true });
  } catch (error) {
    yield problem(path, systemWords(error));
    return;
  }
  if (above.includes(real)) return;
  const { files, folders } = sorted(path, entries);
  const folder = new Together(options);
  let pause = performance.now() + SLICE;
  for (const file of files) {
    for (const found of examine(file, folder, false)) yield found;
    if (performance.now() < pause) continue;
    options.signal.throwIfAborted();
    await new Promise(setImmediate);
    pause = performance.now() + SLICE;
  }
  yield* folder.keys();
  for (const inner of folders) yield* scanFolder(inner, options, [...above, real]);
}

/** Keys come first, so that certificates are judged beside them. */
function sorted(path: string, entries: readonly Dirent[]): { files: string[]; folders: string[] } {
  const keys: string[] = [];
  const others: string[] = [];
  const folders: string[] = [];
  for (const entry of entries) {
    // `..data` of a mounted Secret or ConfigMap: the files beside it are links into it.
    if (entry.name.startsWith("..") || entry.name === ".git") continue;
    const inner = join(path, entry.name);
    const kind = entry.isSymbolicLink()
      ? linked(inner)
      : entry.isDirectory()
        ? "folder"
        : entry.isFile()
          ? "file"
          : undefined;
    if (kind === "folder") folders.push(inner);
    if (kind === "file") (KEY_NAME.test(entry.name) ? keys : others).push(inner);
  }
  return { files: [...keys.sort(), ...others.sort()], folders: folders.sort() };
}

/** A link to a file of the same directory (the hash names of /etc/ssl/certs) tells nothing new. */
function linked(path: string): "file" | "folder" | undefined {
  try {
    const facts = statSync(path);
    if (facts.isDirectory()) return "folder";
    return facts.isFile() && readlinkSync(path).includes("/") ? "file" : undefined;
  } catch {
    return undefined; // dangling, or a loop of links
  }
}

function* examine(path: string, folder: Together, named: boolean): Generator<Found> {
  try {
    const read = readWhole(path, named);
    if (read === undefined) return;
    if (looksLikeYaml(path, read.bytes) && looksLikeKubeconfig(read.bytes)) {
      yield* judgeKubeconfig(Buffer.from(read.bytes), path, (carried) =>
        judgeEntry(carried, read.mode, folder.options),
      );
      return;
    }
    const items = itemsOf(read.bytes, path);
    if (items.length === 0 && named)
      yield problem(path, "nothing in it that Gyre knows: no PEM, DER, PKCS#12, JKS or kubeconfig");
    yield* judgeItems(items, path, read.mode, folder);
  } catch (error) {
    yield problem(path, systemWords(error));
  }
}

const looksLikeYaml = (path: string, bytes: Buffer): boolean =>
  bytes[0] !== 0x2d || /\.(ya?ml|conf|config|kubeconfig|json)$/i.test(path);

/** One user or cluster: its certificate and its key belong together, whatever files they stand in. */
function* judgeEntry(carried: readonly Carried[], mode: number, options: Required<ScanOptions>): Generator<Found> {
  const entry = new Together(options);
  const items: Item[] = [];
  let modeOfKey = mode;
  for (const one of carried) {
    const where = one.file === undefined ? one.where : `${one.where} ${one.file}`;
    try {
      const read = one.file === undefined ? { bytes: one.data!, mode } : readWhole(one.file, true)!;
      if (one.field === "client-key") modeOfKey = read.mode;
      const inside = itemsOf(read.bytes, where);
      if (inside.length === 0) yield problem(where, `${one.field} holds no PEM`);
      items.push(...inside.map((item) => (one.file === undefined ? { ...item, where: one.where } : item)));
    } catch (error) {
      yield problem(where, systemWords(error));
    }
  }
  yield* judgeItems(items, carried[0]!.where, modeOfKey, entry, entryFindings(carried));
  yield* entry.keys();
}
