import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCertificate, readCertificateLazily } from "../src/pki/certificate.ts";
import { createCsr, parseCsr } from "../src/pki/csr.ts";
import { prepareAuthority, signCertificate, signSelfSigned } from "../src/pki/issue.ts";
import { generateKey } from "../src/pki/keys.ts";
import { buildGoBench } from "../test/judges/pki/judge.ts";

/** The figures of src/pki beside Go's crypto/x509, taken one after the other in one run. */

export interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly reference: number;
  /** ours / reference: above 1 is faster than Go. */
  readonly ratio: number;
}

const DAY = 86_400_000;
const NAMES = ["DNS:shop.go.example", "DNS:*.go.example", "IP:10.1.2.3", "IP:2001:db8::1:0:0:1"];

/** Calls per second over `seconds`, after a warm-up. */
function rate(seconds: number, one: () => void): number {
  for (let i = 0; i < 2_000; i++) one();
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < seconds * 1000) {
    for (let i = 0; i < 50; i++) one();
    count += 50;
  }
  return count / ((performance.now() - start) / 1000);
}

/** P-256 leaves per second from a DER CSR: parsed, possession checked, issuer's limits checked, signed. */
export async function issueRate(seconds: number): Promise<number> {
  const now = Date.now();
  const [caKey, leafKey] = await Promise.all([generateKey("P-256"), generateKey("P-256")]);
  const fields = { subject: "CN=bench", notBefore: now - DAY, notAfter: now + 3650 * DAY, isCa: true };
  const authority = prepareAuthority(signSelfSigned(caKey, fields), caKey);
  const csr = createCsr(leafKey, { subject: "CN=shop", names: NAMES });
  return rate(seconds, () => {
    const { spkiDer, subject, names } = parseCsr(csr);
    signCertificate(authority, { spkiDer, subject, names, usages: ["server"], notBefore: now, notAfter: now + DAY });
  });
}

/** A leaf like the one the Go program parses. */
async function samplePem(): Promise<string> {
  const now = Date.now();
  const key = await generateKey("P-256");
  const ca = prepareAuthority(
    signSelfSigned(key, { subject: "CN=go root,O=Judges", notBefore: now, notAfter: now + DAY, isCa: true }),
    key,
  );
  const names = [...NAMES, "URI:spiffe://td/work", "email:a@go.example"];
  const usages = ["server", "client"] as const;
  return signCertificate(ca, {
    spkiDer: key.spkiDer,
    subject: "CN=shop",
    names,
    usages,
    notBefore: now,
    notAfter: now + DAY,
  }).pem;
}

/** PEM certificates per second, every field decoded, and the fingerprint taken. */
export async function parseRate(seconds: number): Promise<number> {
  const pem = await samplePem();
  return rate(seconds, () => void parseCertificate(pem).fingerprint);
}

/** As `parseRate` from DER, decoding only what a list shows. */
export async function lazyParseRate(seconds: number): Promise<number> {
  const { der } = parseCertificate(await samplePem());
  return rate(seconds, () => {
    const certificate = readCertificateLazily(der);
    void certificate.fingerprint;
    void certificate.subject;
    void certificate.issuer;
  });
}

/** Files per second of a directory of PEM certificates, read and parsed whole. */
export async function scanRate(dir: string): Promise<number> {
  const names = await readdir(dir);
  const start = performance.now();
  for (const name of names) void parseCertificate(readFileSync(join(dir, name)), name).fingerprint;
  return names.length / ((performance.now() - start) / 1000);
}

/**
 * All figures in one run: three rounds, ours and Go's by turns, the best of each counts, since whatever else the machine
 * does only slows a round down. `files` certificates are written to a temporary directory for the scan.
 */
export async function pkiFigures(seconds = 1, files = 10_000, rounds = 3): Promise<Figure[]> {
  const home = mkdtempSync(join(tmpdir(), "gyre-bench-"));
  try {
    const dir = join(home, "files");
    mkdirSync(dir);
    const pem = await samplePem();
    for (let i = 0; i < files; i++) writeFileSync(join(dir, `${i}.pem`), pem);
    const goBench = buildGoBench(home);
    const ours = { issue: 0, parse: 0, lazy: 0, scan: 0 };
    const go = { issue: 0, parse: 0, scan: 0 };
    for (let round = 0; round < rounds; round++) {
      ours.issue = Math.max(ours.issue, await issueRate(seconds));
      ours.parse = Math.max(ours.parse, await parseRate(seconds));
      ours.lazy = Math.max(ours.lazy, await lazyParseRate(seconds));
      ours.scan = Math.max(ours.scan, await scanRate(dir));
      const theirs = goBench(seconds, dir);
      go.issue = Math.max(go.issue, theirs.issue);
      go.parse = Math.max(go.parse, theirs.parse);
      go.scan = Math.max(go.scan, theirs.scan);
    }
    return [
      figure("local CA: P-256 leaf from a CSR", "certificates/s", ours.issue, go.issue),
      figure("parse PEM, all fields, fingerprint", "certificates/s", ours.parse, go.parse),
      figure("parse DER lazily, names and fingerprint", "certificates/s", ours.lazy, go.parse),
      figure(`scan ${files} PEM files`, "files/s", ours.scan, go.scan),
    ];
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

const figure = (name: string, unit: string, ours: number, reference: number): Figure => ({
  name,
  unit,
  ours: Math.round(ours),
  reference: Math.round(reference),
  ratio: Math.round((ours / reference) * 100) / 100,
});

if (import.meta.main) console.log(JSON.stringify(await pkiFigures(), undefined, 2));
