import { cpSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { connects, freePort, makeWorkspace, type Supervised, type Workspace } from "../../lab/estate.ts";
import { gyre, type Ran } from "../../lab/gyre.ts";
import { runCommand } from "../../lab/peers/peer.ts";
import { fingerprintOf } from "../../lab/pki.ts";
import { accepts, servedFingerprint } from "../../lab/witness.ts";
import { loadManifests } from "../../src/manifest/load.ts";
import { type Schema, violations } from "./schema-check.ts";

const repository = join(import.meta.dirname, "../..");
const examples = join(repository, "examples");

const yamls = globSync("*/*.yaml", { cwd: examples });
test("there are examples", () => expect(yamls.length).toBeGreaterThanOrEqual(4));

test.each(yamls)("%s is a valid manifest", async (file) => {
  const loaded = await loadManifests([join(examples, file)], { CA_PASSPHRASE: "x" });
  expect(loaded.credentials.length).toBeGreaterThan(0);
});

const schema = JSON.parse(readFileSync(join(repository, "schema/gyre.schema.json"), "utf8")) as Schema;
test.each(yamls)("%s fits the JSON Schema", (file) => {
  for (const document of parseAllDocuments(readFileSync(join(examples, file), "utf8")))
    expect(violations(document.toJS(), schema)).toEqual([]);
});

test.each([
  ["an unknown field", (text: string) => text.replace("lifetime: 90d", "lifetimes: 90d")],
  ["a wrong duration", (text: string) => text.replace("lifetime: 90d", "lifetime: 90 days")],
  ["two drivers at once", (text: string) => text.replace("localCA:", "selfSigned: {}\n  localCA:")],
  ["a wrong kind", (text: string) => text.replace("kind: Issuer", "kind: Isuer")],
])("the JSON Schema refuses %s", (_, spoil) => {
  const text = readFileSync(join(examples, "nginx/gyre.yaml"), "utf8");
  const spoilt = parseAllDocuments(spoil(text)).flatMap((one) => violations(one.toJS(), schema));
  expect(spoil(text)).not.toBe(text);
  expect(spoilt.length).toBeGreaterThan(0);
});

/** The example's own files in a directory of their own; only the ports are others. */
const ports = new Map<string, number>();
const servers = new Map<string, Supervised>();
let workspace: Workspace;
let failed = true;
const home = () => workspace.path("nginx");
const at = (...parts: string[]) => join(home(), ...parts);
const addressOf = (port: string) => `127.0.0.1:${ports.get(port)}`;

beforeAll(async () => {
  workspace = makeWorkspace("examples");
  cpSync(join(examples, "nginx"), home(), { recursive: true });
  for (const port of ["8441", "8442", "8443", "8444"]) ports.set(port, await freePort());
  for (const file of globSync("**/*.{conf,yaml}", { cwd: home() })) {
    const text = readFileSync(at(file), "utf8");
    writeFileSync(
      at(file),
      text.replace(/(?<=127\.0\.0\.1:)844\d/g, (port) => String(ports.get(port))),
    );
  }
  process.env.CA_PASSPHRASE = "only an example";
  await runCommand([at("before.sh")]);
  for (const [name, port] of [
    ["web-1", "8441"],
    ["web-2", "8442"],
    ["web-3", "8443"],
    ["api", "8444"],
  ] as const)
    await start(name, port);
});
afterAll(() => workspace.end({ failed }));

async function start(name: string, port: string): Promise<void> {
  const command = ["nginx", "-p", name, "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;"];
  const server = await workspace.start({
    ...{ name, command, cwd: home() },
    ready: () => connects("127.0.0.1", ports.get(port)!),
  });
  servers.set(name, server);
}

/** The commands of the README, in its order, without their comments. */
const commands = [...readFileSync(join(examples, "nginx/README.md"), "utf8").matchAll(/```sh\n([\s\S]*?)```/g)]
  .flatMap(([, block]) => block!.split("\n"))
  .map((line) => line.replace(/\s+#.*$/, ""))
  .filter((line) => line !== "");

async function run(line: string): Promise<Ran> {
  expect(commands).toContain(line);
  return gyre(home(), ...line.replace(/^npx gyre /, "").split(" "));
}

test("the README's first commands lead to two receipts, proven from outside", async () => {
  const old = { certificate: at("old.pem"), privateKey: at("old.key") };
  cpSync(at("billing/tls.pem"), old.certificate);
  cpSync(at("billing/tls.key"), old.privateKey);
  const web = ["8441", "8442", "8443"];
  const before = await servedFingerprint(addressOf("8441"), "shop.example");

  const doctor = await run("npx gyre doctor all");
  expect(doctor.code, doctor.out + doctor.err).toBe(0);
  expect(doctor.out.match(/nothing stands in the way/g)).toHaveLength(4);
  expect(doctor.out).not.toMatch(/^ {2}warn/m);
  const plan = await run("npx gyre plan shop-tls --now");
  expect(plan.code).toBe(0);
  expect(plan.out).toMatch(/grade +SUPERSEDED/);

  const shop = await run("npx gyre rotate shop-tls --now");
  expect(shop.code, shop.out + shop.err).toBe(0);
  expect(shop.out).toMatch(/adopted +3\/3 replicas present g2/);
  for (const port of web)
    expect(await servedFingerprint(addressOf(port), "shop.example")).toBe(fingerprintOf(at("web-1/tls.pem")));
  expect(fingerprintOf(at("web-1/tls.pem"))).not.toBe(before);

  const ask = (pair: typeof old) =>
    accepts(addressOf("8444"), pair.certificate, pair.privateKey, {
      roots: at("ca/ca.crt"),
      name: "api.example",
    });
  expect(await ask(old)).toMatchObject({ saw: "reply", status: 200 });
  const billing = await run("npx gyre rotate billing --now");
  expect(billing.code, billing.out + billing.err).toBe(0);
  expect(billing.out).toMatch(/closed +REFUSED/);
  expect(await ask(old)).toMatchObject({ saw: "reply", status: 400 });
  expect(await ask({ certificate: at("billing/tls.pem"), privateKey: at("billing/tls.key") })).toMatchObject({
    ...{ saw: "reply", status: 200 },
  });
});

test("its CRL, status, history, receipt and timer", async () => {
  const crl = await run("npx gyre rotate client-ca.crl --now");
  expect(crl.code, crl.out + crl.err).toBe(0);
  expect(crl.out).toContain("every place holds the new CRL");
  const status = await run("npx gyre status");
  expect(status.code).toBe(0);
  expect(status.out).toMatch(/^shop-tls +g2 .*closed SUPERSEDED/m);
  expect(status.out).toMatch(/^billing +g2 .*closed REFUSED/m);
  expect(status.out).toMatch(/^api-tls +g1 .*found in place, never rotated/m);
  expect((await run("npx gyre show billing")).out).toContain("closed REFUSED");
  const verified = await run("npx gyre verify .gyre/receipts/1.json --key .gyre/signing.pub");
  expect(verified.out).toMatch(/^VERIFIED/);
  const timer = await run("npx gyre run --wait 1m");
  expect(timer.code, timer.out + timer.err).toBe(0);
});

test("a replica that does not hear of the reload is named, and the rotation goes on once it does", async () => {
  const { pid } = servers.get("web-3")!;
  expect(readFileSync(at("web-3/nginx.pid"), "utf8").trim()).toBe(String(pid));
  servers.get("web-3")!.signal("SIGSTOP");
  const held = await run("npx gyre rotate shop-tls --now");
  expect(held.code, held.out + held.err).toBe(3);
  expect(held.out).toContain(`${addressOf("8443")} still presents g2`);
  expect(held.out).not.toContain(`${addressOf("8442")} still`);
  servers.get("web-3")!.signal("SIGCONT");
  const closed = await run("npx gyre rotate shop-tls");
  expect(closed.code, closed.out + closed.err).toBe(0);
  expect(closed.out).toMatch(/closed +SUPERSEDED/);
});

test("a replica that is down is found before anything is changed", async () => {
  await servers.get("web-3")!.stop();
  const sick = await run("npx gyre doctor shop-tls");
  expect(sick.code).toBe(3);
  expect(sick.out).toContain(`BAD   presenter ${addressOf("8443")}`);
  expect(sick.out).toContain("web-3/nginx.pid");
  expect(sick.out).not.toContain(`BAD   presenter ${addressOf("8442")}`);
  failed = false;
});
