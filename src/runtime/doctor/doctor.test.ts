import { chmodSync, copyFileSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeWorkspace, processesOf, type Workspace, waitFor } from "../../../lab/estate.ts";
import { caBefore, type PairBefore } from "../../../lab/gyre.ts";
import { type NodeTls, startNodeTls } from "../../../lab/peers/tls-server.ts";
import type { Diagnosis } from "../api.ts";
import { openEstate } from "../estate.ts";

const day = 86_400_000;

let workspace: Workspace;
let servers: NodeTls[];
let before: Awaited<ReturnType<typeof caBefore>>;
let first: PairBefore;
let manifest: string;
/** What the doctor says of the estate as it was made: the control of every case. */
let well: readonly Diagnosis[];
const path = (...parts: string[]) => workspace.path(...parts);
const places = ["a", "b"];

/** Two servers that present and check one certificate, with a CRL; every check has something to look at, and all is well. */
beforeAll(async () => {
  workspace = makeWorkspace("doctor");
  // Made a day ago, so that there is room for what lapsed since.
  await caBefore(workspace.dir, "CN=Clinic CA", {}, day);
  before = await caBefore(workspace.dir, "CN=Clinic CA");
  first = await pair(before, ["DNS:mesh.example", "DNS:old.example"]);
  for (const name of places) {
    workspace.folder(name);
    first.writePem(path(name, "tls.pem"), path(name, "tls.key"));
    before.writeRoots(path(name, "ca.pem"));
  }
  await before.writeCrl(...places.map((name) => path(name, "ca.crl")));
  servers = await Promise.all(places.map((name) => serve(name, path(name, "ca.pem"), path(name, "ca.crl"))));
  manifest = manifestOf(before.manifest);
  well = await examine();
});
afterAll(() => workspace.end());

const pair = (ca: typeof before, names: string[]) =>
  ca.issue({ subject: "CN=mesh", names, usages: ["server", "client"], lifetime: 2 * day });

const serve = (name: string, clientCa?: string, crl?: string) =>
  startNodeTls(workspace, {
    ...{ name, certificate: path("a", "tls.pem"), privateKey: path("a", "tls.key") },
    ...(clientCa === undefined ? {} : { clientCa }),
    ...(crl === undefined ? {} : { crl }),
    ...(places.includes(name) ? { certificate: path(name, "tls.pem"), privateKey: path(name, "tls.key") } : {}),
  });

function manifestOf(localCa: string): string {
  const reload = (name: string) => `reload: { signal: SIGHUP, pidFile: ${name}/server.pid }`;
  const addresses = servers.map(({ address }) => address).join(", ");
  return `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: clinic }
spec:
  ${localCa}
  crl:
    lifetime: 7d
    deliver:
${places.map((name) => `      - files: { crl: ${name}/ca.crl }\n        ${reload(name)}`).join("\n")}
---
apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: mesh }
spec:
  issue: { issuer: clinic, subject: CN=mesh, dnsNames: [mesh.example, old.example], usages: [server, client], lifetime: 48h }
  renew: { after: 66% }
  deliver:
${places.map((name) => `    - files: { certificate: ${name}/tls.pem, privateKey: ${name}/tls.key }\n      ${reload(name)}`).join("\n")}
  prove:
    - tls: { serverName: mesh.example, addresses: [${addresses}] }
    - mutualTls: { serverName: mesh.example, addresses: [${addresses}], roots: a/ca.pem, refuses: crl, request: { identityHeader: x-client-serial } }
${servers.map(({ name, address }) => `    - accessLog: { server: nginx, path: ${name}/access.log, member: "${address}" }`).join("\n")}
  quiet: { window: 1s }
  timing: { patience: 5s, poll: 200ms }
`;
}

/** The doctor's word on a manifest that differs in these texts. */
async function examine(changes: readonly (readonly [string, string])[] = [], name = "mesh"): Promise<Diagnosis[]> {
  let text = manifest;
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`the manifest has no ${from}`);
    text = text.replaceAll(from, to);
  }
  writeFileSync(path("gyre.yaml"), text);
  const estate = await openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} });
  return [...(await estate.doctor(name))];
}

