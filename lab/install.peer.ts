import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { buildGo, install, peers } from "./install.ts";
import { useWorkspace } from "./testing.ts";

const workspace = useWorkspace("install");
const program = join(import.meta.dirname, "install.ts");
beforeAll(async () => {
  await install();
});

describe("the installer", () => {
  it("is quiet when everything is there", () => {
    const warm = spawnSync(process.execPath, [program], { encoding: "utf8" });
    expect([warm.status, warm.stdout, warm.stderr]).toEqual([0, "", ""]);
  });

  it("knows where everything is", () => {
    for (const path of Object.values(peers())) expect(existsSync(path)).toBe(true);
    const list = spawnSync(process.execPath, [program, "--list"], { encoding: "utf8" });
    expect(list.stdout).toMatch(/^nginx +nginx version: nginx\/\d/m);
    expect(list.stdout).toMatch(/^envoy .*\/1\.40\.0\//m);
  });

  it("tells an ordinary user which command to run", () => {
    const bin = workspace.folder("bin");
    for (const folder of [workspace.dir, bin]) chmodSync(folder, 0o755);
    symlinkSync("/usr/bin/apt-get", join(bin, "apt-get"));
    const script = `
      const { install } = await import(${JSON.stringify(program)});
      if (process.getuid() === 0) { process.setgid(65534); process.setuid(65534); }
      process.env.PATH = ${JSON.stringify(bin)};
      await install().catch((problem) => console.log(problem.message));`;
    const ordinary = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    expect(ordinary.stdout).toMatch(
      /run this as root, then again:\n {2}apt-get update && apt-get install -y .*openssl curl/,
    );
  });

  it("builds a Go program once for each source", async () => {
    const cache = workspace.folder("cache");
    const source = join(import.meta.dirname, "servers", "go-tls");
    const kept = process.env.GYRE_CACHE;
    process.env.GYRE_CACHE = cache;
    try {
      const built = await buildGo(source);
      expect(await buildGo(source)).toBe(built);
      expect(readdirSync(join(cache, "go"))).toHaveLength(1);
      expect(spawnSync(built, ["-h"], { encoding: "utf8" }).stderr).toContain("honour-old");
    } finally {
      if (kept === undefined) delete process.env.GYRE_CACHE;
      else process.env.GYRE_CACHE = kept;
    }
  });
});
