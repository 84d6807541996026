/** What `npm install` puts in place: packed from a copy, unpacked beside its dependencies, and run there. */
import { execFileSync } from "node:child_process";
import { cpSync, globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort, makeWorkspace } from "../../lab/estate.ts";
import { startNodeTls } from "../../lab/peers/tls-server.ts";
import { servedFingerprint } from "../../lab/witness.ts";
import { gyre } from "./fixtures/gyre-process.ts";
import { smallEstate } from "./fixtures/small-estate.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "gyre-package-"));
const copy = join(folder, "copy");
const modules = join(folder, "installed/node_modules");
const installed = join(modules, "gyre");
const script = join(installed, "bin/gyre.js");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(() => {
  mkdirSync(copy);
  for (const name of readdirSync(repository).filter((one) => !/^\.|^(?:node_modules|dist)$/.test(one)))
    cpSync(join(repository, name), join(copy, name), { recursive: true });
  symlinkSync(join(repository, "node_modules"), join(copy, "node_modules"));
  const npm = ["pack", "--silent", "--offline", "--pack-destination", folder, "--cache", join(folder, "npm")];
  const name = execFileSync("npm", npm, { cwd: copy, encoding: "utf8" }).trim();
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, name), "-C", installed, "--strip-components", "1"]);
  const { dependencies } = JSON.parse(readFileSync(join(copy, "package.json"), "utf8")) as { dependencies: object };
  for (const one of Object.keys(dependencies)) symlinkSync(join(repository, "node_modules", one), join(modules, one));
});

test("it has what runs, and neither sources nor tests", () => {
  const files = globSync("**/*.*", { cwd: installed }).sort();
  expect(files).toEqual(expect.arrayContaining(["bin/gyre.js", "dist/cli/main.js", "schema/gyre.schema.json"]));
  expect(files.filter((file) => !/^(?:bin\/|dist\/.*\.js$|schema\/|README\.md$|package\.json$)/.test(file))).toEqual(
    [],
  );
  expect(files.filter((file) => /\.(?:test|peer)\.|fixtures|conformance|testing|fake/.test(file))).toEqual([]);
  // Nothing of the packing stays where it was packed.
  expect(globSync("dist", { cwd: copy })).toEqual([]);
});

test("installed it helps, plans, rotates, and knows where all stands", async () => {
  const workspace = makeWorkspace("package");
  try {
    const home = workspace.dir;
    const pair = { certificate: workspace.path("web/tls.pem"), privateKey: workspace.path("web/tls.key") };
    const port = await freePort();
    await smallEstate(home, [{ name: "web", address: `127.0.0.1:${port}` }]);
    const server = await startNodeTls(workspace, { name: "web", port, ...pair });
    const run = (...args: string[]) => gyre(args, { cwd: home, script });
    expect(await run("--help")).toMatchObject({ code: 0, out: expect.stringContaining("Usage: gyre"), err: "" });
    expect(await run("status")).toMatchObject({ code: 0, out: expect.stringContaining("shop-tls") });
    expect(await run("plan", "shop-tls", "--now")).toMatchObject({
      code: 0,
      out: expect.stringContaining("SUPERSEDED"),
    });
    const before = await servedFingerprint(server.address, "shop.example");
    const rotated = await run("rotate", "shop-tls", "--now");
    expect(rotated.code, rotated.out + rotated.err).toBe(0);
    expect(rotated.out).toMatch(/closed +SUPERSEDED/);
    expect(await servedFingerprint(server.address, "shop.example")).not.toBe(before);
    const receipt = await run("verify", ".gyre/receipts/0.json", "--key", ".gyre/signing.pub");
    expect(receipt).toMatchObject({ code: 0, out: expect.stringMatching(/^VERIFIED/) });
    expect((await run("status")).out).toMatch(/^shop-tls +g2 .*closed SUPERSEDED/m);
  } finally {
    await workspace.end();
  }
});
