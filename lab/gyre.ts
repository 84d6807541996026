/**
 * Gyre as an operator meets it, for journeys and the first run: the command line as a process of its own, and a CA with
 * certificates from before its first rotation.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type LocalCa, openLocalCa } from "../src/drivers/local-ca/local-ca.ts";
import { localCaSettings } from "../src/drivers/local-ca/settings.ts";
import type { Issued } from "../src/drivers/roles.ts";
import { createCsr } from "../src/pki/csr.ts";
import { exportPrivateKey, generateKey } from "../src/pki/keys.ts";

export const gyreProgram = fileURLToPath(new URL("../bin/gyre.js", import.meta.url));

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs `gyre ARGS` in `home` and waits for its end. */
export async function gyre(home: string, ...args: string[]): Promise<Ran> {
  const child = spawn(process.execPath, [gyreProgram, ...args], { cwd: home, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString();
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exit) => resolve(exit ?? 1));
  });
  return { code, out, err };
}

/** For manifests of demonstrations only. */
export const passphrase = "loopback only, nothing secret";
const hour = 3600_000;

export interface CaBefore {
  readonly ca: LocalCa;
  /** The `localCA` line of the manifest. */
  readonly manifest: string;
  /** Writes the CA certificate, for servers to trust. */
  writeRoots(path: string): void;
  writeCrl(...paths: string[]): Promise<void>;
  issue(order: {
    subject: string;
    names: readonly string[];
    usages: readonly ("server" | "client")[];
    lifetime?: number;
  }): Promise<PairBefore>;
}
/** A certificate and key that nobody rotated yet. */
export interface PairBefore extends Issued {
  writePem(certificate: string, privateKey: string): void;
  writeCombined(path: string): void;
}

/**
 * A CA in `<home>/<directory>` that has issued before Gyre's first rotation. Extra settings are those of `localCA`; `age`
 * is how long ago it was made and issued, milliseconds.
 */
export async function caBefore(
  home: string,
  subject: string,
  settings: Record<string, unknown> = {},
  age = 0,
): Promise<CaBefore> {
  const given = { directory: "ca", subject, passphrase, ...settings };
  const ca = await openLocalCa(localCaSettings.parse(given), { baseDir: home, now: () => Date.now() - age });
  const step = (op: string) => ({ op, tag: "before.gyre", signal: new AbortController().signal });
  let issued = 0;
  return {
    ca,
    manifest: `localCA: ${JSON.stringify(given)}`,
    writeRoots: (path) => writeFileSync(path, ca.roots()),
    async writeCrl(...paths) {
      const crl = `${await ca.publishCrl(step("crl-before"))}${(await ca.rootCrl()) ?? ""}`;
      for (const path of paths) writeFileSync(path, crl);
    },
    async issue({ lifetime, ...order }) {
      const key = await generateKey("P-256");
      const pem = exportPrivateKey(key);
      const one = await ca.issue(
        { ...order, lifetime: lifetime ?? 24 * hour, csr: createCsr(key, order) },
        step(`before-${issued++}`),
      );
      return {
        ...one,
        writePem(certificate, privateKey) {
          writeFileSync(certificate, one.certificate + one.chain);
          pem.use((bytes) => writeFileSync(privateKey, bytes, { mode: 0o600 }));
        },
        writeCombined(path) {
          pem.use((bytes) =>
            writeFileSync(path, Buffer.concat([Buffer.from(one.certificate + one.chain), bytes]), { mode: 0o600 }),
          );
        },
      };
    },
  };
}

/** A command as a YAML list; JSON is YAML. */
export const yamlCommand = (command: readonly string[]): string => `{ command: ${JSON.stringify(command)} }`;

/** The receipt's path as `gyre rotate --json` gave it. */
export const receiptOf = (home: string, index = 0): string => join(home, ".gyre", "receipts", `${index}.json`);
