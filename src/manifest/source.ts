import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** Offsets into a source's text, in UTF-16 units; `to` is not included. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** One manifest file in memory. */
export interface Source {
  /** As the user named it: what errors print. */
  readonly name: string;
  /** Absolute directory of the file: relative paths in its documents start here. */
  readonly baseDir: string;
  readonly text: string;
  readonly lineStarts: readonly number[];
  /** Ranges that must not be shown; grows while the file is understood. */
  readonly secrets: Span[];
}

export interface Unreadable {
  readonly name: string;
  readonly message: string;
  readonly next?: string;
}

/** A manifest is written by hand; more than this is a wrong file, and the limit bounds memory and time. */
const MAX_BYTES = 1024 * 1024;

export function sourceOf(name: string, text: string, baseDir = dirname(resolve(name))): Source {
  const lineStarts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lineStarts.push(at + 1);
  return { name, baseDir, text, lineStarts, secrets: [] };
}

/** One-based line and column of an offset. */
export function position(source: Source, offset: number): { line: number; column: number } {
  let low = 0;
  let high = source.lineStarts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (source.lineStarts[middle]! <= offset) low = middle;
    else high = middle - 1;
  }
  return { line: low + 1, column: offset - source.lineStarts[low]! + 1 };
}

/**
 * Reads the named files, and `*.yaml` and `*.yml` under the named directories, sorted by path. Names that start with
 * a dot are passed over in directories: a mounted ConfigMap keeps its files a second time under `..data`. A file that
 * is reached twice is read once.
 */
export async function readSources(paths: readonly string[]): Promise<{ sources: Source[]; unreadable: Unreadable[] }> {
  const sources: Source[] = [];
  const unreadable: Unreadable[] = [];
  const seen = new Set<string>();
  for (const path of paths) {
    const files = await filesUnder(path, new Set(), unreadable);
    if (files.length === 0 && !unreadable.some((u) => u.name.startsWith(path)))
      unreadable.push({ name: path, message: "no *.yaml or *.yml file in this directory" });
    for (const file of files) {
      try {
        const real = await realpath(file);
        if (seen.has(real)) continue;
        seen.add(real);
        sources.push(sourceOf(file, await readText(file)));
      } catch (error) {
        unreadable.push(whyUnreadable(file, error));
      }
    }
  }
  return { sources, unreadable };
}

async function filesUnder(path: string, above: Set<string>, unreadable: Unreadable[]): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const real = await realpath(path);
    if (above.has(real)) return [];
    const inside = new Set(above).add(real);
    const found: string[] = [];
    for (const entry of (await readdir(path)).sort()) {
      if (entry.startsWith(".")) continue;
      const child = join(path, entry);
      if (/\.ya?ml$/.test(entry) || (await isDirectory(child)))
        found.push(...(await filesUnder(child, inside, unreadable)));
    }
    return found;
  } catch (error) {
    unreadable.push(whyUnreadable(path, error));
    return [];
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false; // a dangling link that is no manifest by its name
  }
}

async function readText(path: string): Promise<string> {
  const facts = await stat(path);
  if (!facts.isFile()) throw new Error("not a regular file");
  if (facts.size > MAX_BYTES)
    throw new Error(`larger than a manifest can be (${facts.size} bytes, at most ${MAX_BYTES})`);
  const bytes = await readFile(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("not UTF-8 text");
  }
}

const SYSTEM: Record<string, readonly [message: string, next?: string]> = {
  ENOENT: ["no such file or directory"],
  EACCES: ["permission denied while reading", "let the user that runs gyre read it"],
  EPERM: ["permission denied while reading", "let the user that runs gyre read it"],
  ELOOP: ["a loop of symbolic links"],
  ENOTDIR: ["a part of this path is not a directory"],
  EIO: ["the disk failed while reading"],
};

function whyUnreadable(name: string, error: unknown): Unreadable {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const known = SYSTEM[code];
  if (known) return { name, message: known[0], ...(known[1] === undefined ? {} : { next: known[1] }) };
  return { name, message: error instanceof Error ? error.message : "cannot be read" };
}
