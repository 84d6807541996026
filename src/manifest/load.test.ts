import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { GyreError } from "../errors.ts";
import { Secret } from "../pki/secret.ts";
import { checkManifests, checkSources, loadManifests } from "./load.ts";
import type { CredentialManifest, Manifests } from "./manifest.ts";
import { sourceOf } from "./source.ts";

const root = mkdtempSync(join(tmpdir(), "gyre-manifest-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(root, "t-"));
});

const issuer = `apiVersion: gyre.dev/v1alpha1
kind: Issuer
metadata: { name: lab-root }
spec:
  localCA: { directory: ca, passphrase: "\${PASSPHRASE}" }
  crl:
    deliver: [ { files: { crl: ca.crl }, reload: { command: [nginx, -s, reload] } } ]
`;
const credential = (name: string, more = "") => `apiVersion: gyre.dev/v1alpha1
kind: Credential
metadata: { name: ${name} }
spec:
  issue: { issuer: lab-root, dnsNames: [shop.example], ipAddresses: [10.0.0.1], uris: ["spiffe://x/y"], emails: [a@x.example], usages: [server, client], lifetime: 1d12h }
  renew: { after: 66%, windows: [ { from: "02:00", to: "24:00", zone: Europe/Berlin } ], freezes: [ { from: 2026-12-20, to: 2026-12-24T18:00 } ] }
  deliver: [ { files: { certificate: ${name}.pem, privateKey: ${name}.key }, validate: { command: [nginx, -t] }, reload: { watch: true } } ]
  prove:
    - tls: { serverName: shop.example, addresses: ["10.0.0.1:443"] }
    - mutualTls: { serverName: api.example, addresses: ["10.0.0.2:443"], refuses: crl }
    - accessLog: { path: access.log, server: nginx, member: "10.0.0.2:443" }
${more}`;
const environment = { PASSPHRASE: "correct horse" };

function write(name: string, text: string | Buffer): string {
  const path = join(folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, text);
  return path;
}

function understood(text: string): Manifests {
  const checked = checkSources([sourceOf("shop.yaml", text, "/etc/gyre")], environment);
  if (!checked.ok) throw new Error(inspect(checked.problems));
  return checked.manifests;
}
const one = (text: string): CredentialManifest => understood(`${issuer}---\n${text}`).credentials.at(-1)!;

