import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { prepareAuthority, signCertificate, signSelfSigned } from "../src/pki/issue.ts";
import { generateKey } from "../src/pki/keys.ts";
import { scan } from "../src/scan/scan.ts";

export interface Figure {
  readonly name: string;
  readonly ours: number;
  readonly reference: number;
  /** Above 1 is faster than the reference. */
  readonly ratio: number;
  readonly unit: string;
}
export interface ScanFigures {
  readonly figures: readonly Figure[];
  /** Megabytes resident at the peak, after a tenth of the files and after all of them. */
  readonly memory: { readonly tenth: number; readonly all: number };
}

const ROUNDS = 5;

/**
 * `scan` of a directory of certificates against a Go loop over the same files, in turns, best of five each. Certificates
 * per second. `lint` is off where the reference does the same work, and on as users have it.
 */
export async function benchScan(files = 10_000): Promise<ScanFigures> {
  const root = mkdtempSync(join(tmpdir(), "gyre-bench-scan-"));
  try {
    const folder = join(root, "certificates");
    await generate(folder, files);
    const memory = { tenth: await peakOf(folder, files / 10), all: await peakOf(folder, files) };
    const program = join(root, "reference");
    execFileSync("go", ["build", "-o", program, join(import.meta.dirname, "go/scan/main.go")]);
    const best = { reference: Infinity, plain: Infinity, linted: Infinity };
    for (let round = 0; round < ROUNDS; round++) {
      best.reference = Math.min(best.reference, reference(program, folder, files));
      best.plain = Math.min(best.plain, await ours(folder, files, false));
      best.linted = Math.min(best.linted, await ours(folder, files, true));
    }
    const figure = (name: string, took: number): Figure => ({
      name,
      ours: Math.round(files / (took / 1000)),
      reference: Math.round(files / (best.reference / 1000)),
      ratio: Math.round((best.reference / took) * 100) / 100,
      unit: "certificates/s",
    });
    return {
      figures: [
        figure(`scan of ${files} PEM files, no lint, against a Go loop`, best.plain),
        figure(`scan of ${files} PEM files with lint, against a Go loop without`, best.linted),
      ],
      memory,
    };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function generate(folder: string, files: number): Promise<void> {
  mkdirSync(folder);
  const key = await generateKey("P-256");
  const now = Date.now();
  const validity = { notBefore: now - 3_600_000, notAfter: now + 86_400_000 };
  const root = signSelfSigned(key, { subject: "CN=bench root", isCa: true, ...validity });
  const authority = prepareAuthority(root, key);
  for (let i = 0; i < files; i++) {
    const host = `host-${i}.example`;
    const fields = {
      subject: `CN=${host}`,
      names: [`DNS:${host}`],
      usages: ["server"] as const,
      spkiDer: key.spkiDer,
      ...validity,
    };
    writeFileSync(join(folder, `${String(i).padStart(6, "0")}.pem`), signCertificate(authority, fields).pem);
  }
}

async function ours(folder: string, files: number, lint: boolean): Promise<number> {
  const begin = performance.now();
  let count = 0;
  for await (const found of scan([folder], { lint })) if (found.what === "certificate") count++;
  const took = performance.now() - begin;
  if (count !== files) throw new Error(`scan told ${count} certificates of ${files}`);
  return took;
}

function reference(program: string, folder: string, files: number): number {
  const [nanoseconds, count] = execFileSync(program, [folder], { encoding: "utf8" }).split(" ").map(Number);
  if (count !== files) throw new Error(`the reference told ${count} certificates of ${files}`);
  return nanoseconds! / 1e6;
}

/** A process of its own, since this one holds what made the files. */
async function peakOf(folder: string, files: number): Promise<number> {
  const code = `
    import { scan } from ${JSON.stringify(join(import.meta.dirname, "../src/scan/scan.ts"))};
    let left = ${files};
    for await (const found of scan([${JSON.stringify(folder)}])) if (--left === 0) break;
    process.stdout.write(String(process.resourceUsage().maxRSS));`;
  const kilobytes = Number(execFileSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" }));
  return Math.round(kilobytes / 1024);
}

if (import.meta.main) console.log(JSON.stringify(await benchScan(Number(process.argv[2] ?? 10_000)), null, 2));