const bad = (found: readonly Diagnosis[]) => found.filter(({ level }) => level === "problem" || level === "warning");
const matching = (found: readonly Diagnosis[], level: Diagnosis["level"], about: string, what: RegExp) =>
  found.filter((one) => one.level === level && one.about.startsWith(about) && what.test(one.what));

/** Puts files aside, and gives the way back. */
function aside(...files: string[]): () => void {
  for (const file of files) copyFileSync(path(file), path(`${file}.aside`));
  return () => {
    for (const file of files) renameSync(path(`${file}.aside`), path(file));
  };
}

test("a whole estate: nothing stands in the way, and every check has spoken", async () => {
  const found = well;
  expect(bad(found)).toEqual([]);
  const said = (about: string) => found.filter((one) => one.about.startsWith(about)).map(({ what }) => what);
  expect(said("issuer clinic")).toEqual(["answers as CN=Clinic CA"]);
  expect(said("CRL clinic.crl")).toEqual([expect.stringContaining("next due")]);
  expect(said("target ").filter((what) => /^holds [0-9a-f]{8} with its key, .* left$/.test(what))).toHaveLength(2);
  expect(said("trust store ")).toEqual([0, 1].map(() => expect.stringContaining("its CRL lists 0, and holds until")));
  expect(said("reload of target")).toEqual(
    servers.map(({ process }) => expect.stringMatching(`^sends SIGHUP to pid ${process.pid} \\(`)),
  );
  expect(said("presenter ")).toEqual([0, 1].map(() => expect.stringMatching(/^presents g1, .* left$/)));
  expect(said("verifier ").filter((what) => /^accepts g1 as .*, and refuses a stranger/.test(what))).toHaveLength(2);
  expect(said("sensor ")).toEqual(servers.map(({ address }) => `recorded our own probe of ${address}`));
  expect(said("grade")).toEqual([expect.stringContaining("REFUSED")]);
  expect(found.every(({ level, next }) => level === "ok" || level === "note" || next !== undefined)).toBe(true);
});

interface Case {
  readonly name: string;
  /** Breaks it; gives the way back. */
  readonly harm?: () => (() => void | Promise<void>) | Promise<() => void | Promise<void>>;
  readonly changes?: () => readonly (readonly [string, string])[];
  readonly level?: Diagnosis["level"];
  readonly about: string;
  readonly what: RegExp;
}

/** A CA of its own in `directory`, so many days old. */
async function otherCa(
  directory: string,
  settings: Record<string, unknown>,
  age = 0,
): Promise<readonly [string, string]> {
  const ca = await caBefore(workspace.dir, "CN=Other CA", { directory, ...settings }, age);
  return [before.manifest, ca.manifest];
}
let swap: readonly [string, string];
const withCa = (settings: Record<string, unknown>, age = 0, directory = "other") => ({
  harm: async () => {
    swap = await otherCa(directory, settings, age);
    return () => rmSync(path(directory), { recursive: true });
  },
  changes: () => [swap],
});
let extra: NodeTls;
/** Another server in the place of the second one as a verifier. */
const another = (clientCa?: () => string) => ({
  harm: async () => {
    extra = await serve("extra", clientCa?.());
    return () => extra.stop();
  },
  changes: () =>
    [
      [
        `addresses: [${servers.map(({ address }) => address).join(", ")}], roots`,
        `addresses: [${servers[0]!.address}, ${extra.address}], roots`,
      ],
      [`    - accessLog: { server: nginx, path: b/access.log, member: "${servers[1]!.address}" }\n`, ""],
    ] as const,
});

