import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { connects, freePort, makeWorkspace, type Workspace } from "../../lab/estate.ts";
import { caBefore, passphrase } from "../../lab/gyre.ts";
import { fingerprintOf } from "../../lab/pki.ts";
import { accepts, servedFingerprint } from "../../lab/witness.ts";
import { verifyReceipt } from "../../src/receipt/verify.ts";

/**
 * SIGKILL before and after every append and effect of a rotation, then taken up again: the same end as without a crash,
 * one issue, nothing left half done (I7, I11). Real files, a real server process, a real kill; openssl and curl say
 * what is true at the end.
 */
const child = fileURLToPath(new URL("./child.ts", import.meta.url));
const server = fileURLToPath(new URL("../../lab/servers/node-tls.ts", import.meta.url));

function run(home: string, boundary: number, when: string): { killed: boolean; lines: string[] } {
  const ran = spawnSync(process.execPath, [child, home, String(boundary), when], { encoding: "utf8", timeout: 90_000 });
  const lines = ran.stdout.split("\n").filter((line) => line !== "");
  if (ran.signal !== "SIGKILL" && ran.status !== 0)
    throw new Error(`the child ended with ${ran.status}: ${ran.stderr}`);
  return { killed: ran.signal === "SIGKILL", lines };
}

interface Estate {
  readonly home: string;
  readonly address: string;
  readonly old: { certificate: string; privateKey: string };
  /** Everything as it was before the rotation. */
  reset(): void;
}

async function estateOf(workspace: Workspace, strategy: "replace" | "overlap"): Promise<Estate> {
  const home = workspace.folder(strategy);
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const at = (...parts: string[]) => join(home, ...parts);
  const files = at("files");
  mkdirSync(files);
  const manifest = strategy === "replace" ? await withCrl(home, files, address) : await withPins(home, files, address);
  writeFileSync(at("gyre.yaml"), manifest);
  cpSync(files, at("files-before"), { recursive: true });
  if (existsSync(at("ca"))) cpSync(at("ca"), at("ca-before"), { recursive: true });
  const trust =
    strategy === "replace"
      ? ["--ca", at("files", "ca.pem"), "--crl", at("files", "ca.crl")]
      : ["--ca", at("files", "pins.pem")];
  const running = await workspace.start({
    name: `server-${strategy}`,
    command: [
      process.execPath,
      server,
      "--listen",
      address,
      "--cert",
      at("files", "tls.pem"),
      "--key",
      at("files", "tls.key"),
      "--pid-file",
      at("server.pid"),
      ...trust,
    ],
    ready: () => connects("127.0.0.1", port),
  });
  return {
    home,
    address,
    old: { certificate: at("files-before", "tls.pem"), privateKey: at("files-before", "tls.key") },
    reset() {
      rmSync(at(".gyre"), { recursive: true, force: true });
      for (const kept of ["files", "ca"]) {
        if (!existsSync(at(`${kept}-before`))) continue;
        rmSync(at(kept), { recursive: true, force: true });
        cpSync(at(`${kept}-before`), at(kept), { recursive: true });
      }
      running.signal("SIGHUP");
    },
  };
}

async function withCrl(home: string, files: string, address: string): Promise<string> {
  const before = await caBefore(home, "CN=Crash CA");
  const g1 = await before.issue({ subject: "CN=mesh", names: ["DNS:mesh.example"], usages: ["server", "client"] });
  g1.writePem(join(files, "tls.pem"), join(files, "tls.key"));
  before.writeRoots(join(files, "ca.pem"));
  await before.writeCrl(join(files, "ca.crl"));
  const crl = `\n  crl: { lifetime: 24h, deliver: [{ files: { crl: files/ca.crl }, reload: { signal: SIGHUP, pidFile: server.pid } }] }`;
  return manifestOf(`${before.manifest}${crl}`, "", address, "crl");
}

async function withPins(home: string, files: string, address: string): Promise<string> {
  const { createSelfSigned } = await import("../../src/drivers/local-ca/self-signed.ts");
  const { selfSignedSettings } = await import("../../src/drivers/local-ca/settings.ts");
  const { exportPrivateKey, generateKey } = await import("../../src/pki/keys.ts");
  const { createCsr } = await import("../../src/pki/csr.ts");
  const key = await generateKey("P-256");
  const pem = exportPrivateKey(key);
  const settings = { directory: "issued" };
  const issuer = createSelfSigned(selfSignedSettings.parse(settings), { baseDir: home, now: () => Date.now() });
  const order = {
    subject: "CN=mesh",
    names: ["DNS:mesh.example"],
    usages: ["server", "client"] as const,
    lifetime: 86_400_000,
  };
  const step = { op: "before", tag: "before.gyre", signal: new AbortController().signal };
  const one = await issuer.issue({ ...order, csr: createCsr(key, order), key: pem }, step);
  writeFileSync(join(files, "tls.pem"), one.certificate);
  writeFileSync(join(files, "pins.pem"), one.certificate);
  pem.use((bytes) => writeFileSync(join(files, "tls.key"), bytes, { mode: 0o600 }));
  const trust = `\n  trust: [{ files: { bundle: files/pins.pem }, reload: { signal: SIGHUP, pidFile: server.pid } }]`;
  return manifestOf(`selfSigned: ${JSON.stringify(settings)}`, trust, address, "pins");
}

