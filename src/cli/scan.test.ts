import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { gyreHere } from "./fixtures/gyre-process.ts";

const folder = mkdtempSync(join(tmpdir(), "gyre-scan-"));
const make = (name: string, days: number): void => {
  const subject = [
    "-subj",
    `/CN=${name}.example`,
    "-addext",
    `subjectAltName=DNS:${name}.example`,
    "-addext",
    "basicConstraints=critical,CA:FALSE",
  ];
  execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      String(days),
      ...subject,
      "-keyout",
      join(folder, `${name}.key`),
      "-out",
      join(folder, `${name}.pem`),
    ],
    { stdio: "ignore" },
  );
};
make("soon", 10);
make("late", 200);

test("--days tells what expires by then, and only that", async () => {
  const { code, out } = await gyreHere(["scan", folder, "--days", "30"], folder);
  expect(code).toBe(3);
  expect(out).toContain("soon.pem:1");
  expect(out).not.toContain("late.pem:1");
  expect(out).toContain("1 within 30 d");
});

test("nothing that expires by then is nothing found", async () => {
  expect(await gyreHere(["scan", "late.pem", "--days", "30"], folder)).toMatchObject({ code: 0 });
});

test("JSON is one object a line, the sum last", async () => {
  const { out } = await gyreHere(["scan", folder, "--json"], folder);
  const lines = out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines.slice(0, -1).map((line) => line.what)).toEqual(expect.arrayContaining(["certificate", "private key"]));
  expect(lines.find((line) => line.what === "certificate")).toMatchObject({
    notAfter: expect.stringMatching(/^20\d\d-/),
  });
  expect(lines.at(-1)).toMatchObject({ sum: { certificates: 2 }, exit: expect.any(Number) });
});

test("what cannot be read leaves the question open", async () => {
  const { code, out } = await gyreHere(["scan", "late.pem", "127.0.0.1:1", "nowhere"], folder);
  expect(code).toBe(1);
  expect(out).toContain("2 could not be read");
});

test("quiet tells what needs somebody", async () => {
  writeFileSync(join(folder, "late.txt"), "");
  const { out } = await gyreHere(["-q", "scan", "late.pem"], folder);
  expect(out.split("\n").filter((line) => !/warning|error/.test(line) && line !== "").length).toBeLessThanOrEqual(1);
});

test("options of a cluster without --kubernetes are wrong use, and so is nothing to scan", async () => {
  for (const args of [[], ["--context", "prod"], ["--namespace", "shop"], ["--print-rbac"]])
    expect(await gyreHere(["scan", ...args], folder)).toMatchObject({ code: 2, out: "" });
});

test("the rights a cluster's scan needs are printed without asking anybody", async () => {
  const nobody = ["scan", "--kubernetes", "--kubeconfig", "nowhere", "--print-rbac"];
  const { code, out } = await gyreHere(nobody, folder);
  expect(code).toBe(0);
  expect(out).toContain("kind: ClusterRole\n");
  expect(new Set(out.match(/verbs: \[.*?\]/g))).toEqual(new Set(["verbs: [list]"]));
  const spaces = await gyreHere(
    [...nobody, ...["shop", "edge", "shop"].flatMap((name) => ["--namespace", name])],
    folder,
  );
  expect(spaces.out.match(/^kind: Role$/gm)).toHaveLength(3);
  expect(spaces.out).not.toContain("ClusterRole");
});

test("a kubeconfig that is not there is said before anything is asked", async () => {
  const { code, err } = await gyreHere(["scan", "--kubernetes", "--kubeconfig", "nowhere"], folder);
  expect(code).toBe(2);
  expect(err).toContain(join(folder, "nowhere"));
});
