import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { diskError, errno } from "../disk/disk-error.ts";
import { makeDirectory, replaceFile } from "../disk/durable.ts";
import { GyreError } from "../errors.ts";
import type { EvidenceStore } from "./journal.ts";

/**
 * Evidence as files named by their digest, `<directory>/sha256/ab/cdef…`. Public by definition: nothing secret belongs
 * here. Several processes may write at once: the same name always means the same bytes.
 */
export function openEvidence(directory: string): EvidenceStore {
  return {
    async put(content) {
      const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : content;
      const hex = hash("sha256", bytes, "hex");
      const path = evidencePath(directory, hex);
      try {
        // A file that is there is believed only when its bytes fit; a torn or rotten one is replaced.
        if ((await digestOf(path)) !== hex) {
          await makeDirectory(dirname(path), 0o755);
          await replaceFile(path, bytes, 0o644);
        }
      } catch (error) {
        throw diskError(error, `evidence ${directory}: writing`, path, "the evidence there is untouched");
      }
      return `sha256:${hex}`;
    },
    async get(digest) {
      const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
      if (hex === undefined) {
        const message = `evidence: ${JSON.stringify(digest)} is no digest (sha256: and 64 hex digits)`;
        throw new GyreError({ code: "input", message });
      }
      const path = evidencePath(directory, hex);
      const bytes = await readEvidence(path, digest);
      if (hash("sha256", bytes, "hex") === hex) return bytes;
      throw new GyreError({
        code: "damaged",
        message: `evidence ${path}: its bytes do not have the digest it is named by; left as it is`,
        where: path,
        next: "restore this file from a copy; what was concluded from it stands in the journal",
      });
    },
  };
}

function evidencePath(directory: string, hex: string): string {
  return join(directory, "sha256", hex.slice(0, 2), hex.slice(2));
}

async function digestOf(path: string): Promise<string | undefined> {
  try {
    return hash("sha256", await readFile(path), "hex");
  } catch (error) {
    if (errno(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function readEvidence(path: string, digest: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errno(error) !== "ENOENT") throw diskError(error, `evidence ${path}: reading`, path, "nothing was changed");
    throw new GyreError({
      code: "input",
      message: `evidence ${digest}: no such file`,
      where: path,
      next: "restore it from a copy of the evidence directory",
    });
  }
}