const manifestOf = (
  issuer: string,
  trust: string,
  address: string,
  refuses: string,
): string => `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: ca }
spec:
  ${issuer}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: mesh-tls }
spec:
  issue: { issuer: ca, subject: CN=mesh, dnsNames: [mesh.example], usages: [server, client], lifetime: 24h }
  deliver: [{ files: { certificate: files/tls.pem, privateKey: files/tls.key }, reload: { signal: SIGHUP, pidFile: server.pid } }]${trust}
  prove:
    - tls: { serverName: mesh.example, addresses: ["${address}"] }
    - mutualTls: { serverName: mesh.example, addresses: ["${address}"], refuses: ${refuses}, request: { identityHeader: x-client-serial } }
  quiet: { window: 200ms }
  timing: { patience: 5s, poll: 100ms }
`;

/** What openssl and curl see at the end, and what the journal and the receipt say of it. */
async function judge(estate: Estate, label: string): Promise<void> {
  const { home, address, old } = estate;
  const current = join(home, "files", "tls.pem");
  const served = await servedFingerprint(address, "mesh.example");
  expect(served, `${label}: served`).toBe(fingerprintOf(current));
  expect(served, `${label}: served is new`).not.toBe(fingerprintOf(old.certificate));
  const look = { name: "mesh.example" };
  const withOld = await accepts(address, old.certificate, old.privateKey, look);
  expect(withOld.saw, `${label}: the old one is refused (${JSON.stringify(withOld)})`).toBe("alert");
  const withNew = await accepts(address, current, join(home, "files", "tls.key"), look);
  expect(withNew, `${label}: the new one is accepted`).toMatchObject({ saw: "reply", status: 200 });
  const receipt = readFileSync(join(home, ".gyre", "receipts", "0.json"));
  const judgement = await verifyReceipt(receipt, {
    pin: readFileSync(join(home, ".gyre", "signing.pub"), "utf8"),
    journal: join(home, ".gyre", "credentials", "mesh-tls", "journal.jsonl"),
    evidence: join(home, ".gyre", "evidence"),
  });
  expect(judgement.problems, `${label}: receipt`).toEqual([]);
  const events = readFileSync(join(home, ".gyre", "credentials", "mesh-tls", "journal.jsonl"), "utf8");
  const issues = events.split("\n").filter((line) => line.includes('"StepDone"') && line.includes('"kind":"issue"'));
  expect(issues, `${label}: one issue`).toHaveLength(1);
  expect(events.includes(passphrase), `${label}: no passphrase in the journal`).toBe(false);
}

/** Kills at every boundary of one strategy's rotation. Minutes, since each kill is a process and each end is looked at. */
export async function killAtEveryBoundary(strategy: "replace" | "overlap"): Promise<void> {
  const workspace = makeWorkspace(`crash-${strategy}`);
  let failed = true;
  try {
    const estate = await estateOf(workspace, strategy);
    const calm = run(estate.home, -1, "before");
    expect(calm.lines.at(-1)).toBe("outcome closed REFUSED");
    await judge(estate, "without a crash");
    const boundaries = calm.lines.slice(0, -1);
    expect(boundaries.length).toBeGreaterThan(40);
    let kills = 0;
    for (let boundary = 0; boundary < boundaries.length; boundary++) {
      for (const when of ["before", "after"] as const) {
        const label = `${when} ${boundaries[boundary]}`;
        estate.reset();
        const first = run(estate.home, boundary, when);
        // Looks are repeated until they agree, so a run may have a few boundaries fewer than the calm one.
        if (first.killed) {
          kills += 1;
          const second = run(estate.home, -1, "before");
          expect(second.lines.at(-1), label).toMatch(/^outcome (closed REFUSED|nothing due)$/);
        }
        await judge(estate, label);
      }
    }
    // All but the last few (the calm run may have looked once more than the others).
    expect(kills).toBeGreaterThan(boundaries.length * 2 - 20);
    failed = false;
  } finally {
    await workspace.end({ failed });
  }
}
