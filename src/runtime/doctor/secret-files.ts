import { stat } from "node:fs/promises";
import { pathFrom } from "../../drivers/files/reload.ts";
import type { Diagnosis } from "../api.ts";
import { type Check, ok, type Patient, problem } from "./patient.ts";

interface SecretFile {
  readonly what: string;
  readonly path: string;
}

/** Files from which the manifest has passphrases and passwords: there, and read by nobody who need not. */
export const secretFiles: Check = async (patient) => {
  const found: Diagnosis[] = [];
  for (const { what, path } of named(patient)) {
    const at = `${what} ${path}`;
    const seen = await stat(path).catch((error: NodeJS.ErrnoException) => error.code ?? "unknown");
    if (typeof seen === "string") {
      found.push(
        problem(
          at,
          seen === "ENOENT" ? "there is no such file" : `cannot be read (${seen})`,
          "create it, or correct the path",
        ),
      );
    } else if ((seen.mode & 0o004) !== 0) {
      const mode = (seen.mode & 0o7777).toString(8).padStart(4, "0");
      found.push(problem(at, `mode ${mode} lets every user of the host read it`, `chmod 0600 ${path}`));
    } else found.push(ok(at, "is there, and not for everybody to read"));
  }
  return found;
};

function named({ issuer, targets, stores }: Patient): SecretFile[] {
  const { driver, baseDir } = issuer;
  const passphrase = driver.driver === "local-ca" ? driver.settings.passphrase : undefined;
  return [
    ...fileOf("CA passphrase", passphrase, baseDir),
    ...targets.flatMap((entry) => fileOf("key store password", passwordIn(entry.settings.keystore), entry.baseDir)),
    ...stores.flatMap((entry) => fileOf("trust store password", passwordIn(entry.settings.truststore), entry.baseDir)),
  ];
}

const passwordIn = (store: unknown): unknown => (store as { readonly password?: unknown } | undefined)?.password;

function fileOf(what: string, setting: unknown, baseDir: string): SecretFile[] {
  const { file } = typeof setting === "object" && setting !== null && "file" in setting ? setting : {};
  return typeof file === "string" ? [{ what, path: pathFrom(baseDir, file) }] : [];
}