const cases: readonly Case[] = [
  {
    name: "a wrong passphrase",
    changes: () => [["loopback only, nothing secret", "wrong"]],
    about: "issuer clinic",
    what: /passphrase/,
  },
  {
    name: "a passphrase that everybody reads",
    harm: () => {
      writeFileSync(path("open"), "loopback only, nothing secret\n", { mode: 0o644 });
      return () => rmSync(path("open"));
    },
    changes: () => [['"passphrase":"loopback only, nothing secret"', "passphrase: { file: open }"]],
    about: "CA passphrase ",
    what: /mode 0644 lets every user of the host read it/,
  },
  {
    name: "a passphrase that is not there",
    changes: () => [['"passphrase":"loopback only, nothing secret"', "passphrase: { file: nowhere }"]],
    about: "CA passphrase ",
    what: /there is no such file/,
  },
  {
    name: "a key store password that everybody reads",
    harm: () => {
      writeFileSync(path("open"), "a store password\n", { mode: 0o644 });
      return () => rmSync(path("open"));
    },
    changes: () => [
      [
        "certificate: b/tls.pem, privateKey: b/tls.key",
        "certificate: b/tls.pem, privateKey: b/tls.key, keystore: { path: b/tls.p12, password: { file: open } }",
      ],
    ],
    about: "key store password ",
    what: /mode 0644 lets every user/,
  },
  {
    name: "a CA that expired",
    ...withCa({ lifetime: "30d" }, 40 * day),
    about: "issuer clinic",
    what: /its CA "CN=Other CA" expired/,
  },
  {
    name: "a CA that ends before what it signs",
    ...withCa({ lifetime: "30d" }, 29 * day),
    about: "issuer clinic",
    what: /lives 23 h .*and 2 d are wanted/,
  },
  {
    name: "a CA that ends before the one after",
    ...withCa({ lifetime: "30d" }, 27 * day),
    level: "warning",
    about: "issuer clinic",
    what: /not for the one after/,
  },
  {
    name: "a CA whose verifiers with slow clocks do not trust it yet",
    ...withCa({ backdate: "1m" }),
    level: "note",
    about: "issuer clinic",
    what: /behind does not trust it yet/,
  },
  {
    name: "names that the CA may not sign",
    ...withCa({ permitted: { dns: ["elsewhere.example"] } }, day),
    about: "issuer clinic",
    what: /may not sign .*mesh.example is outside/,
  },
  {
    name: "names that a CA to be created may not sign",
    changes: () => [
      [before.manifest, "localCA: { directory: new, passphrase: x, permitted: { dns: [elsewhere.example] } }"],
    ],
    about: "issuer clinic",
    what: /may not sign .*mesh.example is outside/,
  },
  {
    name: "a CRL that lapsed",
    harm: async () => {
      const mend = aside("a/ca.crl", "b/ca.crl");
      const late = await caBefore(workspace.dir, "CN=Clinic CA", { crlLifetime: "1h" }, 7_200_000);
      await late.writeCrl(path("a", "ca.crl"), path("b", "ca.crl"));
      return mend;
    },
    about: "CRL clinic.crl",
    what: /expired .*refuse everybody/,
  },
  {
    name: "one place with a CRL that lapsed",
    harm: async () => {
      const mend = aside("b/ca.crl");
      await (await caBefore(workspace.dir, "CN=Clinic CA", { crlLifetime: "1h" }, 7_200_000)).writeCrl(
        path("b", "ca.crl"),
      );
      return mend;
    },
    about: "trust store ",
    what: /its CRL of "CN=Clinic CA" expired/,
  },
  {
    name: "a CRL with our CA's name and another's signature",
    harm: async () => {
      const mend = aside("b/ca.crl");
      await (await caBefore(workspace.dir, "CN=Clinic CA", { directory: "forger" })).writeCrl(path("b", "ca.crl"));
      return mend;
    },
    about: "trust store ",
    what: /has the name of "CN=Clinic CA" but not its signature/,
  },
  {
    name: "a place without a CRL",
    harm: () => {
      const mend = aside("b/ca.crl");
      rmSync(path("b", "ca.crl"));
      return mend;
    },
    level: "warning",
    about: "trust store ",
    what: /holds no CRL of "CN=Clinic CA"/,
  },
  {
    name: "a directory that is not there",
    changes: () => [
      ["certificate: b/tls.pem, privateKey: b/tls.key", "certificate: nowhere/tls.pem, privateKey: nowhere/tls.key"],
    ],
    about: "target ",
    what: /no such file or directory/,
  },
  {
    name: "a link that somebody else made",
    harm: () => {
      const mend = aside("b/tls.pem");
      rmSync(path("b", "tls.pem"));
      symlinkSync(path("a", "tls.pem"), path("b", "tls.pem"));
      return () => {
        rmSync(path("b", "tls.pem"));
        mend();
      };
    },
    about: "target ",
    what: /is a symbolic link to/,
  },
  {
    name: "a target that holds something else",
    harm: () => {
      const mend = aside("b/tls.pem");
      writeFileSync(path("b", "tls.pem"), "nonsense\n");
      return mend;
    },
    about: "target ",
    what: /holds no certificate that can be read/,
  },
  {
    name: "targets that differ",
    harm: async () => {
      const mend = aside("b/tls.pem", "b/tls.key");
      (await pair(before, ["DNS:mesh.example"])).writePem(path("b", "tls.pem"), path("b", "tls.key"));
      return mend;
    },
    about: "in place",
    what: /hold different certificates/,
  },
  {
    name: "a key of another certificate",
    harm: async () => {
      const mend = aside("a/tls.key", "b/tls.key");
      (await pair(before, ["DNS:mesh.example"])).writePem(path("scrap.pem"), path("a", "tls.key"));
      copyFileSync(path("a", "tls.key"), path("b", "tls.key"));
      return mend;
    },
    about: "target ",
    what: /private key that is not the certificate's own/,
  },
  {
    name: "a certificate without its key",
    harm: () => {
      const mend = aside("a/tls.key");
      rmSync(path("a", "tls.key"));
      return mend;
    },
    about: "target ",
    what: /without a private key/,
  },
  {
    name: "a key that everybody reads",
    harm: () => {
      chmodSync(path("a", "tls.key"), 0o644);
      return () => chmodSync(path("a", "tls.key"), 0o600);
    },
    about: "target ",
    what: /mode 0644 lets every user/,
  },
  {
    name: "a chain without its intermediate",
    harm: async () => {
      const mend = aside("a/tls.pem", "a/tls.key", "b/tls.pem", "b/tls.key");
      swap = await otherCa("middle", { intermediate: true });
      const ca = await caBefore(workspace.dir, "CN=Other CA", { directory: "middle", intermediate: true });
      const one = await pair(ca, ["DNS:mesh.example", "DNS:old.example"]);
      for (const name of places) {
        one.writePem(path(name, "tls.pem"), path(name, "tls.key"));
        writeFileSync(path(name, "tls.pem"), one.certificate);
      }
      return () => {
        mend();
        rmSync(path("middle"), { recursive: true });
      };
    },
    changes: () => [swap],
    about: "target ",
    what: /its chain does not hold/,
  },
  {
    name: "a certificate of another CA",
    ...withCa({}, day),
    level: "warning",
    about: "target ",
    what: /holds one of "CN=Clinic CA"; the next will be of "CN=Other CA"/,
  },
  {
    name: "a name that is lost",
    changes: () => [["dnsNames: [mesh.example, old.example]", "dnsNames: [mesh.example]"]],
    level: "warning",
    about: "target ",
    what: /no longer be for DNS:old.example/,
  },
  {
    name: "a validate command that is not there",
    changes: () => [
      ["privateKey: b/tls.key }\n", "privateKey: b/tls.key }\n      validate: { command: [no-such-program] }\n"],
    ],
    about: "reload of ",
    what: /validate command `no-such-program`: there is no such program/,
  },
  {
    name: "a reload command that is not there",
    changes: () => [["{ signal: SIGHUP, pidFile: b/server.pid }", "{ command: [no-such-program] }"]],
    about: "reload of ",
    what: /no such program on PATH/,
  },
  {
    name: "a reload command that may not be executed",
    changes: () => [["{ signal: SIGHUP, pidFile: b/server.pid }", "{ command: [./gyre.yaml] }"]],
    about: "reload of ",
    what: /may not be executed/,
  },
  {
    name: "a pid file of a process that is gone",
    harm: () => {
      const mend = aside("b/server.pid");
      writeFileSync(path("b", "server.pid"), "4194303\n");
      return mend;
    },
    about: "reload of ",
    what: /no process has pid 4194303/,
  },
  {
    name: "no reload at all",
    changes: () => [["      reload: { signal: SIGHUP, pidFile: b/server.pid }\n  prove", "  prove"]],
    level: "warning",
    about: "reload of target",
    what: /nothing tells its process/,
  },
  {
    name: "a replica that is down",
    harm: async () => {
      await servers[1]!.stop();
      return () => servers[1]!.start();
    },
    about: "presenter ",
    what: /refused/,
  },
  {
    name: "replicas that were not told of what is stored",
    harm: async () => {
      const mend = aside("a/tls.pem", "a/tls.key", "b/tls.pem", "b/tls.key");
      const one = await pair(before, ["DNS:mesh.example", "DNS:old.example"]);
      for (const name of places) one.writePem(path(name, "tls.pem"), path(name, "tls.key"));
      return mend;
    },
    about: "presenter ",
    what: /presents something else than .* holds/,
  },
  {
    name: "a replica of a service that has nothing stored yet",
    changes: () => [
      ["tls.pem, privateKey", "new.pem, privateKey"],
      ["tls.key }", "new.key }"],
    ],
    about: "presenter ",
    what: /no target of the manifest holds any/,
  },
  {
    name: "a server name that the certificate does not have",
    changes: () => [
      ["dnsNames: [mesh.example, old.example]", "dnsNames: [mesh.example, old.example, new.example]"],
      ["tls: { serverName: mesh.example", "tls: { serverName: new.example"],
    ],
    about: "presenter ",
    what: /new\.example/,
  },
  {
    ...withCa({}, day),
    name: "a server name that a certificate of another CA does not have",
    changes: () => [
      swap,
      ["dnsNames: [mesh.example, old.example]", "dnsNames: [mesh.example, old.example, new.example]"],
      ["tls: { serverName: mesh.example", "tls: { serverName: new.example"],
    ],
    about: "presenter ",
    what: /which is not for new\.example but for DNS:mesh\.example/,
  },
  {
    name: "fewer replicas than there must be",
    changes: () => [["    - tls: { serverName: mesh.example,", "    - tls: { serverName: mesh.example, replicas: 3,"]],
    about: "tls mesh.example",
    what: /3 replicas expected, 2 addresses found/,
  },
  {
    name: "a verifier whose answer does not depend on the credential",
    ...another(),
    about: "verifier ",
    what: /answer does not depend on the credential/,
  },
  {
    name: "a verifier that trusts another CA",
    ...another(() => {
      caBefore(workspace.dir, "CN=Third CA", { directory: "third" });
      copyFileSync(path("forger", "ca.crt"), path("third.pem"));
      return path("third.pem");
    }),
    about: "verifier ",
    what: /refuses g1, which is in use \(.*unknown_ca/,
  },
  {
    name: "a log that is not there",
    changes: () => [["path: b/access.log", "path: b/no.log"]],
    about: "sensor ",
    what: /cannot be read \(ENOENT\)/,
  },
  {
    name: "a log of another server",
    changes: () => [["path: b/access.log", "path: a/access.log"]],
    about: "sensor ",
    what: /did not record our own probe/,
  },
  {
    name: "a window that comes too seldom",
    changes: () => [
      ["renew: { after: 66% }", 'renew: { after: 66%, window: { days: [sun], from: "02:00", to: "04:00" } }'],
    ],
    about: "policy",
    what: /finds no window/,
  },
  {
    name: "a quiet window shorter than what is declared",
    changes: () => [["quiet: { window: 1s }", "quiet: { window: 1s, connectionAge: 10s }"]],
    level: "warning",
    about: "quiet",
    what: /shorter than 1.25 x connectionAge/,
  },
  {
    name: "nothing declared of sessions",
    changes: () => [["  quiet: { window: 1s }\n", ""]],
    level: "warning",
    about: "verifier ",
    what: /lets sessions be resumed/,
  },
];

for (const { name, harm, changes, level = "problem", about, what } of cases) {
  test(`${name} is told`, async () => {
    expect(matching(well, level, about, what)).toEqual([]);
    const mend = await harm?.();
    try {
      const found = await examine(changes?.());
      const told = matching(found, level, about, what);
      expect(told.length, JSON.stringify(found, null, 1)).toBeGreaterThan(0);
      expect(told.every(({ next }) => next !== undefined && next !== "")).toBe(true);
    } finally {
      await mend?.();
    }
  });
}

test("what a rotation leaves behind is looked at too", async () => {
  // Every harm above was undone.
  expect(bad(await examine())).toEqual([]);
  const open = () => openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} });
  const rotated = await (await open()).rotate("mesh", { now: true, waitUpTo: 30_000, runner: "test" });
  expect(rotated).toMatchObject({ result: "closed", grade: "REFUSED" });
  const after = await examine();
  expect(bad(after)).toEqual([]);
  expect(matching(after, "ok", "presenter ", /^presents g2/)).toHaveLength(2);
  expect(matching(after, "ok", "journal", /entries, whole/)).toHaveLength(1);

  const key = aside(".gyre/secrets/mesh/g2.key.enc");
  rmSync(path(".gyre/secrets/mesh/g2.key.enc"));
  expect(matching(await examine(), "problem", "secrets", /private key of g2 is not in the secret store/)).toHaveLength(
    1,
  );
  key();
  chmodSync(path(".gyre/store.key"), 0o644);
  expect(matching(await examine(), "problem", "secrets", /store.key: others than its owner/)).toHaveLength(1);
  chmodSync(path(".gyre/store.key"), 0o600);
  const journal = aside(".gyre/credentials/mesh/journal.jsonl");
  const file = path(".gyre/credentials/mesh/journal.jsonl");
  writeFileSync(file, readFileSync(file, "utf8").replace("asked for by hand", "asked for by nobody"));
  const damaged = await examine();
  expect(matching(damaged, "problem", "journal", /journal/)).toHaveLength(1);
  expect(matching(damaged, "ok", "target ", /holds/)).toHaveLength(2);
  journal();
  expect(bad(await examine())).toEqual([]);
});