describe("what a manifest means", () => {
  test("a certificate with everything said", () => {
    const { where: _, ...shop } = one(credential("shop"));
    expect(shop).toMatchObject({
      name: "shop",
      file: "shop.yaml",
      baseDir: "/etc/gyre",
      kind: "certificate",
      issuer: "lab-root",
      request: {
        kind: "certificate",
        subject: "CN=shop",
        names: ["DNS:shop.example", "IP:10.0.0.1", "URI:spiffe://x/y", "email:a@x.example"],
        usages: ["server", "client"],
        algorithm: "P-256",
        lifetime: 129_600_000,
      },
      renew: {
        after: 0.66,
        windows: [{ from: "02:00", to: "24:00", zone: "Europe/Berlin" }],
        freezes: [{ from: "2026-12-20", to: "2026-12-24T18:00", zone: "UTC" }],
      },
      strategy: "replace",
      revoke: true,
      quiet: {},
      timing: { patience: 30_000, poll: 1000, freshness: 600_000, skew: 600_000, attempts: 5 },
    });
    expect(shop.targets).toMatchObject([
      {
        driver: "files",
        role: "target",
        path: ["spec", "deliver", 0],
        settings: {
          certificate: "shop.pem",

          validate: { command: ["nginx", "-t"] },
          reload: { watch: true },
        },
      },
    ]);
    expect(shop.presenters.map((p) => p.key)).toEqual(["tls"]);
    expect(shop.verifiers.map((v) => v.settings.refuses)).toEqual(["crl"]);
    expect(shop.sensors.map((s) => s.settings.member)).toEqual(["10.0.0.2:443"]);
  });

  test("an issuer's CRL is a credential with a due date of its own", () => {
    const { issuers, credentials } = understood(issuer);
    expect(issuers[0]).toMatchObject({ name: "lab-root", crl: "lab-root.crl", driver: { driver: "local-ca" } });
    expect(credentials[0]).toMatchObject({
      name: "lab-root.crl",
      kind: "crl",
      issuer: "lab-root",
      request: { kind: "crl", lifetime: 604_800_000 },
      renew: { after: 0.5 },
    });
    expect(credentials[0]!.trustStores).toMatchObject([{ role: "trustStore", settings: { crl: "ca.crl" } }]);
  });

  test("a CRL that a revocation publishes lives as long as the manifest's own", () => {
    const crlLifetime = (text: string) => understood(text).issuers[0]!.driver.settings;
    const daily = issuer.replace("  crl:\n", "  crl:\n    lifetime: 24h\n");
    expect(crlLifetime(daily)).toMatchObject({ crlLifetime: 86_400_000 });
    const without = issuer.split("  crl:\n")[0]!.replace("passphrase:", "crlLifetime: 3d, passphrase:");
    expect(crlLifetime(without)).toMatchObject({ crlLifetime: 3 * 86_400_000 });
  });

  test("pins select the overlap strategy, and what refuses decides whether to revoke", () => {
    const pinned = credential("shop", "  trust: [ { files: { bundle: pins.pem } } ]\n").replace(
      "refuses: crl",
      "refuses: pins",
    );
    expect(one(pinned)).toMatchObject({ strategy: "overlap", revoke: true });
    expect(one(credential("shop").replace(", refuses: crl", ""))).toMatchObject({ strategy: "replace", revoke: false });
    expect(one(credential("shop", "  revoke: false\n"))).toMatchObject({ revoke: false });
  });

  test("a field can be found again, or the nearest part around it", () => {
    const shop = one(credential("shop"));
    expect(shop.where(["spec", "issue", "issuer"])).toBe("shop.yaml:13:20");
    expect(shop.where(["spec", "issue", "subject"])).toBe("shop.yaml:13:3");
    expect(understood(issuer).credentials[0]!.where(["spec", "crl", "deliver", 0])).toBe("shop.yaml:7:16");
  });

  test("`$${` stands for `${`, and a lone dollar for itself", () => {
    const name = "{PASSPHRASE}";
    const text = credential("shop").replace("access.log", () => `'$$${name}/$x/$${name}'`);
    expect(one(text).sensors[0]!.settings.path).toBe(`$${name}/$x/correct horse`);
  });

  test("anchors and aliases are followed", () => {
    const text = credential("shop")
      .replace("certificate: shop.pem", "certificate: &p shop.pem")
      .replace("path: access.log", "path: *p");
    expect(one(text).sensors[0]!.settings.path).toBe("shop.pem");
  });

  test("what is wrong in an anchored part is told once, however often it is used", () => {
    const text = credential("shop")
      .replace('["10.0.0.1:443"]', '&a ["10.0.0.1"]')
      .replace('addresses: ["10.0.0.2:443"]', "addresses: *a");
    const checked = checkSources([sourceOf("a.yaml", `${issuer}---\n${text}`)], environment);
    expect(checked.ok || checked.problems.map((p) => p.line)).toEqual([17]);
  });

  test("a passphrase or password reaches the driver, but neither a print nor a serialisation", () => {
    const store = (kind: string) => `{ files: { ${kind}: { path: ${kind}, password: "battery staple" } } }`;
    const shop = credential("shop", `  trust: [ ${store("truststore")} ]\n`)
      .replace("deliver: [", `deliver: [ ${store("keystore")},`)
      .replace("refuses: crl", "refuses: pins");
    const manifests = understood(`${issuer}---\n${shop}`);
    const { settings } = manifests.issuers[0]!.driver;
    const { targets, trustStores } = manifests.credentials.at(-1)!;
    const [target, trust] = [targets[0]!, trustStores[0]!];
    const held = [
      "passphrase" in settings && settings.passphrase,
      "keystore" in target.settings && target.settings.keystore?.password,
      "truststore" in trust.settings && trust.settings.truststore?.password,
    ];
    expect(held.map((one) => one instanceof Secret && one.use(String))).toEqual([
      ...["correct horse", "battery staple", "battery staple"],
    ]);
    const said = [inspect(manifests, { depth: 9, showHidden: true }), JSON.stringify(manifests), `${held}`];
    for (const text of said) expect(text).not.toMatch(/correct horse|battery staple/);
    expect(said[1]).toContain('"directory":"ca"');
    expect(manifests.environment.map((value) => value.use(String))).toEqual(["correct horse"]);
  });
});

