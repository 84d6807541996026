import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openEvidence } from "./evidence.ts";

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-evidence-"));
});
afterAll(() => rmSync(home, { recursive: true }));

const pathOf = (digest: string) => join(home, "sha256", digest.slice(7, 9), digest.slice(9));

describe("evidence by digest", () => {
  it("is named as sha256sum names it, once, and comes back", async () => {
    const evidence = openEvidence(home);
    const digest = await evidence.put("seen\n");
    expect(execFileSync("sha256sum", [pathOf(digest)], { encoding: "utf8" }).slice(0, 64)).toBe(digest.slice(7));
    const { ino } = statSync(pathOf(digest));
    expect(await evidence.put(Buffer.from("seen\n"))).toBe(digest);
    expect(statSync(pathOf(digest)).ino).toBe(ino);
    expect((await openEvidence(home).get(digest)).toString()).toBe("seen\n");
    expect((await evidence.get(await evidence.put(""))).length).toBe(0);
  });

  it("changed in one byte is refused, and healed by the next put", async () => {
    const evidence = openEvidence(home);
    const digest = await evidence.put("original");
    writeFileSync(pathOf(digest), "originaL");
    await expect(evidence.get(digest)).rejects.toMatchObject({ code: "damaged", where: pathOf(digest) });
    await evidence.put("original");
    expect((await evidence.get(digest)).toString()).toBe("original");
  });

  it("absent, or asked for by a wrong name, is an input error", async () => {
    const evidence = openEvidence(home);
    const unknown = `sha256:${"0".repeat(64)}`;
    await expect(evidence.get(unknown)).rejects.toMatchObject({
      code: "input",
      message: expect.stringContaining(unknown),
    });
    for (const name of ["", "sha256:../../../etc/passwd", `sha256:${"A".repeat(64)}`, `sha256:${"a".repeat(63)}/`]) {
      await expect(evidence.get(name)).rejects.toMatchObject({ code: "input" });
    }
  });

  it("put by many at once is one whole file and leaves nothing else", async () => {
    const large = "x".repeat(1_000_000);
    const digests = await Promise.all(Array.from({ length: 10 }, () => openEvidence(home).put(large)));
    expect(new Set(digests).size).toBe(1);
    expect(readFileSync(pathOf(digests[0]!), "utf8")).toBe(large);
    expect(readdirSync(join(home, "sha256", digests[0]!.slice(7, 9)))).toHaveLength(1);
  });

  it("is for everybody to read", async () => {
    const digest = await openEvidence(home).put("public");
    expect(statSync(pathOf(digest)).mode & 0o444).toBe(0o444);
    chmodSync(pathOf(digest), 0o644);
  });
});