test("another runner is noted, and one that is stopped is a problem", async () => {
  const at = path(".gyre", "credentials", "mesh", "lock");
  expect((await examine()).some(({ about }) => about === "lock")).toBe(false);
  const holder = await workspace.start({
    name: "holder",
    command: ["flock", "-o", at, "sleep", "600"],
    ready: async () => (await examine()).some(({ about }) => about === "lock"),
  });
  const busy = await examine();
  expect(matching(busy, "note", "lock", /is rotating it now/)).toHaveLength(1);
  expect(bad(busy)).toEqual([]);
  for (const pid of processesOf(holder)) process.kill(pid, "SIGSTOP");
  await waitFor(
    "the holder to be stopped",
    async () => matching(await examine(), "problem", "lock", /is stopped/).length > 0,
  );
  await holder.kill();
  expect((await examine()).some(({ about }) => about === "lock")).toBe(false);
});

test("old generations that are still accepted are counted, and a life of many periods is told", async () => {
  const serverOnly = manifest
    .replace(/ {4}- mutualTls: .*\n/g, "")
    .replace(/ {4}- accessLog: .*\n/g, "")
    .replace("name: mesh", "name: front");
  const kept = manifest;
  manifest = serverOnly;
  try {
    expect(bad(await examine([], "front"))).toEqual([]);
    const estate = await openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} });
    const rotated = await estate.rotate("front", { now: true, waitUpTo: 30_000, runner: "test" });
    expect(rotated).toMatchObject({ result: "closed", grade: "SUPERSEDED" });
    const found = await examine([], "front");
    expect(matching(found, "warning", "outstanding", /1 old generation is still accepted/)).toHaveLength(1);
    expect(matching(found, "warning", "outstanding", /valid at once/)).toHaveLength(0);
    const often = await examine([["renew: { after: 66% }", "renew: { every: 6h }"]], "front");
    expect(matching(often, "warning", "outstanding", /about 8 are valid at once/)).toHaveLength(1);
  } finally {
    manifest = kept;
  }
});

test("with the log of another server the quiet of this one is not vouched for, whatever that log shows", async () => {
  await examine([["path: b/access.log", "path: a/access.log"]]);
  const options = { now: true, waitUpTo: 30_000, runner: "test", by: "test", reason: "test" };
  const open = () => openEstate({ manifests: [path("gyre.yaml")], stateDirectory: path(".gyre"), env: {} });
  expect(await (await open()).rotate("mesh", options)).toMatchObject({
    result: "held",
    stage: "quiet",
    reasons: [{ verdict: "unknown", what: expect.stringContaining("did not record our own probe") }],
  });
  expect(await (await open()).revert("mesh", options)).toMatchObject({ result: "put back", failed: false });
});