describe("which files are read", () => {
  test("directories recursively, sorted, names with a dot and other endings passed over", async () => {
    write("b/two.yml", credential("two"));
    write("a.yaml", issuer);
    write("b/.hidden.yaml", "not: ours");
    write("b/..2026/three.yaml", credential("three"));
    write("b/notes.txt", "not: ours");
    const { credentials } = await loadManifests([folder], environment);
    expect(credentials.map((c) => [c.name, c.baseDir])).toEqual([
      ["lab-root.crl", folder],
      ["two", join(folder, "b")],
    ]);
  });

  test("a mounted ConfigMap, whose files are links into a hidden directory", async () => {
    write("..2026_11_24/shop.yaml", `${issuer}---\n${credential("shop")}`);
    symlinkSync("..2026_11_24", join(folder, "..data"));
    symlinkSync("..data/shop.yaml", join(folder, "shop.yaml"));
    const { issuers, credentials } = await loadManifests([folder], environment);
    expect(issuers).toHaveLength(1);
    expect(credentials.at(-1)!.baseDir).toBe(folder);
  });

  test("a file that is named twice, and a directory that links to itself", async () => {
    const path = write("d/shop.yaml", `${issuer}---\n${credential("shop")}`);
    // Two of them: followed, they would be 2^40 directories deep before the system refuses.
    symlinkSync("..", join(folder, "d", "loop"));
    symlinkSync(".", join(folder, "d", "self"));
    const { issuers } = await loadManifests([path, folder, join(folder, "d")], environment);
    expect(issuers).toHaveLength(1);
  });

  test("names are unique and references are checked across files", async () => {
    write("a.yaml", issuer);
    write("b.yaml", credential("shop"));
    write("c.yaml", credential("shop").replaceAll("shop.pem", "c.pem").replaceAll("shop.key", "c.key"));
    const checked = await checkManifests([folder], environment);
    expect(checked.ok || checked.problems.map((p) => p.message)).toEqual([
      `there is another Credential shop, at ${join(folder, "b.yaml")}:3:19`,
    ]);
    const alone = await checkManifests([join(folder, "b.yaml")], environment);
    expect(alone.ok || alone.problems.map((p) => p.message)).toEqual(['there is no Issuer named "lab-root"']);
  });

  test("whatever cannot be read is named beside the problems of what can", async () => {
    write("empty/readme.txt", "");
    symlinkSync("nowhere", join(folder, "dangling.yaml"));
    write("latin.yaml", Buffer.from("name: caf\xe9", "latin1"));
    write("large.yaml", "#".repeat(1024 * 1024 + 1));
    write("wrong.yaml", "kind: Issuer");
    const checked = await checkManifests([join(folder, "gone"), join(folder, "empty"), folder], environment);
    expect(checked.ok || checked.problems.map((p) => [p.file.slice(folder.length + 1), p.message])).toEqual([
      ["gone", "no such file or directory"],
      ["empty", "no *.yaml or *.yml file in this directory"],
      ["dangling.yaml", "no such file or directory"],
      ["large.yaml", "larger than a manifest can be (1048577 bytes, at most 1048576)"],
      ["latin.yaml", "not UTF-8 text"],
      ["wrong.yaml", "apiVersion is missing: this is no document of Gyre"],
    ]);
  });

  test("one error for all of it, with the first place and what to do", async () => {
    const path = write("wrong.yaml", "kind: Issuer");
    const error = await loadManifests([path], {}).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(GyreError);
    expect(error).toMatchObject({ code: "manifest", where: `${path}:1:1`, retry: "never" });
  });
});

describe("what is meant to hurt", () => {
  const messages = (text: string) => {
    const checked = checkSources([sourceOf("a.yaml", text)], environment);
    return checked.ok ? [] : checked.problems.map((p) => p.message);
  };

  test("thirty thousand aliases cost no quadratic search", () => {
    const aliases = Array(30_000).fill("*a").join(", ");
    expect(messages(`apiVersion: &a gyre.dev/v1alpha1\nkind: Issuer\nspec: [${aliases}]\n`).length).toBeGreaterThan(0);
  });

  test("a bomb of aliases ends early", () => {
    const levels = Array.from(
      { length: 30 },
      (_, i) => `  l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(", ")}]`,
    );
    const text = `apiVersion: gyre.dev/v1alpha1\nkind: Issuer\nmetadata: { name: a }\nspec:\n  l0: &l0 [x]\n${levels.join("\n")}\n`;
    expect(messages(text)).toContain("too many values in one file (an alias counts each time)");
  });

  test("nesting ends early, whether the YAML reader bears it or not", () => {
    expect(messages(`a: ${"[".repeat(100)}${"]".repeat(100)}`)).toContain("nested too deeply");
    expect(messages("[".repeat(200_000)).join()).toMatch(/nested too deeply|not valid YAML/);
  });

  test("an alias that contains itself", () => {
    expect(messages("a: &a [*a]")).toContain("an alias that contains itself");
  });

  test("forty thousand unknown keys cost no quadratic search", () => {
    const keys = Array.from({ length: 40_000 }, (_, i) => `k${i}: 1`).join("\n");
    expect(messages(`apiVersion: gyre.dev/v1alpha1\nkind: Issuer\n${keys}\n`).length).toBeGreaterThan(0);
  });

  test("`__proto__` is a field like any other unknown one", () => {
    expect(messages("apiVersion: gyre.dev/v1alpha1\nkind: Issuer\n__proto__: { a: 1 }\n")).toContain(
      "unknown field `__proto__`",
    );
  });
});
