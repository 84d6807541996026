import { chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { caBefore, gyreProgram, yamlCommand } from "../../../lab/gyre.ts";
import { type Nginx, type NginxOptions, startNginx } from "../../../lab/peers/nginx.ts";
import { runCommand } from "../../../lab/peers/peer.ts";
import { useWorkspace } from "../../../lab/testing.ts";
import type { Diagnosis } from "../api.ts";
import { openEstate } from "../estate.ts";

const workspace = useWorkspace("doctor-nginx");
let estates = 0;

interface Sick {
  readonly dir: string;
  readonly nginx: Nginx;
  examine(): Promise<readonly Diagnosis[]>;
}

/** One nginx that presents and checks one certificate, with a CRL. */
async function estate(over: Partial<NginxOptions> = {}, checksCrl = true): Promise<Sick> {
  const name = `estate-${estates++}`;
  const dir = workspace.folder(name);
  const path = (file: string) => `${dir}/${file}`;
  const ca = await caBefore(dir, "CN=Clinic CA");
  const mesh = await ca.issue({ subject: "CN=mesh", names: ["DNS:mesh.example"], usages: ["server", "client"] });
  mesh.writePem(path("tls.pem"), path("tls.key"));
  ca.writeRoots(path("ca.pem"));
  await ca.writeCrl(path("ca.crl"));
  const nginx = await startNginx(workspace, {
    ...{ name: `${name}-nginx`, certificate: path("tls.pem"), privateKey: path("tls.key"), serverName: "mesh.example" },
    ...{ clientCa: path("ca.pem"), verify: "on" },
    ...(checksCrl ? { crl: path("ca.crl") } : {}),
    ...over,
  });
  writeFileSync(
    path("gyre.yaml"),
    `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: clinic }
spec:
  ${ca.manifest}
  crl: { lifetime: 7d, deliver: [{ files: { crl: ca.crl }, reload: ${yamlCommand(nginx.reloadCommand)} }] }
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: mesh }
spec:
  issue: { issuer: clinic, subject: CN=mesh, dnsNames: [mesh.example], usages: [server, client], lifetime: 48h }
  deliver: [{ files: { certificate: tls.pem, privateKey: tls.key }, reload: ${yamlCommand(nginx.reloadCommand)} }]
  prove:
    - tls: { serverName: mesh.example, addresses: ["${nginx.address}"] }
    - mutualTls: { server: nginx, serverName: mesh.example, addresses: ["${nginx.address}"], roots: ca.pem, refuses: crl, request: { identityHeader: X-Client-Serial } }
    - accessLog: { server: nginx, path: ${nginx.accessLog}, member: "${nginx.address}" }
  quiet: { window: 1s }
`,
  );
  const examine = async () =>
    (await openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} })).doctor("mesh");
  return { dir, nginx, examine };
}

const problems = (found: readonly Diagnosis[]) =>
  found.filter(({ level }) => level === "problem" || level === "warning");

test("an nginx as it should be: nothing stands in the way", async () => {
  const { examine, nginx } = await estate();
  const found = await examine();
  expect(problems(found)).toEqual([]);
  expect(found.map(({ what }) => what)).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^accepts g1 as .*, and refuses a stranger \(nginx_/),
      `recorded our own probe of ${nginx.address}`,
      expect.stringMatching(/^presents g1/),
    ]),
  );
});

test("an nginx that names whoever comes, and turns nobody away", async () => {
  const { examine, nginx } = await estate({ verify: "optional_no_ca" }, false);
  expect(problems(await examine())).toContainEqual({
    ...{ level: "problem", about: `verifier ${nginx.address}`, what: "accepts a certificate that nobody issued" },
    next: expect.stringContaining("verify client certificates"),
  });
});

test("an nginx whose clock is too far off", async () => {
  const { examine, nginx } = await estate({ clockOffset: 780 });
  const told = problems(await examine());
  for (const about of [`presenter ${nginx.address}`, `verifier ${nginx.address}`])
    expect(told).toContainEqual(
      expect.objectContaining({
        level: "problem",
        about,
        what: expect.stringMatching(/^its clock is 1[23] min.* ahead of ours, more than/),
      }),
    );
});

test("an nginx whose clock is a little off", async () => {
  const { examine, nginx } = await estate({ clockOffset: 60 });
  const found = await examine();
  expect(problems(found)).toEqual([]);
  expect(found).toContainEqual(
    expect.objectContaining({
      level: "note",
      about: `verifier ${nginx.address}`,
      what: expect.stringMatching(/ahead of ours, within/),
    }),
  );
});

test("somebody who may not give the files their owner, and may as their owner", async () => {
  const { dir } = await estate();
  const nobody = 65_534;
  await runCommand(["chown", "-R", `${nobody}:${nobody}`, dir]);
  await runCommand(["chmod", "755", workspace.dir]);
  const doctor = () =>
    runCommand([
      "setpriv",
      `--reuid=${nobody}`,
      `--regid=${nobody}`,
      "--clear-groups",
      process.execPath,
      "bin/gyre.js",
      "-f",
      dir,
      "doctor",
      "mesh",
    ]).catch((error: Error) => error.message);
  expect(await doctor()).not.toContain("may not give it");
  chownSync(`${dir}/tls.pem`, 0, 0);
  expect(await doctor()).toContain(`tls.pem: user ${nobody} may not give it to user 0, whose it is now`);
});

test("a disk that is nearly full", async () => {
  const { dir } = await estate();
  const text = readFileSync(`${dir}/gyre.yaml`, "utf8");
  writeFileSync(
    `${dir}/gyre.yaml`,
    text.replace("certificate: tls.pem, privateKey: tls.key", "certificate: small/tls.pem, privateKey: small/tls.key"),
  );
  mkdirSync(`${dir}/small`);
  // In a mount namespace of its own, which ends with it.
  const doctor = (size: string) => {
    const script = 'mount -t tmpfs -o size="$1" none small && cp tls.pem tls.key small && exec "$2" "$3" doctor mesh';
    const command = ["unshare", "-m", "sh", "-c", `cd "$0" && ${script}`, dir, size, process.execPath, gyreProgram];
    return runCommand(command).catch((error: Error) => error.message);
  };
  expect(await doctor("256k")).toMatch(/the file system of .*small: only \d+ KiB are free/);
  const roomy = await doctor("8m");
  expect(roomy).toContain("nothing stands in the way");
});
